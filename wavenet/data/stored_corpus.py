"""Opening a corpus in a store for training."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from wavenet.data.corpus import Corpus, Utterance
from wavenet.data.recordings import CorpusError
from wavenet.data.shard_cache import ShardCache
from wavenet.data.shard_index import INDEX_NAME, ShardIndex
from wavenet.data.shards import Shards, StoredSamples, groups_within
from wavenet.storage.files import temporary_in
from wavenet.storage.object_store import StoreError, fetch, is_url, store_url
from wavenet.storage.paths import cache_folder
from wavenet.values.text import short

MOST_IN_GROUP = 32
"""Most shards in a group: 9 hours at 16 kHz in shards of 32 MiB, which are there in a minute."""


def is_stored(place: str) -> bool:
    """Return true for the URL of a store, and for a folder that `wavenet shard` has written."""
    return is_url(place) or (Path(place) / INDEX_NAME).is_file()


@dataclass(frozen=True)
class Store:
    """How a corpus in a store is opened.

    >>> for who in ("ann", "bob"):
    ...     wavenet.audio.write_audio(f"wavs/{who}/a.wav", torch.randn(8000) / 10, 16000)
    >>> index = write_shards(find_corpus("wavs"), "shards", 16000)
    >>> corpus = Store("shards", cache="cache").open(16000)
    >>> corpus.n_samples
    16000

    Attributes:
        place: folder, or URL of the store.
        cache: folder of the cache (``cache_folder``); shards are in its folder ``shards``.
        cache_gb: size of all shards in it, in GB of 10^9 bytes. If the corpus fits, its windows are
            those of the folder that it was made from; otherwise they are drawn from groups of
            shards, so that the cache holds two groups (``groups``).
        most_in_group: most shards in a group.
    """

    place: str
    cache: str | Path = ""
    cache_gb: float = 50.0
    most_in_group: int = MOST_IN_GROUP

    def open(self, sample_rate: int, trim_db: float | None = None) -> Corpus:
        """Read the index; download all shards if the cache can hold them.

        Args:
            sample_rate: that the corpus must have, in Hz.
            trim_db: threshold of trimming that it must have been written with.

        Raises:
            CorpusError: if there is no such corpus, or it was written with other settings.
            StoreError: if the store cannot be read.
        """
        url, folder = store_url(self.place), cache_folder(self.cache) / "shards"
        index = self._index(url, folder)
        self._require_settings(index, sample_rate, trim_db)
        sizes = np.array(index.shard_bytes, np.int64)
        cache = ShardCache(folder, int(self.cache_gb * 1e9))
        try:
            per_group = groups_within(cache.limit_bytes, sizes, self.most_in_group)
        except ValueError as error:
            raise CorpusError(f"corpus={short(self.place)}: {error}") from None
        counts = torch.tensor(index.class_counts, dtype=torch.float64)
        shards = Shards(
            url,
            tuple(index.shard_sha256),
            sizes,
            cache,
            per_group=per_group,
            class_counts=counts,
        )
        if not per_group:
            shards.fetch_all()
        return _corpus(index, shards)

    def _index(self, url: str, folder: Path) -> ShardIndex:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path = temporary_in(folder)
            path.touch()
        except OSError as error:
            raise StoreError(
                f"cache={str(folder)!r} cannot be written: {error.strerror or error}; set cache to "
                "a folder with space"
            ) from None
        try:
            fetch(url, INDEX_NAME, path)
            return ShardIndex.read(path, f"{url}/{INDEX_NAME}")
        finally:
            with contextlib.suppress(OSError):
                path.unlink()

    def _require_settings(self, index: ShardIndex, sample_rate: int, trim_db: float | None) -> None:
        if index.sample_rate != sample_rate:
            raise CorpusError(
                f"corpus={short(self.place)} is at {index.sample_rate} Hz and the model at "
                f"{sample_rate} Hz; write it again: wavenet shard --sample-rate {sample_rate}"
            )
        if index.trim_db != trim_db:
            was, now = ("false" if db is None else f"{db:g}" for db in (index.trim_db, trim_db))
            raise CorpusError(
                f"corpus={short(self.place)} was written with trim_silence {was}, and "
                f"trim_silence={now}; set it to {was}, or write the corpus again"
            )


def _corpus(index: ShardIndex, shards: Shards) -> Corpus:
    columns = zip(
        index.names,
        index.speaker,
        index.shard,
        index.offset,
        index.length,
        index.digest,
        strict=True,
    )
    speakers = index.speakers
    utterances = tuple(
        Utterance(name, StoredSamples(shards, shard, offset, length, digest), speakers[speaker])
        for name, speaker, shard, offset, length, digest in columns
    )
    corpus = Corpus(utterances, index.sample_rate, tuple(index.skipped), index.content)
    if not shards.per_group:
        return replace(corpus, shards=shards)
    # Its windows depend on the shards, and on how many are in a group.
    made_from = json.dumps([index.content, list(shards.hashes), shards.per_group])
    content = hashlib.sha256(made_from.encode()).hexdigest()[:32]
    return replace(corpus, shards=shards, content=content)
