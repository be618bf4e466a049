"""A manifest: a CSV or JSONL file that lists the recordings of a corpus.

Each line is a file, or a part of one:

    path,speaker,start,end
    chapter-1.flac,mary,0.0,3.25
    chapter-1.flac,mary,3.25,7.9
    letters/b.wav,john,,

``path`` is relative to the manifest. The others may be left out: speaker is then empty, start 0 and
end that of the file, in seconds. Further columns, such as a transcript, are passed over.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wavenet.data.recordings import CorpusError, Listing, Recording

MANIFEST_SUFFIXES = (".csv", ".jsonl")
COLUMNS = ("path", "speaker", "start", "end")


def read_manifest(path: str | Path) -> Listing:
    """The recordings that a manifest lists, in the order of their names.

    Whether the files are there is found when they are decoded.

    Raises:
        CorpusError: if it cannot be read, lists nothing, or has a line that is no recording.
    """
    path = Path(path)
    rows = _csv_rows if path.suffix.lower() == ".csv" else _jsonl_rows
    found: dict[str, Recording] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for line, row in rows(path, file):
                recording = _recording(f"{path}, line {line}", path.parent, row)
                if recording.name in found:
                    raise CorpusError(
                        f"{path}, line {line}: {recording.name} is listed before; drop one of them"
                    )
                found[recording.name] = recording
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
    if not found:
        raise CorpusError(f"{path}: lists no recording; give one a line")
    return Listing(path, tuple(found[name] for name in sorted(found)))


def _csv_rows(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = csv.DictReader(file, strict=True)
    try:
        _require_columns(f"{path}, line 1", list(rows.fieldnames or []))
        for row in rows:
            if None in row:
                raise CorpusError(
                    f"{path}, line {rows.line_num}: more values than columns; put a value that "
                    'holds a comma in "quotation marks"'
                )
            yield rows.line_num, row
    except csv.Error as error:
        raise CorpusError(f"{path}, line {rows.line_num}: not CSV: {error}") from None


def _jsonl_rows(path: Path, file: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise CorpusError(f"{path}, line {line}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise CorpusError(f'{path}, line {line}: give an object, such as {{"path": "a.wav"}}')
        _require_columns(f"{path}, line {line}", list(row))
        yield line, row


def _require_columns(where: str, names: list[str]) -> None:
    """A path, and no name that is nearly one of ours."""
    for name in names:
        near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.8)
        if near and name not in COLUMNS:
            raise CorpusError(f"{where}: {name!r} is unknown; did you mean {near[0]!r}?")
    if "path" not in names:
        raise CorpusError(
            f"{where}: no 'path' among {names}; known: {', '.join(COLUMNS)}; the first line of a "
            "CSV names its columns, with commas between"
        )


def _recording(where: str, folder: Path, row: Mapping[str, Any]) -> Recording:
    path, speaker = row["path"], row.get("speaker")
    if not isinstance(path, str) or not path:
        raise CorpusError(f"{where}: path is {path!r}; name a file")
    start_s, end_s = (_seconds(where, key, row.get(key)) for key in ("start", "end"))
    start_s = start_s or 0.0
    if end_s is not None and not start_s < end_s:
        raise CorpusError(
            f"{where}: end={end_s:.10g} must lie behind start={start_s:.10g}, in seconds"
        )
    name = Path(os.path.normpath(path)).as_posix()
    if start_s or end_s is not None:
        name += f"@{start_s:.10g}-{'' if end_s is None else f'{end_s:.10g}'}"
    return Recording(name, folder / path, "" if speaker is None else str(speaker), start_s, end_s)


def _seconds(where: str, key: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(value, bool) or not 0 <= seconds < math.inf:
        raise CorpusError(f"{where}: {key}={value!r} must be a time in seconds, or be left out")
    return seconds
