"""A corpus: recordings, decoded once and split by file.

Every recording is mono at one sample rate and stored as 16-bit integers, 2 bytes a sample: in
memory, or mapped from a file of the cache (``wavenet.data.cache``). A recording that cannot be
read, or is digital silence throughout, is skipped and reported; the rest is used.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio import AudioError
from wavenet.data.audiofolder import list_audio
from wavenet.data.recordings import CorpusError, Listing, Recording, decode_all
from wavenet.data.shards import SAMPLE_TYPE, Shards, StoredSamples
from wavenet.data.splitting import copies, overlapping, ranks

_STEP = np.float32(1 / 32768)

Progress = Callable[[Sequence[Recording]], Iterable[Recording]]
"""Wrapper of the recordings that are read, to show progress."""


@dataclass(frozen=True)
class Utterance:
    """One recording, or a part of one.

    >>> speech = Utterance("a.wav", np.arange(8, dtype=np.int16), speaker="ann")
    >>> speech.audio(6, 10) * 32768
    tensor([6., 7., 0., 0.])

    Attributes:
        name: path relative to the corpus, with ``/``.
        samples: int16 ``[T]``; a part of a mapped file is pickled as its path and position. Those
            in a store have a length and slices, ``samples[first:stop]``, which are arrays.
        speaker: name of the speaker; empty where the corpus has none.
        features: file of its features in frames, if it has one.
    """

    name: str
    samples: np.ndarray | StoredSamples
    speaker: str
    features: Path | None = None

    @property
    def n_samples(self) -> int:
        """Length of the recording."""
        return len(self.samples)

    @functools.cached_property
    def peak(self) -> int:
        """Largest magnitude of the samples, of 32768: all of them are read, once in a process."""
        samples = self.samples[:]
        return max(-int(samples.min()), int(samples.max()))

    def audio(self, first: int, stop: int) -> Tensor:
        """Samples ``first .. stop - 1`` in [-1, 1], float32, with silence outside the recording."""
        out = torch.empty(stop - first)
        self.write_audio(first, out.numpy())
        return out

    def write_audio(self, first: int, out: np.ndarray) -> None:
        """Fill out, float32 ``[T]``, with the samples from ``first`` on, as ``audio`` does."""
        low, high = max(first, 0), min(first + len(out), len(self.samples))
        if high <= low:
            out[:] = 0
            return
        out[: low - first] = out[high - first :] = 0
        # a power of two: the product is exact
        np.multiply(self.samples[low:high], _STEP, out=out[low - first : high - first])

    def part(self, first: int, stop: int) -> Utterance:
        """Return the samples ``first .. stop - 1`` as an utterance of the same name."""
        samples = self.samples
        if isinstance(samples, StoredSamples):
            return replace(self, samples=samples.part(first, stop))
        return replace(self, samples=samples[first:stop])

    def __reduce__(self) -> tuple[Any, ...]:
        samples = self.samples
        if not isinstance(samples, np.memmap):
            return Utterance, (self.name, samples, self.speaker, self.features)
        mapped: Any = samples
        beginning = np.frombuffer(mapped._mmap, np.uint8)
        first = (_address(samples) - _address(beginning)) // SAMPLE_TYPE.itemsize
        place = str(samples.filename), first, first + len(samples)
        return _mapped_utterance, (self.name, *place, self.speaker, self.features)


@dataclass(frozen=True)
class Corpus:
    """Utterances at one sample rate.

    >>> for who in ("ann", "bob"):
    ...     wavenet.audio.write_audio(f"wavs/{who}/a.wav", torch.randn(8000) / 10, 16000)
    >>> corpus = Corpus.read("wavs", 16000)
    >>> corpus.duration_s, corpus.speakers
    (1.0, ('ann', 'bob'))
    >>> training, validation = corpus.split(0.5)
    >>> len(training.utterances), len(validation.utterances)
    (1, 1)

    Attributes:
        utterances: in the order of their names.
        sample_rate: in Hz.
        skipped: one line for every file that could not be used.
        content: hash of everything that the samples depend on; empty where it is unknown.
        shards: those of a corpus in a store.
    """

    utterances: tuple[Utterance, ...]
    sample_rate: int
    skipped: tuple[str, ...] = ()
    content: str = ""
    shards: Shards | None = None

    @classmethod
    def read(
        cls,
        source: str | Path | Listing,
        sample_rate: int,
        *,
        trim_db: float | None = None,
        progress: Progress = iter,
    ) -> Corpus:
        """Decode all recordings into memory.

        Args:
            source: a folder, searched recursively, or a listing.
            sample_rate: to which everything is resampled, in Hz.
            trim_db: threshold of trimming at both ends (``recordings.trim``); None: no trimming.
            progress: wraps the recordings, to show progress.

        Raises:
            CorpusError: if there is no folder, no audio file in it, or none that can be used.
        """
        listing = source if isinstance(source, Listing) else list_audio(source)
        decoded = decode_all(progress(listing.recordings), sample_rate, trim_db=trim_db)
        return cls.of(listing.recordings, decoded, sample_rate)

    @classmethod
    def of(
        cls,
        recordings: Sequence[Recording],
        decoded: Iterable[np.ndarray | AudioError | str],
        sample_rate: int,
    ) -> Corpus:
        """Make a corpus from the samples of each recording, or the reason why it has none.

        Raises:
            CorpusError: if none of them can be used.
        """
        utterances, skipped = [], []
        for recording, samples in zip(recordings, decoded, strict=True):
            if isinstance(samples, np.ndarray):
                utterances.append(
                    Utterance(recording.name, samples, recording.speaker, recording.features)
                )
            else:
                skipped.append(str(samples))
        if not utterances:
            raise CorpusError(f"none of the {len(skipped)} audio files can be used: {skipped[0]}")
        return cls(tuple(utterances), sample_rate, tuple(skipped))

    @property
    def n_samples(self) -> int:
        """Total length of all utterances, in samples."""
        return sum(len(utterance.samples) for utterance in self.utterances)

    @property
    def duration_s(self) -> float:
        """Total length of all utterances, in seconds."""
        return self.n_samples / self.sample_rate

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    def spread(self, most: int) -> tuple[Utterance, ...]:
        """Return at most so many utterances, spread over all of them.

        Of a corpus in a store that is larger than the cache they are from few shards, each of which
        is a random sample of the corpus.
        """
        found = self.utterances
        if self.shards is not None and self.shards.per_group:
            samples = [one.samples for one in found]
            shards = sorted({one.shard for one in samples if isinstance(one, StoredSamples)})[:4]
            found = tuple(
                one
                for one in found
                if isinstance(one.samples, StoredSamples) and one.samples.shard in shards
            )
        return found[:: math.ceil(len(found) / most)]

    def split(self, validation_fraction: float) -> tuple[Corpus, Corpus]:
        """Split into training and validation, by file.

        The side of a file depends on its name alone: it does not change when files are added, on
        any run or machine. Copies of one recording, and parts of one file that overlap, stay
        together, so that no recording is in both.
        If a side would be empty, the files with the outermost hashes change sides; a corpus of one
        recording uses its last part for validation.

        Args:
            validation_fraction: share of the files, within (0, 1).

        Raises:
            ValueError: for another fraction.
            CorpusError: if nothing can be held out: a recording of one sample, or parts of one file
                that all overlap.
        """
        if not 0 < validation_fraction < 1:
            raise ValueError(
                f"validation_fraction={validation_fraction} must be between 0 and 1, such as 0.05"
            )
        copied = copies(self.utterances)
        if len(copied) == 1:
            return self._split_one(validation_fraction)
        rank_of = ranks([*copied, *overlapping(self.utterances)])
        levels = sorted(set(rank_of.values()))
        if len(levels) == 1:
            raise CorpusError(
                f"{self.utterances[0].name} and the other recordings overlap, so that none of them "
                "can be held out; list parts that do not overlap, or another file"
            )
        n = sum(level < validation_fraction for level in levels)
        highest = levels[min(max(n, 1), len(levels) - 1) - 1]
        train = tuple(u for u in self.utterances if rank_of[u.name] > highest)
        valid = tuple(u for u in self.utterances if rank_of[u.name] <= highest)
        return replace(self, utterances=train), replace(self, utterances=valid)

    def _split_one(self, validation_fraction: float) -> tuple[Corpus, Corpus]:
        only = self.utterances[0]  # the others are copies of it
        if only.features is not None:
            raise CorpusError(
                f"{only.name} is the only recording, and its features cannot be divided; list at "
                "least two"
            )
        cut = int(len(only.samples) * (1 - validation_fraction))
        if not 0 < cut < len(only.samples):
            raise CorpusError(f"{only.name} is too short to be split into training and validation")
        train, valid = only.part(0, cut), only.part(cut, len(only.samples))
        return replace(self, utterances=(train,)), replace(self, utterances=(valid,))


def map_samples(path: str | Path) -> np.memmap[Any, np.dtype[np.int16]]:
    """Map the samples in a file, int16 ``[T]``; once per process, unless the file has changed."""
    found = os.stat(path)
    return _map_unchanged(str(path), (found.st_ino, found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=8)
def _map_unchanged(path: str, facts: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.int16]]:
    """Map a file; a map of one that was cut since ends the process at the first read (SIGBUS)."""
    return np.memmap(path, SAMPLE_TYPE, mode="r")


def _mapped_utterance(
    name: str, path: str, first: int, stop: int, speaker: str, features: Path | None
) -> Utterance:
    return Utterance(name, map_samples(path)[first:stop], speaker, features)


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
