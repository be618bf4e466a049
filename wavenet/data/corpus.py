"""A corpus: a folder of audio files, decoded once and split by file.

Every file is read as mono at one sample rate and kept as 16-bit integers, 2 bytes a sample. A file
that cannot be read, or holds digital silence alone, is left out and reported; the rest is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wavenet.audio import AudioError, read_audio

_KINDS = ("aif", "aifc", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "rf64", "w64")
AUDIO_SUFFIXES = frozenset({".wav", *(f".{kind}" for kind in _KINDS)})
"""Files that are tried; everything else in the folder is not audio."""


class CorpusError(ValueError):
    """A corpus that nothing can be trained on."""


@dataclass(frozen=True)
class Utterance:
    """One recording, or a part of one.

    Attributes:
        name: path relative to the corpus, with ``/``.
        samples: int16 ``[T]``.
        speaker: the first folder of the name; empty for a file at the top.
    """

    name: str
    samples: np.ndarray
    speaker: str

    def audio(self, first: int, stop: int) -> Tensor:
        """Samples ``first .. stop - 1`` in [-1, 1], float32, with silence outside the recording."""
        out = torch.zeros(stop - first)
        low, high = max(first, 0), min(stop, len(self.samples))
        if high > low:
            piece = torch.from_numpy(self.samples[low:high].astype(np.float32))
            out[low - first : high - first] = piece / 32768
        return out


@dataclass(frozen=True)
class Corpus:
    """Utterances at one sample rate.

    Attributes:
        utterances: in the order of their names.
        sample_rate: in Hz.
        skipped: one line for every file that could not be used.
    """

    utterances: tuple[Utterance, ...]
    sample_rate: int
    skipped: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        folder: str | Path,
        sample_rate: int,
        *,
        progress: Callable[[Sequence[Path]], Iterable[Path]] = iter,
    ) -> Corpus:
        """Decode every audio file below a folder.

        Args:
            folder: searched recursively.
            sample_rate: to which everything is resampled, in Hz.
            progress: wraps the list of files, to show how far reading is.

        Raises:
            CorpusError: if there is no folder, no audio file in it, or none that can be used.
        """
        folder = Path(folder)
        utterances, skipped = [], []
        paths = find_audio(folder)
        for path in progress(paths):
            name = path.relative_to(folder).as_posix()
            try:
                samples, _ = read_audio(path, sample_rate)
            except AudioError as error:
                skipped.append(str(error))
                continue
            except UnicodeEncodeError:  # libsndfile cannot be asked for it
                skipped.append(f"{str(path)!a}: the name is not UTF-8; rename the file")
                continue
            quantised = torch.round(samples * 32768).clamp(-32768, 32767).to(torch.int16)
            if not bool(quantised.any()):
                skipped.append(f"{path}: digital silence throughout; leave the file out")
                continue
            speaker = name.split("/")[0] if "/" in name else ""
            utterances.append(Utterance(name, quantised.numpy(), speaker))
        if not utterances:
            raise CorpusError(f"none of the {len(paths)} audio files can be used: {skipped[0]}")
        return cls(tuple(utterances), sample_rate, tuple(skipped))

    @property
    def n_samples(self) -> int:
        """Of all utterances together."""
        return sum(len(utterance.samples) for utterance in self.utterances)

    @property
    def duration_s(self) -> float:
        """Of all utterances together."""
        return self.n_samples / self.sample_rate

    @property
    def speakers(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    def split(self, validation_fraction: float) -> tuple[Corpus, Corpus]:
        """Training and validation, by file.

        Which side a file falls on depends on its name alone: it stays there when files are added,
        on every run and machine. Where that would leave a side empty, the files whose hashes lie
        outermost change sides; a corpus of one file gives its last part to validation.

        Args:
            validation_fraction: share of the files, within (0, 1).

        Raises:
            ValueError: for another fraction.
        """
        if not 0 < validation_fraction < 1:
            raise ValueError(
                f"validation_fraction={validation_fraction} must lie between 0 and 1, such as 0.05"
            )
        if len(self.utterances) == 1:
            return self._split_one(validation_fraction)
        ranks = {utterance.name: _unit_hash(utterance.name) for utterance in self.utterances}
        ordered = sorted(self.utterances, key=lambda utterance: ranks[utterance.name])
        n = sum(rank < validation_fraction for rank in ranks.values())
        n = min(max(n, 1), len(ordered) - 1)
        held_out = {utterance.name for utterance in ordered[:n]}
        train = tuple(u for u in self.utterances if u.name not in held_out)
        valid = tuple(u for u in self.utterances if u.name in held_out)
        return replace(self, utterances=train), replace(self, utterances=valid)

    def _split_one(self, validation_fraction: float) -> tuple[Corpus, Corpus]:
        (only,) = self.utterances
        cut = int(len(only.samples) * (1 - validation_fraction))
        if not 0 < cut < len(only.samples):
            raise CorpusError(f"{only.name} is too short to be split into training and validation")
        train = replace(only, samples=only.samples[:cut])
        valid = replace(only, samples=only.samples[cut:])
        return replace(self, utterances=(train,)), replace(self, utterances=(valid,))


def find_audio(folder: str | Path) -> list[Path]:
    """Audio files below a folder, sorted by path; hidden files and folders are passed over.

    Raises:
        CorpusError: if there is no such folder or no audio file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"corpus={str(folder)!r} is not a folder; name one with audio files")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found:
        raise CorpusError(
            f"corpus={str(folder)!r} holds no audio file; looked for "
            f"{', '.join(sorted(AUDIO_SUFFIXES))} in it and below"
        )
    return sorted(found)


def _unit_hash(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
