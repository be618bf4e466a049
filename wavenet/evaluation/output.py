"""The folder that a report is written to: refused before any work if it holds other files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavenet.evaluation.report import FORMAT
from wavenet.storage.files import atomic_write, require_writable
from wavenet.values.text import printable

JSON_NAME, MARKDOWN_NAME, PAGE_NAME = "report.json", "report.md", "index.html"


def require_report_folder(folder: str | Path) -> Path:
    """The folder, if it does not exist yet, is empty, or holds an earlier report.

    ``require_own_report`` asks whose it is, when the model is known.

    Raises:
        ValueError: if it is a file, or holds anything else.
        WriteError: if nothing can be written there.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out={folder} is a file; name a folder for the report")
    if folder.is_dir() and any(folder.iterdir()) and _model_of_report(folder) is None:
        raise ValueError(
            f"--out={folder} holds other files and no earlier report; name a new or empty folder"
        )
    for name in (JSON_NAME, MARKDOWN_NAME, PAGE_NAME):
        require_writable(folder / name)
    return folder


def require_own_report(folder: Path, weights_sha256: str) -> None:
    """Leave the report of another model.

    Args:
        folder: as ``require_report_folder`` returned it.
        weights_sha256: of the model that is to be evaluated.

    Raises:
        ValueError: if the folder holds the report of a model of other weights.
    """
    found = _model_of_report(folder)
    if found is not None and found.get("weights_sha256") != weights_sha256:
        name = printable(str(found.get("name")))[:100]
        raise ValueError(
            f"--out={folder} holds the report of another model, {name}; name a new or empty folder"
        )


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write all of them, by name; each takes its place when all are on the disk.

    Raises:
        WriteError: if the system refuses; the old files are as they were.
    """
    with contextlib.ExitStack() as stack:
        for name, text in files.items():
            temporary = stack.enter_context(atomic_write(folder / name))
            # What no encoding takes, as half a character in a name, is written out.
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _model_of_report(folder: Path) -> dict[str, Any] | None:
    """Return an earlier report's entry on its model; None where there is no report."""
    try:
        content = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return None
    model = content.get("model")
    return model if isinstance(model, dict) else {}
