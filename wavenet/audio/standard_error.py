"""Suppression of messages that a C library prints to standard error."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

_FILE_DESCRIPTOR = 2
_lock = threading.Lock()
_depth = 0
_kept: int | None = None


@contextlib.contextmanager
def silenced_standard_error() -> Iterator[None]:
    """Discard writes to file descriptor 2 within the block, by any thread.

    libmpg123 reports damaged MP3 frames there, several lines per frame. Relevant errors are raised
    as exceptions, so nothing is lost. Blocks may overlap in several threads.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth, _kept
    with _lock:
        _depth += 1
        if _depth > 1:
            return
        try:
            _kept = os.dup(_FILE_DESCRIPTOR)
        except OSError:  # closed already: nothing to silence
            _kept = None
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _FILE_DESCRIPTOR)
        os.close(nowhere)


def _leave() -> None:
    global _depth, _kept
    with _lock:
        _depth -= 1
        if _depth or _kept is None:
            return
        os.dup2(_kept, _FILE_DESCRIPTOR)
        os.close(_kept)
        _kept = None
