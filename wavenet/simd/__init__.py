"""Building blocks of compiled code for the CPU: numba with vectors of 16 floats.

    compiling   compilation of kernels, and their cache
    announcing  a log line before a kernel is compiled
    kernel_cache  compiled kernels on disk, in a folder of the user's own
    registers   16 floats as one value of the compiled language
    alignment   arrays that begin at a cache line
    memory      loads and stores at any address, as float32 or bfloat16
    functions   exp, tanh, and the gate tanh . sigmoid

All import numba; nothing imports them before compiled code is needed. Kernels: the sampling loop
(``engines.cpu.kernels``), feed-forward networks (``processing.kernel``) and the training window
(``training.window``).
"""

from __future__ import annotations

import importlib.util


def has_compiler() -> bool:
    """Return true if numba is installed."""
    return importlib.util.find_spec("numba") is not None
