"""``wavenet import`` and ``wavenet export``: which suffix is whose."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from wavenet.interop.nam.command import export_nam, import_nam

IMPORTERS: dict[str, Callable[[Path, Path, str | None], str]] = {".nam": import_nam}
"""From the file, the folder and ``--submodel`` to the line that says what was done."""

EXPORTERS: dict[str, Callable[[Path, Path], str]] = {".nam": export_nam}
"""From the folder and the file to the line that says what was done."""


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``wavenet import``."""
    parser.add_argument("file", type=Path, metavar="FILE", help=", ".join(IMPORTERS))
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the checkpoint goes")
    parser.add_argument(
        "--submodel", metavar="NAME", help="of a file with several sizes (default: the largest)"
    )


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``wavenet export``."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a checkpoint")
    parser.add_argument("file", type=Path, metavar="FILE", help=", ".join(EXPORTERS))


def import_file(options: argparse.Namespace) -> str:
    """Make a checkpoint of somebody else's file.

    Raises:
        ValueError: if the suffix is unknown, or the file cannot be read.
    """
    _check_suffix(options.file, IMPORTERS)
    return IMPORTERS[options.file.suffix.lower()](options.file, options.folder, options.submodel)


def export_folder(options: argparse.Namespace) -> str:
    """Make somebody else's file of a checkpoint.

    Raises:
        ValueError: if the suffix is unknown, or the model cannot be written so.
    """
    _check_suffix(options.file, EXPORTERS)
    return EXPORTERS[options.file.suffix.lower()](options.folder, options.file)


def _check_suffix(file: Path, known: dict[str, Callable[..., str]]) -> None:
    if file.suffix.lower() not in known:
        raise ValueError(f"{file}: unknown suffix {file.suffix!r}; known are {', '.join(known)}")
