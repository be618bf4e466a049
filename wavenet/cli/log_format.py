"""The format of log messages: one message is one line, whatever the name of a file contains."""

from __future__ import annotations

import logging

from wavenet.values.text import printable


def printable_lines(text: str) -> str:
    """Return the text with the control characters of each of its lines written out."""
    return "\n".join(map(printable, text.split("\n")))


class OneLine(logging.Formatter):
    """Formatter that shows every message as one printable line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message of a record."""
        return printable(super().format(record))
