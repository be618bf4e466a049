"""File object that libsndfile writes to by Python callbacks, which must not be interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from io import FileIO
from types import FrameType
from typing import Any

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Sink:
    """File object that keeps the error of a failed write, which libsndfile hides.

    Attributes:
        refusal: the first error, or None.
    """

    def __init__(self, raw: FileIO) -> None:
        self.refusal: OSError | None = None
        self._raw = raw
        self.tell, self.readinto = raw.tell, raw.readinto

    def write(self, data: bytes) -> int:
        """Write all bytes, or as many as the system accepts; return their number."""
        done = 0
        try:
            while done < len(data):  # a nearly full disk accepts a part before it fails
                done += self._raw.write(data[done:])
        except OSError as error:
            self.refusal = self.refusal or error
        return done

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position; return it."""
        return self._raw.seek(offset, whence)


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Defer Python's handlers of SIGINT, SIGTERM and SIGHUP to the end of the block.

    An exception that a handler raises within a callback from C would be printed and lost. In other
    threads than the main one no handler runs, and nothing is deferred.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []
    handlers: dict[int, Any] = {}
    try:
        for number in _SIGNALS:
            if callable(handler := signal.getsignal(number)):
                handlers[number] = handler
                signal.signal(number, lambda number, frame: arrived.append((number, frame)))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number, frame in arrived[:1]:
            handlers[number](number, frame)
