"""Text from files, made safe for a terminal and for one line."""

from __future__ import annotations

import re
import reprlib

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # ASCII's and Latin-1's: line breaks, and what begins an escape sequence
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # line breaks and directions of Unicode
    "\ud800-\udfff]"  # half a character, which no terminal can be sent
)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def printable(line: str) -> str:
    r"""Return the line with its control characters escaped: a line break becomes ``\n``."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], line)


def short(value: object) -> str:
    """Return the ``repr`` of a value from a file for a message: truncated, and on one line."""
    return printable(_SHORT.repr(value))
