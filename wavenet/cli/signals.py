"""A polite end: SIGTERM, as clusters and services send it, unwinds like ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

TERMINATED = 143
"""Exit code after SIGTERM: 128 and the number of the signal."""


@contextlib.contextmanager
def unwound_by_sigterm() -> Iterator[None]:
    """Within this block SIGTERM raises ``SystemExit``, so that half-written files are removed.

    Elsewhere than in the main thread, which alone may handle signals, it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
