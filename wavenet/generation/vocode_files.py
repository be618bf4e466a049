"""Vocode files: many in one batch, each written while it is made, each whole or not there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wavenet.audio import AudioError
from wavenet.audio.writing import open_writer
from wavenet.data.recordings import AUDIO_SUFFIXES, walk_files
from wavenet.features.mel_config import MelConfig
from wavenet.features.mel_files import MelFileError
from wavenet.generation.batching import BatchedVocoder
from wavenet.generation.mel_sources import Source, open_source
from wavenet.generation.options import SamplingOptions
from wavenet.model import WaveNet
from wavenet.storage.paths import is_inside, is_same_file

logger = logging.getLogger("wavenet")

_Writing = Generator[None, Tensor | None, None]


@dataclass(frozen=True)
class Job:
    """An input file, and the file to write."""

    source: Path
    out: Path


@dataclass(frozen=True)
class Outcome:
    """Result of the jobs.

    Attributes:
        written: how many files.
        n_samples: in all of them.
        failures: one line for every file that was left out.
    """

    written: int
    n_samples: int
    failures: tuple[str, ...]


def jobs_of_folder(
    folder: Path, out: Path, *, bare_mels: bool = False
) -> tuple[list[Job], list[str]]:
    """One job for each audio file and stored mel below a folder: the same path below ``out``, .wav.

    Args:
        folder: searched with its subfolders, but for ``out``.
        out: the folder to write to.
        bare_mels: whether ``.npy`` files are mels.

    Returns:
        The jobs, and a line for every file whose output would take the place of another file.

    Raises:
        ValueError: if there is no such file, or ``out`` is the folder itself or a file.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; a folder of files needs a folder to write to")
    if is_same_file(folder, out):
        raise ValueError(f"{out} would be written over; name another folder")
    suffixes = {*AUDIO_SUFFIXES, ".npz", *([".npy"] if bare_mels else [])}
    files = _outside(sorted(walk_files(folder)), out if is_inside(out, folder) else None)
    found = [path for path in files if path.suffix.lower() in suffixes]
    if not found:
        raise ValueError(
            f"{folder} holds no file to vocode; looked for audio and for mels, {_mels(bare_mels)}, "
            "in it and below"
        )
    n_bare = 0 if bare_mels else sum(path.suffix.lower() == ".npy" for path in files)
    if n_bare:
        logger.warning(
            "passed over: %d .npy files in %s; --mel-config makes mels of them", n_bare, folder
        )
    inputs = {_identity(path) for path in found}
    taken: dict[Path, Path] = {}
    refused = []
    for path in found:
        target = (out / path.relative_to(folder)).with_suffix(".wav")
        if target in taken:
            refused.append(f"{path}: {target} is already that of {taken[target]}; rename one")
        elif target.exists() and _identity(target) in inputs:
            refused.append(f"{path}: {target} would be written over; name another folder")
        else:
            taken[target] = path
    return [Job(path, target) for target, path in taken.items()], refused


def _mels(bare_mels: bool) -> str:
    return ".npz and .npy" if bare_mels else ".npz (and with --mel-config .npy)"


def _outside(paths: list[Path], out: Path | None) -> list[Path]:
    """Paths that are not inside a folder, however it is spelled."""
    if out is None:
        return paths
    inside: dict[Path, bool] = {}
    for path in paths:
        if path.parent not in inside:
            inside[path.parent] = is_inside(path.parent, out)
    return [path for path in paths if not inside[path.parent]]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def vocode_files(
    model: WaveNet,
    jobs: Iterable[Job],
    options: SamplingOptions,
    *,
    mel_config: MelConfig | None = None,
    batch_size: int = 8,
    report: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda made, total: None,
) -> Outcome:
    """Read each file once, then synthesize all that can be used, the longest first.

    What is written for a file depends on that file and the options alone.

    Args:
        model: a mel-conditioned one.
        jobs: what to read and to write; all are read before the first is synthesized.
        options: how samples are drawn.
        mel_config: the settings of bare ``.npy`` mels.
        batch_size: files that are synthesized at once.
        report: gets the line of a file that is left out, at once.
        progress: gets the samples made since the last call, and those that there will be.

    Raises:
        ValueError: if the options do not fit the model.
    """
    failures: list[str] = []

    def fail(line: str) -> None:
        failures.append(line)
        report(line)

    found: list[tuple[Source, Path]] = []
    n_jobs = 0
    for job in jobs:
        n_jobs += 1
        try:
            found.append((open_source(job.source, model, mel_config), job.out))
        except (AudioError, MelFileError) as error:
            fail(str(error))
        except UnicodeEncodeError:  # libsndfile cannot be asked for it
            fail(f"{str(job.source)!a}: the name is not UTF-8; rename the file")
    found.sort(key=lambda pair: -pair[0].n_samples)
    total = sum(source.n_samples for source, _ in found)
    progress(0, total)
    writings = _Writings(found, model.sample_rate)
    changed: dict[int, str] = {}
    mels = (_read_again(i, source, changed) for i, (source, _) in enumerate(found))
    vocoder = BatchedVocoder(
        model,
        mels,
        options,
        batch_size=min(batch_size, max(1, len(found))),
        n_samples=[source.n_samples for source, _ in found],
    )
    try:
        for chunks in vocoder:
            for number, samples, ended in chunks:
                try:
                    if number in changed:
                        raise MelFileError(changed[number])
                    progress(writings.add(number, samples, ended), total)
                except (AudioError, MelFileError, OSError) as error:
                    fail(str(error))
                    writings.drop(number)
                    vocoder.drop(number)
    except (KeyboardInterrupt, SystemExit) as error:
        if n_jobs == 1:
            writings.keep(error)
        else:
            logger.warning(
                "interrupted: %d of %d files are whole; nothing is left of the others",
                writings.written,
                n_jobs,
            )
        raise
    finally:
        writings.abandon()
    return Outcome(writings.written, writings.n_samples, tuple(failures))


def _read_again(number: int, source: Source, changed: dict[int, str]) -> Iterator[Tensor]:
    """Yield a file's frames; if it has changed meanwhile, note why in ``changed`` and end."""
    first = True
    try:
        for piece in source.frames():
            yield piece
            first = False
    except (AudioError, MelFileError) as error:
        changed[number] = str(error)
        if first:  # a mel has a frame
            yield torch.zeros(source.n_mels, 1)


class _Writings:
    """The files that are being written.

    Attributes:
        written: how many are whole.
        n_samples: in those.
    """

    def __init__(self, found: list[tuple[Source, Path]], sample_rate: int) -> None:
        self._found, self._rate = found, sample_rate
        self._left = [source.n_samples for source, _ in found]
        self._open: dict[int, _Writing] = {}
        self.written = self.n_samples = 0

    def add(self, number: int, samples: Tensor, ended: bool) -> int:
        """Append to a file; a mel may describe some samples more than it was made from.

        Returns:
            How many samples were taken.

        Raises:
            AudioError: if they cannot be written; nothing is left of the file then.
        """
        if number not in self._open:
            self._open[number] = _write(self._found[number][1], self._rate)
            next(self._open[number])
        taken = samples[: self._left[number]]
        self._left[number] -= len(taken)
        if len(taken):
            self._open[number].send(taken)
        if ended:
            self._finish(number)
        return len(taken)

    def drop(self, number: int) -> None:
        """Leave nothing of a file."""
        if number in self._open:
            self._open.pop(number).close()

    def abandon(self) -> None:
        """Leave nothing of what is not whole."""
        for number in list(self._open):
            self.drop(number)

    def keep(self, interruption: BaseException) -> None:
        """Make whole files of what there is of each, as ``open_writer`` does when interrupted."""
        for number in list(self._open):
            with contextlib.suppress(type(interruption)):
                self._open.pop(number).throw(interruption)

    def _finish(self, number: int) -> None:
        writing = self._open.pop(number)
        next(writing, None)
        self.written += 1
        self.n_samples += self._found[number][0].n_samples


def _write(path: Path, sample_rate: int) -> _Writing:
    """Takes samples by ``send``; ``next`` makes the file whole, ``close`` leaves nothing of it."""
    with open_writer(path, sample_rate) as writer:
        while (samples := (yield)) is not None:
            writer.write(samples)
