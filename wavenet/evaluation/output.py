"""The folder that a report is written to: refused before any work if it is somebody else's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from wavenet.evaluation.report import FORMAT
from wavenet.storage.files import atomic_write, require_writable

JSON_NAME, MARKDOWN_NAME, PAGE_NAME = "report.json", "report.md", "index.html"


def require_report_folder(folder: str | Path) -> Path:
    """The folder, if it does not exist yet, is empty, or holds an earlier report.

    Raises:
        ValueError: if it is a file, or holds anything else.
        WriteError: if nothing can be written there.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out={folder} is a file; name a folder for the report")
    if folder.is_dir() and any(folder.iterdir()) and not _holds_report(folder):
        raise ValueError(
            f"--out={folder} holds other files and no earlier report; name a new or empty folder"
        )
    require_writable(folder / JSON_NAME)
    return folder


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write all of them, by name; each takes its place when all are on the disk.

    Raises:
        WriteError: if the system refuses; the old files are as they were.
    """
    with contextlib.ExitStack() as stack:
        for name, text in files.items():
            temporary = stack.enter_context(atomic_write(folder / name))
            temporary.write_text(text, encoding="utf-8")


def _holds_report(folder: Path) -> bool:
    try:
        content = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT
