"""Definitions that the parts of ``wavenet doctor`` share."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

Values = dict[str, Any]
"""Results of a part, as JSON can hold them."""


class Missing(Exception):
    """A part that cannot run, as a package or a device is missing; the message names it."""


@dataclass(frozen=True)
class Part:
    """One part of the report.

    Attributes:
        title: of the part in tables.
        seconds: how long it may take on a GPU, as a share of all parts.
        measure: the work. It yields its results so far whenever there are more of them: the last
            ones count, also of a part that fails or runs out of time.
    """

    title: str
    seconds: float
    measure: Callable[[torch.device], Iterator[Values]]


def require(*packages: str) -> None:
    """Raise Missing unless packages are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise Missing(f"needs {', '.join(missing)}; pip install 'wavenet-audio[train]'")


def is_short(device: torch.device) -> bool:
    """Return whether a measure is shortened: a CPU runs the parts, a GPU is measured by them."""
    return device.type == "cpu"


def engine_names(device: torch.device) -> list[str]:
    """Names of the engines that a device may run."""
    return ["eager", "cpu"] if device.type == "cpu" else ["eager", "gpu", "gpu-fused"]


def attempt(work: Callable[[], Values]) -> Values:
    """Return the results of some work, or what it raised, so that other work goes on.

    Refusals of an engine and missing packages are ``refused``, everything else is a failure. The
    traceback of a failure goes to standard error.
    """
    try:
        return work()
    except (ValueError, ModuleNotFoundError) as error:
        return {"refused": first_line(error)}
    except Exception as error:  # noqa: BLE001 - compilers and drivers have types of their own
        traceback.print_exc(file=sys.stderr)
        return {"raised": f"{type(error).__name__}: {first_line(error)}", "passed": False}


def within(error: float, tolerance: float) -> Values:
    """Return an error, and whether it is at most the tolerance; NaN is not."""
    return {"error": error, "passed": error <= tolerance}


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, which names it."""
    lines = str(error).strip().splitlines() or ["no message"]
    return lines[0][:500]
