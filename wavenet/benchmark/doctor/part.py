"""What the parts of ``wavenet doctor`` share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


class Missing(Exception):
    """A part that cannot run, as a package or a device is missing; the message says which."""


@dataclass(frozen=True)
class Part:
    """One part of the report.

    Attributes:
        title: for people.
        seconds: how long it may take on a GPU, as a share of all parts.
        measure: the work.
    """

    title: str
    seconds: float
    measure: Callable[[torch.device], dict[str, Any]]


def require(*packages: str) -> None:
    """Raise Missing unless packages are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise Missing(f"needs {', '.join(missing)}; pip install 'wavenet-audio[train]'")


def is_short(device: torch.device) -> bool:
    """Return whether a measure is shortened: a CPU runs the parts, a GPU is measured by them."""
    return device.type == "cpu"
