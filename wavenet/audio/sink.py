"""A file as libsndfile writes to it: through Python callbacks, which must not be interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import IO, Any

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Sink:
    """Keeps the system's reason for a refused write, which libsndfile hides.

    Attributes:
        refusal: the first one, or None.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self.refusal: OSError | None = None
        self._raw = raw
        self.tell, self.readinto = raw.tell, raw.readinto  # type: ignore[attr-defined]

    def write(self, data: bytes) -> int:
        """Write all of it, or as much as the system takes; how many bytes that were."""
        done = 0
        try:
            while done < len(data):  # a nearly full disk takes a part, and then refuses
                done += self._raw.write(data[done:])
        except OSError as error:
            self.refusal = self.refusal or error
        return done

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position; return it."""
        return self._raw.seek(offset, whence)


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let Python's handlers of SIGINT, SIGTERM and SIGHUP run when the block has ended.

    An exception that a handler raises within a callback from C would be printed and lost.
    Elsewhere than in the main thread, where no handler runs, it changes nothing.
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
