"""Chunk-wise shuffling: the windows of a corpus that is larger than the cache of its shards.

An epoch is a permutation of the shards, cut into groups; the windows of a group are drawn from its
shards alone, in proportion to the length of its recordings. A group has as many windows as its
samples fill, so that an epoch covers each shard once. Permutation, group and place of window i are
pure functions of (seed, i): the same on any number of workers, ranks and restarts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wavenet.data.corpus import Corpus
from wavenet.data.shards import StoredSamples

_SHUFFLING = 5
"""Second word of the random key; those of ``windows`` are 0 to 4."""

_Integers = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Group:
    """Some shards, whose windows follow one another.

    Attributes:
        shards: which.
        utterances: indices of theirs, int64 ``[N]``.
        ends: cumulative lengths of these, int64 ``[N]``.
        following: the shards of the next group.
    """

    shards: tuple[int, ...]
    utterances: _Integers
    ends: _Integers
    following: tuple[int, ...]


class Groups:
    """Which group each window is drawn from.

    Args:
        shard_of: shard of each utterance, int64 ``[N]``.
        lengths: of each utterance in samples, int64 ``[N]``.
        per_group: shards in a group.
        window: samples that a window predicts.
        seed: of the permutations.
    """

    def __init__(
        self, shard_of: _Integers, lengths: _Integers, *, per_group: int, window: int, seed: int
    ) -> None:
        self.per_group, self.seed, self._lengths = per_group, seed, lengths
        self.shards, self._of = np.unique(shard_of, return_inverse=True)
        self._sorted = np.argsort(self._of, kind="stable")
        self._first = np.searchsorted(self._of[self._sorted], np.arange(len(self.shards) + 1))
        samples = np.bincount(self._of, weights=lengths).astype(np.int64)
        self._windows = np.maximum(1, -(-samples // window))
        self.epoch_windows = int(self._windows.sum())
        self._orders: dict[int, tuple[_Integers, _Integers]] = {}
        self._groups: dict[tuple[int, int], Group] = {}

    @classmethod
    def of(cls, corpus: Corpus, window: int, seed: int) -> Groups | None:
        """Return the groups of a corpus in a store; None for one that is drawn from as a whole."""
        if corpus.shards is None or not corpus.shards.per_group:
            return None
        samples = [utterance.samples for utterance in corpus.utterances]
        return cls(
            np.array([one.shard for one in samples if isinstance(one, StoredSamples)], np.int64),
            np.array([len(one) for one in samples], np.int64),
            per_group=corpus.shards.per_group,
            window=window,
            seed=seed,
        )

    def of_window(self, index: int) -> Group:
        """Return the group of window ``index``; it is the same object for all of its windows."""
        epoch, turn = divmod(index, self.epoch_windows)
        _, ends = self._order(epoch)
        which = int(np.searchsorted(ends, turn, side="right"))
        key = epoch, which
        if key not in self._groups:
            if len(self._groups) >= 4:
                self._groups.pop(next(iter(self._groups)))
            self._groups[key] = self._group(epoch, which)
        return self._groups[key]

    def _order(self, epoch: int) -> tuple[_Integers, _Integers]:
        """Return the permutation of an epoch, and the last window of each of its groups, plus 1."""
        if epoch not in self._orders:
            if len(self._orders) >= 2:
                self._orders.pop(next(iter(self._orders)))
            random = np.random.Philox(key=[self.seed, _SHUFFLING], counter=[0, 0, epoch, 0])
            order = np.random.Generator(random).permutation(len(self.shards))
            starts = np.arange(0, len(order), self.per_group)
            self._orders[epoch] = order, np.add.reduceat(self._windows[order], starts).cumsum()
        return self._orders[epoch]

    def _group(self, epoch: int, which: int) -> Group:
        here, n_groups = self._members(epoch, which), len(self._order(epoch)[1])
        last = which + 1 == n_groups
        following = self._members(epoch + 1, 0) if last else self._members(epoch, which + 1)
        found = np.concatenate(
            [self._sorted[self._first[one] : self._first[one + 1]] for one in np.sort(here)]
        )
        return Group(
            tuple(self.shards[here].tolist()),
            found,
            np.cumsum(self._lengths[found]),
            tuple(self.shards[following].tolist()),
        )

    def _members(self, epoch: int, which: int) -> _Integers:
        order, _ = self._order(epoch)
        return order[which * self.per_group : (which + 1) * self.per_group]
