"""Lines for people: one message is one line, whatever stands in the name of a file."""

from __future__ import annotations

import logging
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(line: str) -> str:
    r"""The line with its control characters written out: a name's line break becomes ``\n``."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], line)


class OneLine(logging.Formatter):
    """Shows every message as one printable line."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record."""
        return printable(super().format(record))
