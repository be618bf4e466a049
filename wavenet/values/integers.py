"""Sizes, counts and quantities: numbers of every library, one-element tensors too; bool is none.

``True`` counts as 1 in Python, but where a number is asked for it is a mistake, so it is refused.
"""

from __future__ import annotations

import math
import operator
from typing import Any, TypeGuard

from wavenet.values.text import short


def is_integer(value: Any) -> TypeGuard[int]:
    """Return true for an integer of any library: a value with ``__index__`` that is no bool."""
    if _is_bool(value):
        return False
    try:
        operator.index(value)
    except TypeError:  # also what a tensor of several elements, or of floats, raises
        return False
    return True


def _is_bool(value: Any) -> bool:
    """Return true for a bool of Python, numpy or torch, whose tensors pass for integers."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")


def is_number(value: Any) -> bool:
    """Return true for a real number of any library, NaN and infinity too; no bool and no text."""
    if _is_bool(value) or isinstance(value, str | bytes | bytearray):
        return False
    try:
        float(value)
    except OverflowError:  # an integer that no float can hold
        return True
    except (TypeError, ValueError, RuntimeError):  # also what several elements raise
        return False
    return True


def fits_float(value: Any) -> bool:
    """Return true for a finite number that fits into a float, integers included."""
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an integer that no float can hold
        return False


def as_integer(name: str, value: Any, *, least: int = 1) -> int:
    """Return the value as Python's int.

    Args:
        name: of the argument, for the message.
        value: of any integer type.
        least: smallest value that is accepted.

    Raises:
        ValueError: for anything else, a bool, or a smaller number.
    """
    if not is_integer(value) or value < least:
        raise ValueError(f"{name}={short(value)} must be an integer of at least {least}")
    return operator.index(value)
