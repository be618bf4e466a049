"""How kernels are compiled, and kept between runs.

Compiling the loop takes seconds, loading it from numba's cache a fraction of one. Two things need
care. Numba's cache notices a change of the file that a function stands in, but not of the files it
calls into: the fingerprint of all kernel sources is therefore part of the key. And where no folder
is fit to keep kernels (``kernel_cache``), they are compiled in memory.
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
"""Makes an operation of the compiled language out of a generator of LLVM code. Kernels call it with
other arguments than Python would, which its own type does not know."""

_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}


def inlined(function: Callable[..., Any]) -> Any:
    """A kernel that becomes part of each kernel that calls it."""
    return numba.njit(forceinline=True, **_OPTIONS)(function)


def outlined(function: Callable[..., Any]) -> Any:
    """A kernel that is called: for what would only bloat the loop."""
    return numba.njit(**_OPTIONS)(function)


def cached(function: Callable[..., Any]) -> Any:
    """A kernel that Python calls, kept on disk where that is possible.

    The function must hold ``sources_fingerprint(__file__)`` in a closure: numba counts the contents
    of a closure to the key of what it keeps. Before it is compiled, a line says so.
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

    It is part of the key of what is compiled: other sources, another key.
    """
    digest = hashlib.sha256()
    for other in others:
        digest.update(Path(other).read_bytes())
    for folder in sorted({Path(__file__).parent, Path(file).parent}):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
