"""Lines for people: one message is one line, whatever stands in the name of a file.

Names of files, tags and metadata come from anywhere. A terminal obeys the control characters in
them (ANSI escape sequences move the cursor, set its title, or hide text), and a line break would
make two messages of one. So all output of the command line passes through ``printable``.
"""

from __future__ import annotations

import logging
import re

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # the direction of writing
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff]"  # bytes of a name that is not UTF-8, which cannot be encoded
)


def printable(line: str) -> str:
    r"""The line with its control characters written out: a name's line break becomes ``\n``."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], line)


def printable_lines(text: str) -> str:
    """The text with the control characters of each of its lines written out."""
    return "\n".join(map(printable, text.split("\n")))


class OneLine(logging.Formatter):
    """Shows every message as one printable line."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record."""
        return printable(super().format(record))
