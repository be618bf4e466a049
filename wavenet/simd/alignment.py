"""Arrays that begin at a cache line: a register that spans two lines takes two loads."""

from __future__ import annotations

import numpy as np

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]

_CACHE_LINE = 64


def aligned_zeros(n: int, dtype: np.dtype[np.generic]) -> Array:
    """Return zeros ``[n]`` from the beginning of a cache line on."""
    n_bytes = n * dtype.itemsize
    raw = np.zeros(n_bytes + _CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    return raw[start : start + n_bytes].view(dtype)


def aligned(values: np.ndarray) -> np.ndarray:
    """Return a one-dimensional array, or a copy of it that begins at a cache line."""
    if values.ctypes.data % _CACHE_LINE == 0:
        return values
    copy = aligned_zeros(len(values), values.dtype)
    copy[:] = values
    return copy
