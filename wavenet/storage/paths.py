"""Paths: the cache of this package, and whether two paths are one file or lie in each other."""

from __future__ import annotations

import os
from pathlib import Path

AnyPath = str | os.PathLike[str]


def cache_folder(given: str | Path = "") -> Path:
    """Return the folder of the cache: as given, or ``$WAVENET_CACHE``, or that of the user.

    The user's cache is ``wavenet`` in ``$XDG_CACHE_HOME`` or in ``~/.cache``.
    """
    if given:
        return Path(os.path.expanduser(given))
    if os.environ.get("WAVENET_CACHE"):
        return Path(os.path.expanduser(os.environ["WAVENET_CACHE"]))
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "wavenet"


def is_same_file(one: AnyPath, other: AnyPath) -> bool:
    """Return whether two paths lead to one file or folder: through links, `..` or another case.

    Hard links to one file count. Paths that lead nowhere yet are the same if they would be made at
    the same place.
    """
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def is_inside(path: AnyPath, folder: AnyPath) -> bool:
    """Return whether a path is that folder, or lies in it or below it; neither need exist."""
    place = Path(os.path.realpath(path))
    return any(is_same_file(each, folder) for each in (place, *place.parents))


def require_other_file(out: AnyPath, *inputs: AnyPath | None) -> None:
    """Refuse to write over what is read.

    Args:
        out: what will be written.
        inputs: what will be read; None is passed over.

    Raises:
        ValueError: if ``out`` is one of the inputs.
    """
    for path in inputs:
        if path is not None and is_same_file(out, path):
            raise ValueError(f"{os.fspath(out)} would be written over; name another file")
