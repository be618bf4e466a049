"""The most memory that some work takes at a time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(work: Callable[[], object], device: torch.device) -> int | None:
    """Rise of memory above what is in use before, in bytes: of the process, or of the GPU.

    None where it is unknown: on a CPU, it is known on Linux.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    _give_back()
    try:
        _RESET.write_text("5")  # the peak begins anew
        begin = _kilobytes("VmRSS")
        work()
        return max(0, _kilobytes("VmHWM") - begin) * 1024
    except OSError:
        return None


def _give_back() -> None:
    """Let the C library return what it keeps of freed memory, where it knows how."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _kilobytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise OSError(f"{_STATUS} has no {name}")
