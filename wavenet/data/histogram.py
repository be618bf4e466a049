"""Histogram of 16-bit samples over the classes of mu-law."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from wavenet.distributions import mu_law_encode

CLASSES = 256
"""Classes of mu-law in which samples are counted."""


def value_counts(samples: np.ndarray) -> np.ndarray:
    """Count the values -32768 to 32767 in int16 samples ``[T]``; returns int64 ``[65536]``."""
    counts: np.ndarray = np.bincount(samples.astype(np.int64) + 32768, minlength=65536)
    return counts


def class_counts(parts: Iterable[np.ndarray], classes: int = CLASSES) -> Tensor:
    """Count the int16 samples ``[T]`` of all parts in each class; returns float64 ``[classes]``."""
    counts = np.zeros(65536)
    for samples in parts:
        counts += value_counts(samples)
    return to_classes(counts, classes)


def to_classes(counts: np.ndarray, classes: int = CLASSES) -> Tensor:
    """Sum the counts of values ``[65536]`` in each class; returns float64 ``[classes]``."""
    codes = mu_law_encode(torch.arange(-32768, 32768) / 32768, classes)
    found = torch.zeros(classes, dtype=torch.float64)
    return found.index_add(0, codes, torch.from_numpy(counts.astype(np.float64)))
