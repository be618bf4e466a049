"""Writing a corpus into a store, as shards and their index.

Recordings are taken in the order of a hash of their names, so that each shard is a random sample of
the corpus, and a group of shards (``groups``) resembles the whole. Parts of one file stay together,
and it is decoded once. One shard at a time is on the local disk. The index comes last: a store that
was left unfinished holds no corpus, and the same command goes on, without the shards that are
there.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from wavenet.data.cache import entry_key
from wavenet.data.corpus import Progress
from wavenet.data.histogram import to_classes, value_counts
from wavenet.data.recordings import CorpusError, Listing, Recording, decode_all
from wavenet.data.shard_index import INDEX_NAME, ShardIndex
from wavenet.data.shards import SAMPLE_TYPE, shard_key
from wavenet.storage.object_store import put, require_obstore, size_of, store_url
from wavenet.storage.paths import cache_folder
from wavenet.values.text import short

SHARD_BYTES = 32 << 20
"""Size of a shard, about 17 minutes at 16 kHz; a longer recording is a shard of its own."""


def write_shards(
    listing: Listing,
    place: str,
    sample_rate: int,
    *,
    trim_db: float | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress = iter,
) -> ShardIndex:
    """Decode all recordings into shards in a store.

    >>> for who in ("ann", "bob"):
    ...     wavenet.audio.write_audio(f"wavs/{who}/a.wav", torch.randn(8000) / 10, 16000)
    >>> index = write_shards(find_corpus("wavs"), "shards", sample_rate=16000)
    >>> index.sample_rate, list(index.names)
    (16000, ['ann/a.wav', 'bob/a.wav'])

    Args:
        listing: the recordings (``find_corpus``).
        place: folder, or URL of the store.
        sample_rate: to which everything is resampled, in Hz.
        trim_db: threshold of trimming at both ends; None: no trimming.
        shard_bytes: size of a shard.
        progress: wraps the recordings, to show progress.

    Returns:
        What was written.

    Raises:
        CorpusError: if no recording can be used, some have features, or the store has a corpus.
        StoreError: if the store cannot be written.
    """
    require_obstore()
    url = store_url(place)
    with_features = next((one for one in listing.recordings if one.features), None)
    if with_features is not None:
        raise CorpusError(
            f"{short(with_features.name)} has a file of features, which shards do not hold; train "
            "from the folder, or leave out the column features"
        )
    if size_of(url, INDEX_NAME) is not None:
        raise CorpusError(f"{short(place)} already holds a corpus; name another folder or URL")
    recordings = tuple(sorted(listing.recordings, key=_random_order))
    writer = _Writer(url, shard_bytes)
    with tempfile.TemporaryDirectory(prefix="wavenet-shard-") as folder:
        with writer.writing(Path(folder) / "shard"):
            decoded = decode_all(progress(recordings), sample_rate, trim_db=trim_db)
            for recording, samples in zip(recordings, decoded, strict=True):
                if isinstance(samples, np.ndarray):
                    writer.add(recording, samples)
                else:
                    writer.skipped[recording.name] = str(samples)
        if not writer.rows:
            raise CorpusError(
                f"none of the {len(recordings)} audio files can be used: "
                f"{next(iter(writer.skipped.values()))}"
            )
        content = entry_key(listing, sample_rate, trim_db, cache_folder())
        index = writer.index(sample_rate, trim_db, content)
        index.write(Path(folder) / INDEX_NAME)
        put(url, INDEX_NAME, Path(folder) / INDEX_NAME)
    return index


def _random_order(recording: Recording) -> tuple[bytes, str]:
    """Order by a hash of the file's name; of parts of one file, by their names."""
    file = recording.name.rpartition("@")[0] or recording.name
    return hashlib.sha256(file.encode("utf-8", "surrogateescape")).digest(), recording.name


@dataclass
class _Row:
    """A recording that was written."""

    name: str
    speaker: str
    shard: int
    offset: int
    length: int
    digest: str


@dataclass
class _Writer:
    """Collects recordings into a shard, and uploads it when it is full."""

    url: str
    shard_bytes: int
    rows: list[_Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    hashes: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(65536, np.int64))

    @contextlib.contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """Write shards within this block, one after another, to a temporary file."""
        self._path = path
        self._begin()
        try:
            yield
            self._end()
        finally:
            self._file.close()

    def add(self, recording: Recording, samples: np.ndarray) -> None:
        """Append a recording, int16 ``[T]``; to the next shard if this one would be too large."""
        content = samples.astype(SAMPLE_TYPE, copy=False).tobytes()
        if self._size and self._size + len(content) > self.shard_bytes:
            self._end()
            self._begin()
        digest = hashlib.sha256(content).hexdigest()[:32]
        place = len(self.hashes), self._size // SAMPLE_TYPE.itemsize, len(samples)
        self.rows.append(_Row(recording.name, recording.speaker, *place, digest))
        self.counts += value_counts(samples)
        self._file.write(content)
        self._hash.update(content)
        self._size += len(content)

    def index(self, sample_rate: int, trim_db: float | None, content: str) -> ShardIndex:
        """Return the index of what was written."""
        rows = sorted(self.rows, key=lambda row: row.name)
        speakers = sorted({row.speaker for row in rows})
        number = {speaker: i for i, speaker in enumerate(speakers)}
        return ShardIndex(
            sample_rate=sample_rate,
            trim_db=trim_db,
            content=content,
            skipped=[self.skipped[name] for name in sorted(self.skipped)],
            class_counts=[int(count) for count in to_classes(self.counts).tolist()],
            shard_sha256=self.hashes,
            shard_bytes=self.sizes,
            speakers=speakers,
            names=[row.name for row in rows],
            speaker=[number[row.speaker] for row in rows],
            shard=[row.shard for row in rows],
            offset=[row.offset for row in rows],
            length=[row.length for row in rows],
            digest=[row.digest for row in rows],
        )

    def _begin(self) -> None:
        self._file: IO[bytes] = open(self._path, "wb")  # noqa: SIM115 - closed by _end
        self._hash, self._size = hashlib.sha256(), 0

    def _end(self) -> None:
        self._file.close()
        if not self._size:
            return
        sha256 = self._hash.hexdigest()
        key = shard_key(sha256)
        if size_of(self.url, key) != self._size:  # a command that was interrupted may have put it
            put(self.url, key, self._path)
        self.hashes.append(sha256)
        self.sizes.append(self._size)
