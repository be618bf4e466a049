"""Paths: the cache folder, and comparison of paths: one file, or a file inside a folder."""

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
    """Return true if two paths are one file or folder: through links, `..` or another case.

    Hard links to one file are the same. Paths that do not exist are the same if they would be made
    at the same place.
    """
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def is_inside(path: AnyPath, folder: AnyPath) -> bool:
    """Return true if a path is that folder, or is in it or below it; neither need exist."""
    place = Path(os.path.realpath(path))
    return any(is_same_file(each, folder) for each in (place, *place.parents))


def require_other_file(out: AnyPath, *inputs: AnyPath | None) -> None:
    """Raise ValueError if an output would overwrite an input.

    Args:
        out: path that will be written.
        inputs: paths that will be read; None is ignored.

    Raises:
        ValueError: if ``out`` is one of the inputs.
    """
    for path in inputs:
        if path is not None and is_same_file(out, path):
            raise ValueError(f"{os.fspath(out)} would be written over; name another file")
