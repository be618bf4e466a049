"""Untrusted JSON, read within limits of size and nesting."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

MAX_NESTING = 64
"""Largest depth of nesting: deeper values would overflow the stack of recursive code."""
MAX_CONTAINERS = 200_000
"""Largest number of objects and lists in a file: they need 30 times their size on disk."""


class JsonError(ValueError):
    """Raised for a file without usable JSON; the message is the reason alone, in one line."""


def read_json(path: str | os.PathLike[str], *, max_bytes: int) -> Any:
    """Return the values in a file; NaN and infinities are accepted, as ``json`` does.

    Args:
        path: the file.
        max_bytes: largest file that is read.

    Raises:
        OSError: if it cannot be opened.
        JsonError: if it is no regular file, too long, no JSON, or nested too deeply.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise JsonError("it is no regular file")
    with open(path, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise JsonError(f"it is longer than {max_bytes >> 20} MiB")
    return parse_json(content)


def parse_json(content: bytes) -> Any:
    """Return the values of a text.

    Raises:
        JsonError: as ``read_json``.
    """
    if content.count(b"[") + content.count(b"{") > MAX_CONTAINERS:
        raise JsonError(f"it has more than {MAX_CONTAINERS} lists and objects")
    try:
        values = json.loads(content)
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    except ValueError as error:  # damaged JSON, damaged UTF-8, a number of thousands of digits
        raise JsonError((str(error).splitlines() or ["no JSON"])[0][:100]) from None
    level, depth = [values], 0
    while level:
        depth += 1
        if depth > MAX_NESTING:
            raise JsonError("it is nested too deeply")
        level = [part for whole in level for part in _parts(whole) if isinstance(part, dict | list)]
    return values


def _parts(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def finite_only(value: Any) -> Any:
    """Replace NaN and infinities, which other readers refuse, by null."""
    if isinstance(value, dict):
        return {key: finite_only(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite_only(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
