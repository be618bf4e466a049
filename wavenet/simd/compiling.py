"""Compilation of kernels, with a cache between runs.

Compiling the loop takes seconds, loading it from numba's cache a fraction of one. Numba's cache
detects a change of a function's own file, but not of the files it calls into: so the fingerprint of
all kernel sources is part of the key. Without a suitable folder (``kernel_cache``) kernels are
compiled in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.extending import intrinsic

from wavenet.simd.announcing import announce
from wavenet.simd.kernel_cache import KernelCache, kernel_folder, report

instruction: Any = intrinsic
"""Decorator that makes an operation of the compiled language from a generator of LLVM code. It is
Any, as kernels call the operation with other arguments than the generator has."""

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a kernel that is inlined into each kernel that calls it."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)


def outlined(function: Callable[..., Any]) -> Any:
    """Compile a kernel that is not inlined, to keep the loop small."""
    return numba.njit(**_OPTIONS)(function)


def cached(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls, and cache it on disk where that is possible.

    The function must have ``sources_fingerprint(__file__)`` in a closure, as numba's cache key
    includes the contents of closures. A log line precedes its compilation.
    """
    announce(function)
    kernel = numba.njit(**_OPTIONS)(function)
    try:
        kernel._cache = KernelCache(function)  # what njit(cache=True) sets, with numba's own class
    except (RuntimeError, OSError) as error:
        report("kept", kernel_folder(), error)
    return kernel


def sources_fingerprint(file: str = __file__, *others: str) -> str:
    """Return a digest of all files in this folder and in that of ``file``, and of other files.

    It is part of the key of a compiled kernel: other sources have another key.
    """
    digest = hashlib.sha256()
    for other in others:
        digest.update(Path(other).read_bytes())
    for folder in sorted({Path(__file__).parent, Path(file).parent}):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
