"""The beginning of a run: a mistake that is found before the first step leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

SETTINGS_NAME = "config.yaml"
OWN_FOLDERS = ("model", "checkpoints", "logs", "samples")
"""Folders that a run makes, beside its settings."""


@contextlib.contextmanager
def undone_unless(
    out: Path, trained: Callable[[], bool], *, keep: type[Exception]
) -> Iterator[None]:
    """Remove what the block has made in ``out`` if it raises before anything was trained.

    So the corrected command finds the folder as it was. What was there before stays.

    Args:
        out: folder of the run.
        trained: whether a step has been made.
        keep: an error after which everything stays.
    """
    before = set(_paths(out))
    try:
        yield
    except keep:
        raise
    except BaseException:
        if not trained():
            _remove([path for path in _paths(out) if path not in before])
        raise


def _paths(out: Path) -> Iterator[Path]:
    """Files and folders of a run, each folder before what it holds."""
    if (out / SETTINGS_NAME).exists():
        yield out / SETTINGS_NAME
    for name in OWN_FOLDERS:
        for place, _, files in os.walk(out / name):
            yield Path(place)
            yield from (Path(place, file) for file in files)


def _remove(paths: list[Path]) -> None:
    for path in reversed(paths):
        with contextlib.suppress(OSError):  # a folder that another program has put a file into
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
