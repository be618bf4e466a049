"""Checked values of untrusted JSON: of the right type and within bounds, or an error of one line.

Python's own conversions are too permissive: ``int("3")``, ``bool`` as a number, ``nan`` as a size.
"""

from __future__ import annotations

from typing import Any

from wavenet.values.text import short as shortened

MAX_INTEGER = 1 << 31
_REQUIRED = object()


class FormatError(ValueError):
    """Raised for an invalid ``.nam`` file; the message is one line.

    >>> Path("amp.nam").write_text("no JSON")
    7
    >>> read_nam("amp.nam")
    Traceback (most recent call last):
        ...
    wavenet.nam.values.FormatError: amp.nam: is no usable JSON (Expecting value: ...
    """


class Node:
    """A JSON object with its path in the file, for error messages.

    Args:
        values: should be a dictionary.
        where: its path, such as ``config.layers[0]``; empty at the top.

    Raises:
        FormatError: if it is no dictionary.
    """

    def __init__(self, values: Any, where: str = "") -> None:
        self.where = where
        if not isinstance(values, dict):
            raise FormatError(f"{where or 'the file'} is {short(values)}, expected an object")
        self._values = values

    @property
    def values(self) -> dict[str, Any]:
        """The object itself."""
        return self._values

    def path(self, key: str) -> str:
        """Return the path of a value."""
        return f"{self.where}.{key}" if self.where else key

    def has(self, key: str) -> bool:
        """Return true if the value exists and is not null."""
        return self._values.get(key) is not None

    def unknown(self, *known: str) -> list[str]:
        """List the keys that are not known."""
        return [key for key in self._values if key not in known]

    def get(self, key: str, default: Any = _REQUIRED) -> Any:
        """Return a value; null counts as missing."""
        if self.has(key):
            return self._values[key]
        if default is _REQUIRED:
            raise FormatError(f"{self.path(key)} is missing; the file is incomplete")
        return default

    def node(self, key: str) -> Node:
        """Return the object of that name."""
        return Node(self.get(key), self.path(key))

    def items(self, key: str) -> list[Any]:
        """Return the list of that name."""
        values = self.get(key)
        if not isinstance(values, list):
            raise FormatError(f"{self.path(key)} is {short(values)}, expected a list")
        return values

    def integer(self, key: str, default: Any = _REQUIRED) -> int:
        """Return an integer of at least 1."""
        return integer(self.get(key, default), self.path(key))

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """Return a finite number."""
        return number(self.get(key, default), self.path(key))

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        """Return true or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise FormatError(f"{self.path(key)} is {short(value)}, expected true or false")
        return value

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """Return a string."""
        return text(self.get(key, default), self.path(key))


def integer(value: Any, where: str) -> int:
    """Check an integer of at least 1, and return it."""
    if type(value) is not int or not 1 <= value < MAX_INTEGER:
        raise FormatError(f"{where} is {short(value)}, expected a whole number of at least 1")
    return value


def number(value: Any, where: str) -> float:
    """Check a finite number, and return it as a float."""
    if type(value) not in (int, float) or not abs(value) < MAX_INTEGER:  # NaN is not less
        raise FormatError(f"{where} is {short(value)}, expected a number of ordinary size")
    return float(value)


def text(value: Any, where: str) -> str:
    """Check a string, and return it."""
    if not isinstance(value, str):
        raise FormatError(f"{where} is {short(value)}, expected a string")
    return value


def short(value: Any) -> str:
    """Format a value for a message: truncated, and on one line."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return shortened(value)
