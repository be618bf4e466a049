"""Text from files, made safe for a terminal and for one line."""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(line: str) -> str:
    r"""Return the line with its control characters escaped: a line break becomes ``\n``."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], line)
