"""Lines for people: one message is one line, whatever stands in the name of a file."""

from __future__ import annotations

import logging
import re

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # ASCII's and Latin-1's: line breaks, and what begins an escape sequence
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line breaks and directions of Unicode
    "\ud800-\udfff]"  # half a character, which no terminal can be sent
)


def printable(line: str) -> str:
    r"""The line with its control characters written out: a name's line break becomes ``\n``."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], line)


def printable_lines(text: str) -> str:
    """Return the text with the control characters of each of its lines written out."""
    return "\n".join(map(printable, text.split("\n")))


class OneLine(logging.Formatter):
    """Shows every message as one printable line."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record."""
        return printable(super().format(record))
