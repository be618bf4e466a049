"""Signals that end a command: what is half-written is removed, and no traceback is shown.

Ctrl-C (SIGINT), SIGTERM, as clusters and services send it, and SIGHUP, which a terminal sends when
it closes, unwind the program: ``KeyboardInterrupt`` or ``SystemExit`` is raised, and every ``with``
and ``finally`` does its work. A signal that is ignored, as SIGHUP is under nohup, stays so.

Within an import nothing may be raised: libraries catch what is raised there, report it in lines of
their own and go on without what they could not load. As long as no file is half-written the process
ends there at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from wavenet.storage.files import has_unfinished

INTERRUPTED = 130
"""Exit code after ctrl-C: 128 and the number of the signal."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
"""Signals that ask a program to end; Windows has no SIGHUP."""

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"


@contextlib.contextmanager
def unwound_by_signals() -> Iterator[None]:
    """Within this block ``SIGNALS`` unwind the program, so that half-written files are removed.

    SIGINT raises ``KeyboardInterrupt``; the others raise ``SystemExit`` with 128 and the number of
    the signal. Elsewhere than in the main thread, which alone may handle signals, it changes
    nothing.
    """
    before = _set_handlers(_unwind)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_at_once() -> None:
    """Let ``SIGNALS`` end the process at once: where nothing has begun, or all is done."""
    _set_handlers(_exit)


def _set_handlers(handler: signal._HANDLER) -> dict[int, signal._HANDLER]:
    """Set the handler of each signal that is not ignored; returns the handlers before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # None: a handler that was not set by Python, which could not be put back
    changed = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in changed:
        signal.signal(number, handler)
    return dict(changed)


def _unwind(number: int, frame: FrameType | None) -> None:
    if _is_importing(frame) and not has_unfinished():
        _exit(number, frame)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _exit(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether any of the calls that led here is an import."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
