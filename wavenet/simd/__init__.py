"""The language in which compiled code for the CPU is written: numba, and 16 floats as one value.

    compiling   how kernels are compiled, and kept between runs
    announcing  a line before one is compiled
    kernel_cache  what is kept, in a folder of the user's own
    registers   16 floats as one value of the compiled language
    memory      the same from and to any address, as float32 or bfloat16
    functions   exp, and the gate tanh . sigmoid

All import numba; nothing imports them before compiled code is asked for. What is written in it:
the sampling loop (``engines.cpu.kernels``), feed-forward networks (``processing.kernel``) and the
training window (``training.window``).
"""

from __future__ import annotations

import importlib.util


def has_compiler() -> bool:
    """Whether numba is installed."""
    return importlib.util.find_spec("numba") is not None
