"""The cache: decoded corpora on disk, so that the next run starts at once.

An entry is a folder with ``samples.i16``, the concatenated samples of all recordings, and
``index.json``, their lengths and the reasons for skipped ones. Its name is a hash of its inputs:
the version of the format, the sample rate, the trimming, and for each recording its name in the
corpus, its part, and the content of its file. A corpus that is copied, moved or touched keeps its
entry; a file with new content, even with an unchanged date, gets a new one.

Hashing every file would take minutes for a large corpus, so hashes are remembered for files whose
size, times and inode have not changed (as git's index does); among these is the time of the last
change (ctime), which no program can set back.

An entry is written to a temporary folder, flushed to the disk and renamed: it is complete or
absent, even after a crash. If several processes start at once, the first one decodes and the others
wait; on a file system without locks all of them decode, and the first to finish wins. If the cache
cannot be written, samples are kept in memory, with one warning.
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
from wavenet.audio.media import REMEDY, has_decoder
from wavenet.data.corpus import SAMPLE_TYPE, Corpus, Progress, map_samples
from wavenet.data.recordings import CorpusError, Listing, Recording, decode_all
from wavenet.storage.files import WriteError, atomic_write, locked
from wavenet.storage.paths import cache_folder

logger = logging.getLogger("wavenet")

FORMAT_VERSION = 1
"""Version of entries and decoding: increased when the same files give other samples."""

SAMPLES_NAME, INDEX_NAME = "samples.i16", "index.json"

SETTLED_S = 2.0
"""A file that changed less than this ago may change again within one tick of its clock."""

ABANDONED_S = 3600.0
"""Pause after which the temporary files of another machine count as abandoned."""

Decoded = list[np.ndarray | str]


def read_cached(
    listing: Listing,
    sample_rate: int,
    *,
    cache: str | Path = "",
    trim_db: float | None = None,
    progress: Progress = iter,
) -> Corpus:
    """Return the corpus mapped from the cache; decode it into the cache first if needed.

    >>> for who in ("ann", "bob"):
    ...     wavenet.audio.write_audio(f"wavs/{who}/a.wav", torch.randn(8000) / 10, 16000)
    >>> corpus = read_cached(find_corpus("wavs"), 16000, cache="cache")
    >>> type(corpus.utterances[0].samples).__name__
    'memmap'

    Args:
        listing: the recordings.
        sample_rate: to which everything is resampled, in Hz.
        cache: folder of the cache (``cache_folder``).
        trim_db: as for ``Corpus.read``.
        progress: wraps the recordings while they are decoded.

    Raises:
        CorpusError: if no recording can be used, or if the cache cannot be written and the memory
            does not suffice.
    """
    folder = cache_folder(cache)
    entry = folder / entry_key(listing, sample_rate, trim_db, folder)
    decoded = _read_entry(entry, listing)
    if decoded is None:
        try:
            with locked(folder / f".{entry.name}.lock") as alone:
                decoded = _read_entry(entry, listing)  # another process may have written it
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
    content = _with_features(entry.name, listing, folder)
    if decoded is not None:
        return replace(Corpus.of(listing.recordings, decoded, sample_rate), content=content)
    try:
        corpus = Corpus.read(listing, sample_rate, trim_db=trim_db, progress=progress)
        return replace(corpus, content=content)
    except MemoryError:
        raise CorpusError(
            f"the corpus does not fit into memory, and cache={str(folder)!r} cannot be written; "
            "set cache to a folder with space"
        ) from None


def entry_key(listing: Listing, sample_rate: int, trim_db: float | None, folder: Path) -> str:
    """Name of the entry: a hash of everything that its samples depend on."""
    digests = _digests(listing, folder)
    lines = [
        [recording.name, digests[recording.path], recording.start_s, recording.end_s]
        for recording in listing.recordings
    ]
    made_from = [FORMAT_VERSION, sample_rate, trim_db, lines]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]


def _with_features(content: str, listing: Listing, folder: Path) -> str:
    """Hash of samples and features; that of the samples where no recording has features."""
    paths = [recording.features for recording in listing.recordings]
    if not any(paths):
        return content
    digests = _digests(listing, folder)
    found = [content, *("" if path is None else digests[path] for path in paths)]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:32]


def _digests(listing: Listing, folder: Path) -> dict[Path, str]:
    """Hash the content of each file; hashes are remembered in the cache if it can be written."""
    whole = str(listing.place.resolve()).encode(errors="surrogateescape")
    memory = folder / f"seen-{hashlib.sha256(whole).hexdigest()[:32]}.json"
    seen = _read_json(memory) or {}
    found: dict[str, list[Any]] = {}
    digests: dict[Path, str] = {}
    files = [recording.path for recording in listing.recordings]
    files += [recording.features for recording in listing.recordings if recording.features]
    for path in dict.fromkeys(files):
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
    """Size, times and inode, which show that a file is unchanged; empty if they are unknown."""
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
    """Samples of each recording, or why it has none; None if there is no complete entry."""
    index, path = _read_json(entry / INDEX_NAME), entry / SAMPLES_NAME
    lengths, reasons = (index or {}).get("lengths"), (index or {}).get("reasons")
    if not _are_lengths(lengths, len(listing.recordings)) or not isinstance(reasons, dict):
        return None
    if has_decoder() and any(str(reason).endswith(REMEDY) for reason in reasons.values()):
        return None  # written before PyAV was installed
    try:
        if path.stat().st_size != sum(lengths) * SAMPLE_TYPE.itemsize:  # damaged
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
    """Return true for lengths of that many recordings, as ``_write_entry`` writes them."""
    if not isinstance(found, list) or len(found) != count:
        return False
    return all(type(length) is int and length >= 0 for length in found)


def _write_entry(entry: Path, listing: Listing, decoded: Iterable[np.ndarray | AudioError]) -> None:
    """Write a temporary folder and rename it; if another process was faster, its entry is kept.

    Raises:
        OSError: if writing fails; no temporary files are left.
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
    """Prefix a stored reason with the current path of the file."""
    return f"{recording.path}{reason}" if reason.startswith(": ") else reason


def _leftover_prefix(entry: Path) -> str:
    return f".{entry.name}.part-"


def _host() -> str:
    return platform.node() or "host"


def _remove_leftovers(entry: Path, alone: bool) -> None:
    """Remove a damaged entry, and temporary files of processes that died.

    A lock may be valid on one machine alone: temporary files of another one count as abandoned only
    when nothing was written for ``ABANDONED_S``.
    """
    if not alone:
        return
    shutil.rmtree(entry, ignore_errors=True)
    for path in entry.parent.glob(f"{_leftover_prefix(entry)}*"):
        own = path.name.startswith(f"{_leftover_prefix(entry)}{_host()}-")
        written = max((_facts(part)[1] for part in path.iterdir()), default=0) / 1e9
        if own or time.time() - written > ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)
    for path in entry.parent.glob(".*.tmp"):  # an incomplete list of hashes
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()


def _read_json(path: Path) -> dict[str, Any] | None:
    """Read the object in a JSON file; None if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
