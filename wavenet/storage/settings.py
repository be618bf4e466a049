"""Strict conversion of the values in a file to frozen dataclasses, and back."""

from __future__ import annotations

import dataclasses
import difflib
import operator
import types
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from wavenet.values.integers import fits_float, is_integer
from wavenet.values.text import printable, short

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Build the dataclass ``cls`` from these values, nested dataclasses included.

    Args:
        cls: a dataclass whose fields are int, float, bool, str, tuples of these, dataclasses, or
            any of them or None.
        values: from JSON or YAML.
        where: name in error messages, such as ``model``.

    Raises:
        ValueError: for an unknown key (it names the nearest known one) or a value of a wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {short(values)}, expected a mapping of settings")
    hints = get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in values:
        if key not in known:
            shown = printable(str(key)[:60])
            raise ValueError(f"{where}.{shown} is unknown; {_suggest(str(key)[:60], known)}")
    built = {key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**built)
    except TypeError as error:  # a required field is missing
        raise ValueError(f"{where}: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """Convert a dataclass to plain values for JSON: tuples become lists, None stays."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.init
    }


def _suggest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    near = near or [name for name in known if key in name]
    return f"did you mean {near[0]}?" if len(near) == 1 else f"known: {', '.join(known)}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Convert a value to the type of the hint, or raise ValueError."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        (hint,) = [option for option in get_args(hint) if option is not type(None)]
        return _convert(hint, value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where=where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(get_args(hint)[0], item, where) for item in value)
    if hint is int and is_integer(value):
        return operator.index(value)
    if hint is float and isinstance(value, Real) and not isinstance(value, bool):
        return _finite(value, where)
    plain = origin is None and isinstance(hint, type)
    if plain and (not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)):
        raise ValueError(f"{where} is {short(value)}, expected {hint.__name__}")
    if origin is tuple:
        raise ValueError(f"{where} is {short(value)}, expected a list")
    return value


def _finite(value: Any, where: str) -> float:
    """Convert a number to a finite float, or raise ValueError."""
    if not fits_float(value):
        raise ValueError(f"{where} is {short(value)}, expected a finite number")
    return float(value)
