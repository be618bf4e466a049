"""Standard output and standard error of a command, which may be closed, full or not read.

Python sets ``sys.stdout`` to None where descriptor 1 is closed, and the next file that is opened
gets that descriptor: what a library then prints would land in it. A stream that takes no more
raises at the last ``flush``, after the command has ended. All that a command prints goes through
``print_result`` and ``print_message``, and ``flush_streams`` sees to the end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TextIO

from wavenet.cli.log_format import OneLine, printable_lines
from wavenet.values.text import printable


def open_closed_descriptors() -> None:
    """Open ``os.devnull`` where descriptor 0, 1 or 2 is closed; a closed standard error is quiet.

    ``sys.stdout`` stays None where standard output was closed: the answer has nowhere to go.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _point_to_null(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process


def print_result(text: str) -> None:
    """Print lines on standard output, written out where they would control a terminal.

    Raises:
        OSError: if standard output takes no more.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    shown = printable_lines(text).encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(f"{shown}\n")
    sys.stdout.flush()


def print_message(line: str) -> None:
    """Print one line on standard error; where that takes no more, it is lost."""
    with contextlib.suppress(OSError, ValueError), _beside_bars():  # ValueError: it is closed
        sys.stderr.write(f"{printable(line)}\n")
        sys.stderr.flush()


def _beside_bars() -> contextlib.AbstractContextManager[object]:
    """Take progress bars off the terminal meanwhile, if there are any."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        return contextlib.nullcontext()
    around: contextlib.AbstractContextManager[object] = tqdm.tqdm.external_write_mode(sys.stderr)
    return around


class MessageHandler(logging.Handler):
    """Prints what the package reports while it works, such as files that were left out."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(OneLine())

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message of a record."""
        print_message(self.format(record))


def flush_streams() -> None:
    """Flush both streams; one that takes no more is given up, or Python would try again at exit.

    Raises:
        OSError: if standard output takes no more.
    """
    _flush(sys.stderr, raising=False)
    _flush(sys.stdout, raising=True)


def give_up() -> None:
    """Flush both streams, and lose what they do not take."""
    for stream in (sys.stderr, sys.stdout):
        _flush(stream, raising=False)


def _flush(stream: TextIO | None, *, raising: bool) -> None:
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        assert stream is not None
        _point_to_null(stream.fileno())
        if raising:
            raise
    except ValueError:  # it is closed
        pass


def _point_to_null(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
