"""A manifest: a CSV or JSONL file that lists the recordings of a corpus.

Each line is a file, or a part of one:

    path,speaker,start,end,features
    chapter-1.flac,mary,0.0,3.25,f0/chapter-1-a.npy
    chapter-1.flac,mary,3.25,7.9,f0/chapter-1-b.npy
    letters/b.wav,john,,,f0/b.npy

``path`` and ``features`` are relative to the manifest. All columns but the path are optional:
speaker defaults to empty, start to 0, and end to that of the file, in seconds; features are those
of the part (``frame_features``). Further columns, such as a transcript, are ignored.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wavenet.data.recordings import CorpusError, Listing, Recording
from wavenet.values.numerals import number_of
from wavenet.values.text import short

MANIFEST_SUFFIXES = (".csv", ".jsonl")
LATEST_S = 1e8
"""Upper limit of times, three years: no file is longer."""
COLUMNS = ("path", "speaker", "start", "end", "features")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def read_manifest(path: str | Path) -> Listing:
    """Read the recordings of a manifest, in the order of their names.

    The files are not opened: a missing one is found when it is decoded.

    Raises:
        CorpusError: if it cannot be read, lists nothing, or has a line that is no recording.
    """
    path = Path(path)
    lines = ((f"{path}, line {line}", row) for line, row in read_rows(path, COLUMNS))
    named = ((where, _recording(where, path.parent, row)) for where, row in lines)
    return Listing(path, in_order(path, named))


def in_order(path: Path, named: Iterable[tuple[str, Recording]]) -> tuple[Recording, ...]:
    """Return the recordings of a file in the order of their names.

    Args:
        path: of the file.
        named: places in it, for messages, and the recordings there.

    Raises:
        CorpusError: if there is none, or two have the same name.
    """
    found: dict[str, Recording] = {}
    spelled: dict[tuple[str, float, float | None], str] = {}
    for where, recording in named:
        if recording.name in found:
            raise CorpusError(
                f"{where}: {short(recording.name)} is listed twice; remove one of them"
            )
        part = os.path.abspath(recording.path), recording.start_s, recording.end_s
        if spelled.setdefault(part, recording.name) != recording.name:
            raise CorpusError(
                f"{where}: {short(recording.name)} is the same file as {short(spelled[part])}; "
                "remove one of them"
            )
        found[recording.name] = recording
    if not found:
        raise CorpusError(f"{path}: lists no recording; give one per line")
    return tuple(found[name] for name in sorted(found))


def read_rows(path: Path, columns: tuple[str, ...] = ()) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number and the values of each line of a CSV or JSONL file.

    Args:
        path: of the file.
        columns: known ones, of which the first has to be there and none may be misspelt.

    Raises:
        CorpusError: if it cannot be read, or is not what its suffix says.
    """
    rows = _csv_rows if path.suffix.lower() == ".csv" else _jsonl_rows
    return rows(path, _text(path), columns)


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}; check the path") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            f"{path}, line {line}: not UTF-8 ({error.reason}); save it as UTF-8"
        ) from None


def _csv_rows(
    path: Path, text: str, columns: tuple[str, ...]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _require_columns(f"{path}, line 1", list(rows.fieldnames or []), columns)
        for row in rows:
            if None in row:
                raise CorpusError(
                    f"{path}, line {rows.line_num}: more values than columns; put a value that "
                    'contains a comma in "quotation marks"'
                )
            yield rows.line_num, row
    except csv.Error as error:
        line = min(rows.line_num + 1, len(text.splitlines()))  # it counts those that it has read
        raise CorpusError(f"{path}, line {line}: not CSV: {error}") from None


def _jsonl_rows(
    path: Path, text: str, columns: tuple[str, ...]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, content in enumerate(io.StringIO(text, newline=None), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content, object_pairs_hook=_of_distinct_keys)
        except ValueError as error:
            raise CorpusError(f"{path}, line {line}: not JSON: {error}") from None
        except KeyError as error:
            name = short(error.args[0])
            raise CorpusError(
                f"{path}, line {line}: {name} is given twice; remove one of them"
            ) from None
        except RecursionError:
            raise CorpusError(f"{path}, line {line}: nested too deeply; keep it flat") from None
        if not isinstance(row, dict):
            raise CorpusError(f'{path}, line {line}: give an object, such as {{"path": "a.wav"}}')
        _require_columns(f"{path}, line {line}", list(row), columns)
        yield line, row


def _of_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of a JSON text; KeyError for a key that is given twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise KeyError(name)
        found[name] = value
    return found


def _require_columns(where: str, names: list[str], known: tuple[str, ...]) -> None:
    """Raise CorpusError without the first of the known columns, or for a misspelt one."""
    for name in names:
        if name in known and names.count(name) > 1:
            raise CorpusError(f"{where}: {name!r} is given twice; remove one of them")
        near = difflib.get_close_matches(name[:100], known, n=1, cutoff=0.8)
        if near and name not in known and near[0] not in names:
            raise CorpusError(f"{where}: {short(name)} is unknown; did you mean {near[0]!r}?")
    if known and known[0] not in names:
        raise CorpusError(
            f"{where}: no {known[0]!r} among {short(names)}; known: {', '.join(known)}; the first "
            "line of a CSV names its columns, with commas between"
        )


def _recording(where: str, folder: Path, row: Mapping[str, Any]) -> Recording:
    path, speaker = row["path"], row.get("speaker")
    if not isinstance(path, str) or not path:
        raise CorpusError(f"{where}: path is {short(path)}; name a file")
    if isinstance(speaker, bool) or not isinstance(speaker, str | int | None):
        raise CorpusError(f"{where}: speaker is {short(speaker)}; give a name, or leave it out")
    features = row.get("features") or None
    if not isinstance(features, str | None):
        raise CorpusError(f"{where}: features is {short(features)}; name a file, or leave it out")
    for key, text in (("path", path), ("speaker", speaker), ("features", features)):
        require_text(where, key, text)
    if isinstance(speaker, str) and speaker != speaker.strip():
        raise CorpusError(f"{where}: speaker={short(speaker)} begins or ends with a space; drop it")
    start_s, end_s = (_seconds(where, key, row.get(key)) for key in ("start", "end"))
    start_s = start_s or 0.0
    if end_s is not None and not start_s < end_s:
        raise CorpusError(
            f"{where}: end={end_s:.10g} must be after start={start_s:.10g}, in seconds"
        )
    name = Path(os.path.normpath(path)).as_posix()
    if start_s or end_s is not None:
        name += f"@{start_s:.10g}-{'' if end_s is None else f'{end_s:.10g}'}"
    beside = None if features is None else folder / features
    who = "" if speaker is None else str(speaker)
    return Recording(name, folder / path, who, start_s, end_s, beside)


def require_text(where: str, key: str, text: str | int | None) -> None:
    """Raise CorpusError for text that no file system or encoding accepts: NUL and surrogates."""
    if isinstance(text, str) and _NO_TEXT.search(text):
        raise CorpusError(f"{where}: {key}={short(text)} contains NUL or a lone surrogate")


def _seconds(where: str, key: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    seconds = number_of(str(value).strip())
    if seconds is None or not 0 <= seconds <= LATEST_S:
        raise CorpusError(
            f"{where}: {key}={short(value)} must be a time in seconds, at most {LATEST_S:g}, or "
            "be left out"
        )
    return seconds
