"""Folders of audio in the layout that Hugging Face datasets calls ``audiofolder``.

Such a folder, or folders below it, such as ``train`` and ``test``, have a ``metadata.csv`` or
``metadata.jsonl`` with a column ``file_name``, relative to that file. The recordings are those that
are listed; the speaker is in a column ``speaker`` or ``speaker_id``, else the first folder of the
file's name. Further columns, such as a transcript, are ignored. Source: the page "Create an audio
dataset" of the documentation of Hugging Face datasets.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wavenet.data.manifest import in_order, read_rows, require_text
from wavenet.data.recordings import (
    AUDIO_SUFFIXES,
    CorpusError,
    Listing,
    Recording,
    list_folder,
    walk_files,
)
from wavenet.values.text import short

logger = logging.getLogger("wavenet")

METADATA = ("metadata.csv", "metadata.jsonl")
UNREAD = "metadata.parquet"
"""The third kind that Hugging Face datasets reads: it would need a library for this alone."""
FILE, SPEAKERS = "file_name", ("speaker", "speaker_id")
_BEGINNING = 65536
"""Characters within which a metadata file names its columns."""
_NAMED = {".csv": rf"(?<![\w-]){FILE}(?![\w-])", ".jsonl": rf'"{FILE}"\s*:'}


def list_audio(folder: str | Path) -> Listing:
    """List what the metadata files of a folder name, or all audio files where there are none.

    Audio files that none of them lists are left out and counted in one line of the log.

    Raises:
        CorpusError: if there is no such folder, a metadata file has a line that is no recording or
            is a Parquet file, or nothing is found.
    """
    folder = Path(folder)
    files = list(walk_files(folder)) if folder.is_dir() else []
    for path in files:
        if path.name == UNREAD:
            raise CorpusError(
                f"{path} is not read, and would choose the recordings; write its rows to "
                f"{METADATA[0]} beside it, such as by pandas, and remove it"
            )
    metadata = sorted(path for path in files if is_metadata(path))
    if not metadata:
        return list_folder(folder, files)
    listing = Listing(folder, _listed(metadata, folder))
    listed = {recording.path for recording in listing.recordings}
    audio = (path for path in files if path.suffix.lower() in AUDIO_SUFFIXES)
    left_out = sum(path not in listed for path in audio)
    if left_out:
        logger.info("left out %d audio files in %s that no metadata lists", left_out, folder)
    return listing


def read_metadata(path: str | Path) -> Listing:
    """List what one metadata file names.

    Raises:
        CorpusError: if it cannot be read, has a line that is no recording, or lists nothing.
    """
    path = Path(path)
    return Listing(path, _listed([path], path.parent))


def is_metadata(path: str | Path) -> bool:
    """Return true for a file of that name with that column; others belong to other layouts.

    A file that names the column in a wrong way, such as between semicolons, is an error when it is
    read: it is not taken for one of another layout, whose recordings are all that are there.
    """
    path = Path(path)
    if path.name not in METADATA:
        return False
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            read = file.readline if path.suffix == ".csv" else file.read
            beginning = read(_BEGINNING).replace("\0", "")  # UTF-16 has NUL between letters
    except OSError:
        return False
    return re.search(_NAMED[path.suffix], beginning) is not None


def _listed(metadata: Sequence[Path], folder: Path) -> tuple[Recording, ...]:
    rows = ((path, line, row) for path in metadata for line, row in read_rows(path))
    lines = ((f"{path}, line {line}", path, row) for path, line, row in rows)
    named = ((where, _recording(where, path.parent, folder, row)) for where, path, row in lines)
    return in_order(metadata[-1], named)


def _recording(where: str, beside: Path, folder: Path, row: Mapping[str, Any]) -> Recording:
    """Return the recording of a row; its name is relative to the folder."""
    if FILE not in row:
        raise CorpusError(
            f"{where}: no {FILE!r} among {short(list(row))}; the first line of a CSV names its "
            "columns, with commas between"
        )
    name = row[FILE]
    if not isinstance(name, str) or not name:
        raise CorpusError(f"{where}: {FILE} is {short(name)}; name a file")
    given = next((row[key] for key in SPEAKERS if key in row), None)
    if isinstance(given, bool) or not isinstance(given, str | int | None):
        raise CorpusError(f"{where}: speaker is {short(given)}; give a name, or leave it out")
    for key, text in ((FILE, name), ("speaker", given)):
        require_text(where, key, text)
    own = Path(os.path.normpath(name))
    if given is None:
        inside = len(own.parts) > 1 and not own.is_absolute() and own.parts[0] != ".."
        given = own.parts[0] if inside else ""
    path = Path(os.path.normpath(beside / own))
    known = path.relative_to(folder) if path.is_relative_to(folder) else path
    return Recording(known.as_posix(), path, str(given))
