"""One thread for what is too small to share.

A frame's conditioning, a row's first state and a hop of refinement take torch a few milliseconds.
Shared between threads they take longer wherever other work keeps a core busy, and sums are rounded
otherwise: what is generated would depend on the number of cores.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Let torch use n threads for what this thread does within this block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within this block, or within the function that it decorates."""
    with threads(1):
        yield
