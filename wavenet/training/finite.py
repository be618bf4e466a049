"""Check for diverged training: numbers that are infinite or NaN."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every number in them is finite; each device is waited for once."""
    answers: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        answers.setdefault(tensor.device, []).append(tensor.isfinite().all())
    return all(bool(torch.stack(found).all()) for found in answers.values())
