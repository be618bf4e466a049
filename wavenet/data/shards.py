"""Shards: a corpus as objects in a store, and its samples as arrays that are fetched when read.

A store holds an index (``wavenet.data.shard_index``) and ``shards/SHA256.i16``: each some
recordings, one after another, 16-bit integers, little-endian. A process downloads a whole shard
into the cache (``shard_cache``) and maps it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from wavenet.data.shard_cache import ShardCache
from wavenet.storage.object_store import StoreError

logger = logging.getLogger("wavenet")

SAMPLE_TYPE = np.dtype("<i2")
"""Type of the samples in a file: 16-bit integers, little-endian."""

AT_ONCE = 4
"""Downloads at once when all shards are fetched."""
MAPPED_BESIDE = 64
"""Shards beside those of a group that a process keeps mapped: of validation windows, mostly."""

_Samples = np.ndarray[tuple[int], np.dtype[np.int16]]


def shard_key(sha256: str) -> str:
    """Return the key of a shard's object."""
    return f"shards/{sha256}.i16"


class Shards:
    """The shards of a corpus in a store.

    Args:
        url: of the store.
        hashes: SHA-256 of each shard.
        sizes: of each shard in bytes, int64 ``[S]``.
        cache: where they are downloaded to.
        per_group: windows are drawn from this many shards at a time; 0: from all of them.
        class_counts: of the samples of the whole corpus (``histogram``), ``[CLASSES]``.
    """

    def __init__(
        self,
        url: str,
        hashes: Sequence[str],
        sizes: np.ndarray,
        cache: ShardCache,
        *,
        per_group: int,
        class_counts: Tensor,
    ) -> None:
        self.url, self.hashes, self.sizes, self.cache = url, hashes, sizes, cache
        self.per_group, self.class_counts = per_group, class_counts
        self._maps: OrderedDict[int, _Samples] = OrderedDict()
        self._ahead = _Ahead()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs; it maps its own."""
        return {**self.__dict__, "_maps": OrderedDict(), "_ahead": _Ahead()}

    def mapped(self, shard: int) -> _Samples:
        """Return the samples of a shard, int16 ``[T]``, mapped from the cache.

        Raises:
            StoreError: if it cannot be fetched.
        """
        found = self._maps.get(shard)
        if found is None:
            found = self._map(shard)
            for other in [one for one in self._maps if not self._is_cached(one)]:
                del self._maps[other]  # as long as it is mapped, a removed file takes space
            self._maps[shard] = found
            while self.per_group and len(self._maps) > self.per_group + MAPPED_BESIDE:
                self._maps.popitem(last=False)
        else:
            self._maps.move_to_end(shard)
        return found

    def fetch(self, shard: int) -> str:
        """Download a shard unless the cache has it, and return the path of its file."""
        key, size = shard_key(self.hashes[shard]), int(self.sizes[shard])
        return str(self.cache.path(self.url, key, self.hashes[shard], size))

    def fetch_all(self) -> None:
        """Download all shards that the cache does not have."""
        missing = [shard for shard in range(len(self.hashes)) if not self._is_cached(shard)]
        if missing:
            gigabytes = sum(int(self.sizes[shard]) for shard in missing) / 1e9
            logger.info("fetching %d shards, %.2f GB, from %s", len(missing), gigabytes, self.url)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(self.fetch, shard) for shard in missing]:
                try:
                    done.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise

    def fetch_ahead(self, shards: Sequence[int]) -> None:
        """Download these shards in the background; a failure is left to whoever reads one."""
        self._ahead.want([shard for shard in shards if not self._is_cached(shard)], self)

    def end_fetching_ahead(self) -> None:
        """Download nothing more in the background; return once nothing is being written."""
        self._ahead.stop()

    def _map(self, shard: int) -> _Samples:
        while True:
            try:
                return np.memmap(self.fetch(shard), SAMPLE_TYPE, mode="r")
            except FileNotFoundError:  # another process has just made room
                continue

    def _is_cached(self, shard: int) -> bool:
        return (self.cache.folder / f"{self.hashes[shard]}.i16").exists()


class _Ahead:
    """A thread that downloads what will be needed."""

    def __init__(self) -> None:
        self._wanted: list[int] = []
        self._thread: threading.Thread | None = None
        self._process = 0

    def want(self, shards: list[int], of: Shards) -> None:
        """Replace what is to be downloaded; processes begin at different places of the list."""
        turn = os.getpid() % max(1, len(shards))
        self._wanted = shards[turn:] + shards[:turn]
        alive = self._thread is not None and self._thread.is_alive()
        if self._wanted and not (alive and self._process == os.getpid()):
            self._process = os.getpid()  # a fork has no threads of its parent
            self._thread = threading.Thread(target=self._work, args=(of,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Drop what is to be downloaded, and wait for the end of what is on its way."""
        self._wanted = []
        if self._thread is not None and self._process == os.getpid():
            self._thread.join()

    def _work(self, of: Shards) -> None:
        while self._wanted:
            try:
                of.fetch(self._wanted.pop(0))
            except (StoreError, IndexError):
                return


@dataclass(frozen=True, slots=True)
class StoredSamples:
    """Samples of a recording in a shard: a slice of them is read from the cache.

    Attributes:
        shards: those of the corpus.
        shard: which of them.
        first: sample in it at which the recording begins.
        n_samples: length of the recording.
        digest: of all samples of the recording; empty for a part of one.
    """

    shards: Shards
    shard: int
    first: int
    n_samples: int
    digest: str = ""

    def __len__(self) -> int:
        return self.n_samples

    def __getitem__(self, index: slice) -> _Samples:
        """Return a slice, int16.

        Raises:
            StoreError: if its shard cannot be fetched.
        """
        whole = self.shards.mapped(self.shard)[self.first : self.first + self.n_samples]
        return whole[index]

    def part(self, first: int, stop: int) -> StoredSamples:
        """Return the samples ``first .. stop - 1``, without reading them."""
        return StoredSamples(self.shards, self.shard, self.first + first, stop - first)


def groups_within(limit_bytes: int, sizes: np.ndarray, most: int) -> int:
    """Return how many shards a group has, so that the cache holds two groups; 0: it holds all.

    Args:
        limit_bytes: size of the cache.
        sizes: of the shards in bytes, int64 ``[S]``.
        most: largest result.

    Raises:
        ValueError: if two shards do not fit.
    """
    if int(sizes.sum()) <= limit_bytes:
        return 0
    largest = int(sizes.max())
    if 2 * largest > limit_bytes:
        raise ValueError(
            f"cache_gb={limit_bytes / 1e9:g} does not hold two shards of {largest / 1e9:.3g} GB; "
            f"raise it to at least {2 * largest / 1e9:.3g}"
        )
    return min(most, limit_bytes // (2 * largest))
