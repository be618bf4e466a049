"""Numbers in text, as an option, a query or a manifest gives them: ASCII digits, and nothing else.

Python's ``int`` and ``float`` take more: ``1_0`` is 10 to them, and so are spaces around it and the
digits of every script. What was mistyped would pass for another number.
"""

from __future__ import annotations

import re

_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(
    r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|infinity|nan)", re.IGNORECASE
)
_MOST_DIGITS = 4000
"""Python converts few more."""


def is_integer_text(text: str) -> bool:
    """Return true for an integer, however large."""
    return _INTEGER.fullmatch(text) is not None


def integer_of(text: str, most: int) -> int | None:
    """Return the integer; None for another text, and where its size is above ``most``."""
    if not is_integer_text(text) or len(text) > _MOST_DIGITS:
        return None
    found = int(text)
    return found if abs(found) <= most else None


def number_of(text: str) -> float | None:
    """Return the number, which may be infinite or NaN; None for another text."""
    return float(text) if _NUMBER.fullmatch(text) else None
