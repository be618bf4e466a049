"""Bytes that a run of a network takes, counted as it runs; a limit to them, and its refusal.

``Tally`` sees every operation below autograd and keeps the sum of the storages that are alive,
whoever holds them: the code of the network, or autograd for its backward pass. On the meta device
storages have a size and take no memory, so one run there tells how much a real run needs.
"""

from __future__ import annotations

import ctypes
import re
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

LARGEST_BYTES = 1_500_000_000
"""Largest size of the tensors of one measurement: with torch, a process stays below 2 GB."""

_TRIM_EVERY = 200_000_000
"""Bytes that are allocated between two calls of ``_give_back``."""

_SHORTAGE = re.compile(r"can't allocate memory|not enough memory|out of memory", re.IGNORECASE)
_ALLOCATION = re.compile(r"allocate (\d+) bytes", re.IGNORECASE)


class TooLarge(ValueError):
    """A measurement needs more memory than it may take.

    Attributes:
        n_bytes: that it needs, as far as is known.
    """

    def __init__(self, n_bytes: int, message: str | None = None) -> None:
        super().__init__(message or f"needs {gigabytes(n_bytes)}")
        self.n_bytes = n_bytes


def gigabytes(n_bytes: int) -> str:
    """Return a number of bytes in words, with the exact number where it is small."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes} bytes"


def limit_bytes() -> int:
    """Return how many bytes a measurement may take: ``LARGEST_BYTES``, or less if less is free."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return LARGEST_BYTES
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return min(LARGEST_BYTES, 820 * int(found[1])) if found else LARGEST_BYTES


def shortage(error: BaseException) -> TooLarge | None:
    """Convert an out-of-memory error of torch or Python to ``TooLarge``; None for other errors."""
    if isinstance(error, TooLarge):
        return error
    text = str(error)
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _SHORTAGE.search(text):
        return None
    asked = _ALLOCATION.search(text)
    return TooLarge(int(asked[1]) if asked else limit_bytes())


def _give_back() -> None:
    """Return free memory between used blocks to the system, where the C library can (glibc).

    Its allocator does not reuse aligned blocks of a long forward pass: a chain of 200 blocks took
    90 times the memory that was alive.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


class Tally(TorchDispatchMode):
    """Counts the bytes of all storages that operations under it have made and that are alive.

    Args:
        limit: bytes at which ``TooLarge`` is raised; None only counts.

    Attributes:
        live: bytes now.
        peak: the largest number so far.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.live = self.peak = self._made = 0
        self._limit = limit
        self._known: dict[int, Any] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler for this mode, which takes seconds."""
        return False

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one operation and count what it has made."""
        result = function(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            if storage._cdata not in given:  # else a view of it, or it was changed in place
                self._count(storage)
        self.peak = max(self.peak, self.live)
        if self._made > _TRIM_EVERY:
            self._made = 0
            _give_back()
        if self._limit is not None and self.live > self._limit:
            raise TooLarge(self.live)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            n_bytes = storage.nbytes()
            self.live += n_bytes
            self._made += 0 if storage.device.type == "meta" else n_bytes
            self._known[key] = weakref.ref(storage, lambda _: self._forget(key, n_bytes))

    def _forget(self, key: int, n_bytes: int) -> None:
        self.live -= n_bytes
        self._known.pop(key, None)


def _storages(value: Any) -> list[torch.UntypedStorage]:
    if isinstance(value, Tensor):
        return [value.untyped_storage()]
    if isinstance(value, tuple | list):
        return [storage for part in value for storage in _storages(part)]
    return (
        [s for part in value.values() for s in _storages(part)] if isinstance(value, dict) else []
    )
