"""Audio in blocks: files of any length, read and written in memory that does not grow with them.

The samples are those of `wavenet.audio`, bit for bit: the same decoder, the same mean of channels,
the same resampler, which hears block after block instead of all at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio.libraries import BLOCK, AudioError, import_soundfile
from wavenet.audio.ogg import set_ogg_serial
from wavenet.audio.reading import mono_blocks, open_audio
from wavenet.audio.resampling import BlockResampler
from wavenet.audio.writing import FORMATS, require_extension, require_vorbis_rate, stored_values
from wavenet.storage.files import WriteError, atomic_write


def read_blocks(path: str | os.PathLike[str], sample_rate: int) -> Iterator[Tensor]:
    """What `read_audio(path, sample_rate)` returns, in pieces of some 65536 samples of the file.

    Args:
        path: the file.
        sample_rate: to which it is resampled, Hz.

    Yields:
        float32 `[n]` in [-1, 1], n at least 1.

    Raises:
        AudioError: as `read_audio`, when what is wrong with the file is reached.
    """
    with open_audio(path) as file:
        rate, length = int(file.samplerate), int(file.frames)
        blocks: Iterable[np.ndarray[Any, Any]] = _finite(mono_blocks(file, path, 0, length), path)
        if rate != sample_rate:
            blocks = _resampled(blocks, rate, sample_rate)
        n = 0
        for block in blocks:
            n += len(block)
            if len(block):
                yield torch.from_numpy(block.clip(-1.0, 1.0))
    if not n:
        raise AudioError(
            f"{path}: {length} samples at {rate} Hz are less than one at {sample_rate} Hz; "
            "leave the file out"
        )


def count_samples(path: str | os.PathLike[str], sample_rate: int) -> int:
    """How many samples `read_blocks` gives: all are read, so the whole file is known to be good.

    Raises:
        AudioError: as `read_blocks`.
    """
    return sum(len(block) for block in read_blocks(path, sample_rate))


def _finite(
    blocks: Iterable[np.ndarray[Any, Any]], path: str | os.PathLike[str]
) -> Iterator[np.ndarray[Any, Any]]:
    first = 0
    for block in blocks:
        bad = np.flatnonzero(~np.isfinite(block))
        if len(bad):
            raise AudioError(
                f"{path}: sample {first + bad[0]} is {block[bad[0]]}; repair the file or leave "
                "it out"
            )
        yield block
        first += len(block)


def _resampled(
    blocks: Iterable[np.ndarray[Any, Any]], from_rate: int, to_rate: int
) -> Iterator[np.ndarray[Any, Any]]:
    resampler = BlockResampler(from_rate, to_rate, 1)
    for block in blocks:
        yield resampler(block)
    yield resampler(np.empty(0, np.float32), last=True)


class AudioWriter:
    """Takes samples as they are made; `open_writer` makes one."""

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, raw: IO[bytes]) -> None:
        container, self._subtype = FORMATS[require_extension(path)]
        self._path, self._sink = path, _Sink(raw)
        self._waiting: list[Tensor] = []
        with self._explained():
            self._file = import_soundfile().SoundFile(
                self._sink, "w", sample_rate, channels=1, subtype=self._subtype, format=container
            )

    def write(self, samples: Tensor) -> None:
        """Append samples `[T]` in [-1, 1].

        Raises:
            AudioError, OSError: the format or the system takes no more.
        """
        self._waiting.append(samples)
        if sum(map(len, self._waiting)) >= BLOCK:
            *whole, rest = torch.cat(self._waiting).split(BLOCK)
            self._waiting = [] if len(rest) == BLOCK else [rest.clone()]
            self._pass_on([*whole, rest] if not self._waiting else whole)

    def close(self) -> None:
        """Write what is left; raises as `write`."""
        try:
            self._pass_on(self._waiting and [torch.cat(self._waiting)])
        finally:
            with self._explained():
                self._file.close()

    def _pass_on(self, blocks: Iterable[Tensor]) -> None:
        """Always in the same pieces: a Vorbis encoder's bytes depend on them."""
        with self._explained():
            for block in blocks:
                self._file.write(stored_values(block, self._subtype))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, AssertionError) as error:  # soundfile asserts that all was written
            if self._sink.refusal is None:
                raise AudioError(
                    f"{self._path}: the format takes no more samples; write .wav, or shorter files"
                ) from error
        if self._sink.refusal is not None:
            raise self._sink.refusal


class _Sink:
    """A file as libsndfile writes to it; keeps the system's reason, which libsndfile hides."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.refusal: OSError | None = None
        self._raw = raw
        self.tell, self.readinto = raw.tell, raw.readinto  # type: ignore[attr-defined]

    def write(self, data: bytes) -> int:
        done = 0
        try:
            while done < len(data):  # a nearly full disk takes a part, and then refuses
                done += self._raw.write(data[done:])
        except OSError as error:
            self.refusal = error
        return done

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)


@contextlib.contextmanager
def open_writer(path: str | os.PathLike[str], sample_rate: int) -> Iterator[AudioWriter]:
    """Write mono samples in pieces; the file appears when the block ends, and is whole then.

    The file is the one that `write_audio` makes of all samples at once, byte for byte.

    Args:
        path: .wav, .flac or .ogg; missing folders are made.
        sample_rate: Hz.

    Raises:
        AudioError: unknown extension, a rate that the format does not have, too many samples for
            it, or a file that the system refuses to write. Nothing is written then.
    """
    suffix = require_extension(path)
    require_vorbis_rate(path, sample_rate)
    try:
        with atomic_write(path) as temporary, open(temporary, "w+b", buffering=0) as raw:
            writer = AudioWriter(path, sample_rate, raw)
            try:
                yield writer
            finally:
                writer.close()
            if suffix == ".ogg":
                with mmap(raw.fileno(), 0) as pages:
                    set_ogg_serial(pages)
    except WriteError as error:
        raise AudioError(str(error)) from error
