"""The folder of a run: one run at a time; a mistake before the first step leaves it as it was."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import yaml

from wavenet.storage.checkpoint import CONFIG_NAME, WEIGHTS_NAME
from wavenet.storage.files import atomic_write, claimed, is_temporary
from wavenet.storage.object_store import is_url
from wavenet.storage.paths import is_inside
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.devices import is_writer
from wavenet.values.text import short

logger = logging.getLogger("wavenet")

SETTINGS_NAME = "config.yaml"
OWN_FOLDERS = ("model", "checkpoints", "logs", "samples")
"""Folders that a run makes, beside its settings."""

CHECKPOINT_FILES = (CONFIG_NAME, WEIGHTS_NAME)

LOCK_NAME = ".lock"


def local_folder(out: str | Path) -> Path:
    """Return the folder of a run; ConfigError for a URL, which would make a folder ``s3:`` here."""
    if is_url(str(out)):
        raise ConfigError(
            f"out={short(str(out))} is a URL; name a folder of this machine, and copy it afterwards"
        )
    return Path(out)


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


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Let no other run into the folder; of processes that train together, let one report.

    Raises:
        ConfigError: if another process trains into it.
    """
    if not is_writer():
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
        return
    try:
        with claimed(out / LOCK_NAME):
            _remove_unfinished(out)
            yield
    except BlockingIOError:
        raise ConfigError(
            f"another process is training into out={str(out)!r}; wait for it, or choose another "
            "folder"
        ) from None


def _remove_unfinished(out: Path) -> None:
    """Take away temporary files that a killed process of this run has left in its folders."""
    folders = [out, *(out / name for name in OWN_FOLDERS), *(out / "samples").glob("*/")]
    for path in (path for folder in folders for path in folder.glob(".*.tmp")):
        if is_temporary(path.name):
            with contextlib.suppress(OSError):
                path.unlink()


def require_place(config: TrainingConfig, out: Path, resume: bool) -> None:
    """Raise ConfigError unless the folder may be that of the run: new, or one to go on with."""
    made = [*(out / "model" / name for name in CHECKPOINT_FILES), out / "checkpoints"]
    has_begun = any(path.exists() for path in made)
    if is_writer() and has_begun and not resume:
        raise ConfigError(
            f"out={str(out)!r} already holds a model; choose another folder, or go on with --resume"
        )
    if is_writer() and not has_begun and (out / SETTINGS_NAME).exists():
        raise ConfigError(
            f"out={str(out)!r} holds a {SETTINGS_NAME} and no model; choose another folder, as the "
            "settings of the run would replace it"
        )
    if not resume and Path(config.corpus).is_dir() and is_inside(out, config.corpus):
        raise ConfigError(
            f"out={str(out)!r} is inside corpus={config.corpus!r}, and what the model generates "
            "would become part of it; name a folder outside"
        )


def write_settings(config: TrainingConfig, out: Path) -> None:
    if is_writer():
        with atomic_write(out / SETTINGS_NAME) as path:
            path.write_text(yaml.safe_dump(asdict(config), sort_keys=False))
