"""The cache: decoded corpora on disk, so that the next run begins at once.

An entry is a folder that holds ``samples.i16``, the samples of all recordings one after another,
and ``index.json``, their lengths and the reasons for those left out. It is addressed by what it was
made from: a hash over the format's version, the sample rate, the trimming, and of each recording
the name within the corpus, the part, and the content of its file. A corpus that is copied, moved or
touched keeps its entry; a file that changes, even behind an unchanged date, makes a new one.

Reading every file to know its content would cost minutes on a large corpus, so the hashes are
remembered for files whose size, times and inode have not changed since (as git's index does); the
time of the last change (ctime), which no program can set back, is among them.

An entry is written beside, flushed to the disk and renamed: it is whole or not there, wherever a
machine dies. Of several processes that start at once the first decodes and the others wait, where
the file system has locks; where it has none, all of them decode and the first to end wins. If
nothing can be written, samples are kept in memory and one warning says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from wavenet.audio import AudioError
from wavenet.data.corpus import SAMPLE_TYPE, Corpus, Progress, map_samples
from wavenet.data.recordings import CorpusError, Listing, Recording, decode_all
from wavenet.storage.files import WriteError, atomic_write, locked
from wavenet.storage.paths import cache_folder

logger = logging.getLogger("wavenet")

FORMAT_VERSION = 1
"""Of an entry, and of how it is decoded: raised whenever other samples come of the same files."""

SAMPLES_NAME, INDEX_NAME = "samples.i16", "index.json"

SETTLED_S = 2.0
"""A file that changed less than this ago may change again within one tick of its clock."""

ABANDONED_S = 3600.0
"""What another machine writes is taken for left behind after so long a pause."""

Decoded = list[np.ndarray | str]


def read_cached(
    listing: Listing,
    sample_rate: int,
    *,
    cache: str | Path = "",
    trim_db: float | None = None,
    progress: Progress = iter,
) -> Corpus:
    """The corpus, mapped from the cache; decoded into it first where it is not there.

    Args:
        listing: what there is to read.
        sample_rate: to which everything is resampled, in Hz.
        cache: folder of the cache (``cache_folder``).
        trim_db: as for ``Corpus.read``.
        progress: wraps the recordings while they are decoded.

    Raises:
        CorpusError: if no recording can be used, or they need more memory than there is where the
            cache cannot be written.
    """
    folder = cache_folder(cache)
    entry = folder / entry_key(listing, sample_rate, trim_db, folder)
    decoded = _read_entry(entry, listing)
    if decoded is None:
        try:
            with locked(folder / f".{entry.name}.lock") as alone:
                decoded = _read_entry(entry, listing)  # another process may have made it meanwhile
                if decoded is None:
                    _remove_leftovers(entry, alone)
                    parts = progress(listing.recordings)
                    _write_entry(entry, listing, decode_all(parts, sample_rate, trim_db=trim_db))
                    decoded = _read_entry(entry, listing)
        except OSError as error:
            logger.warning(
                "cache=%r cannot be written (%s); samples are kept in memory, and decoded again by "
                "the next run",
                str(folder),
                error.strerror or error,
            )
    if decoded is not None:
        return replace(Corpus.of(listing.recordings, decoded, sample_rate), content=entry.name)
    try:
        corpus = Corpus.read(listing, sample_rate, trim_db=trim_db, progress=progress)
        return replace(corpus, content=entry.name)
    except MemoryError:
        raise CorpusError(
            f"the corpus does not fit into memory, and cache={str(folder)!r} cannot be written; "
            "name a folder with space as cache"
        ) from None


def entry_key(listing: Listing, sample_rate: int, trim_db: float | None, folder: Path) -> str:
    """What the entry is called: a hash of all that its samples depend on."""
    digests = _digests(listing, folder)
    lines = [
        [recording.name, digests[recording.path], recording.start_s, recording.end_s]
        for recording in listing.recordings
    ]
    made_from = [FORMAT_VERSION, sample_rate, trim_db, lines]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]


def _digests(listing: Listing, folder: Path) -> dict[Path, str]:
    """Of the content of each file; remembered in the cache where it can be written."""
    whole = str(listing.place.resolve()).encode(errors="surrogateescape")
    memory = folder / f"seen-{hashlib.sha256(whole).hexdigest()[:32]}.json"
    seen = _read_json(memory) or {}
    found: dict[str, list[Any]] = {}
    digests: dict[Path, str] = {}
    for path in dict.fromkeys(recording.path for recording in listing.recordings):
        facts = _facts(path)
        known = seen.get(str(path))
        if isinstance(known, list) and len(known) == 2 and known[0] == facts:
            digests[path] = known[1]
        else:
            digests[path] = _digest(path)
        if facts and time.time() - max(facts[1:3]) / 1e9 > SETTLED_S:
            found[str(path)] = [facts, digests[path]]
    if found != seen:
        with contextlib.suppress(WriteError), atomic_write(memory) as temporary:
            temporary.write_text(json.dumps(found))
    return digests


def _facts(path: Path) -> list[int]:
    """What tells that a file is still the one it was; empty where it cannot be told."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _digest(path: Path) -> str:
    if path.exists() and not path.is_file():
        return "not a file"
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _read_entry(entry: Path, listing: Listing) -> Decoded | None:
    """Samples of each recording, or why it has none; None where there is no whole entry."""
    index, path = _read_json(entry / INDEX_NAME), entry / SAMPLES_NAME
    lengths, reasons = (index or {}).get("lengths"), (index or {}).get("reasons")
    if not _are_lengths(lengths, len(listing.recordings)) or not isinstance(reasons, dict):
        return None
    try:
        if path.stat().st_size != sum(lengths) * SAMPLE_TYPE.itemsize:  # not as it was written
            return None
        samples = map_samples(path) if sum(lengths) else np.zeros(0, SAMPLE_TYPE)
    except OSError:
        return None
    decoded: Decoded = []
    end = 0
    for i, (recording, length) in enumerate(zip(listing.recordings, lengths, strict=True)):
        end += length
        whole_reason = _with_path(recording, reasons.get(str(i), ""))
        decoded.append(samples[end - length : end] if length else whole_reason)
    return decoded


def _are_lengths(found: Any, count: int) -> TypeGuard[list[int]]:
    """Whether these are the lengths of so many recordings, as ``_write_entry`` wrote them."""
    if not isinstance(found, list) or len(found) != count:
        return False
    return all(type(length) is int and length >= 0 for length in found)


def _write_entry(entry: Path, listing: Listing, decoded: Iterable[np.ndarray | AudioError]) -> None:
    """Write beside and rename; if another process was faster, its entry stays.

    Raises:
        OSError: the system refused; nothing is left behind.
    """
    beside = entry.with_name(f"{_leftover_prefix(entry)}{_host()}-{secrets.token_hex(8)}")
    lengths: list[int] = []
    reasons: dict[str, str] = {}
    try:
        beside.mkdir(parents=True)
        with open(beside / SAMPLES_NAME, "wb") as file:
            for i, (recording, samples) in enumerate(zip(listing.recordings, decoded, strict=True)):
                if isinstance(samples, np.ndarray):
                    file.write(samples.astype(SAMPLE_TYPE, copy=False).data)
                    lengths.append(len(samples))
                else:
                    reasons[str(i)] = str(samples).removeprefix(str(recording.path))
                    lengths.append(0)
            _flush(file)
        with open(beside / INDEX_NAME, "w", encoding="utf-8") as file:
            json.dump({"lengths": lengths, "reasons": reasons}, file)
            _flush(file)
        try:
            os.rename(beside, entry)
        except OSError:
            if not (entry / INDEX_NAME).exists():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _with_path(recording: Recording, reason: str) -> str:
    """A reason as it was, with the path that the file has now."""
    return f"{recording.path}{reason}" if reason.startswith(": ") else reason


def _leftover_prefix(entry: Path) -> str:
    return f".{entry.name}.part-"


def _host() -> str:
    return platform.node() or "host"


def _remove_leftovers(entry: Path, alone: bool) -> None:
    """An entry that is damaged, and what processes left behind that died while they wrote it.

    A lock may hold on one machine alone: what another one writes counts as left behind only when
    nothing was written for ``ABANDONED_S``.
    """
    if not alone:
        return
    shutil.rmtree(entry, ignore_errors=True)
    for path in entry.parent.glob(f"{_leftover_prefix(entry)}*"):
        own = path.name.startswith(f"{_leftover_prefix(entry)}{_host()}-")
        written = max((_facts(part)[1] for part in path.iterdir()), default=0) / 1e9
        if own or time.time() - written > ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)
    for path in entry.parent.glob(".*.tmp"):  # a half of a remembered list of hashes
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()


def _read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
