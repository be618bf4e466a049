"""Writing audio files, at once or in chunks; a file appears when it is complete."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio.libraries import BLOCK, AudioError, import_soundfile, require_rate
from wavenet.audio.ogg import set_ogg_serial
from wavenet.audio.sink import Sink, signals_deferred
from wavenet.storage.files import WriteError, atomic_write

logger = logging.getLogger("wavenet")

FULL_SCALE = 32768  # 2^15: the 16-bit integer of 1.0, one above the largest
FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
"""Container and type of samples of each suffix, by libsndfile's names."""
_MOST_IN_WAV = ((1 << 32) - 1024) // 2  # samples of 16 bits: the length field has 32 bits
_FULL = "the format takes no more samples; write .wav, or shorter files"
_VORBIS_RATES = (8000, 192000)  # Hz; libvorbis has no tuning, and libsndfile crashes, far outside


def write_audio(path: str | os.PathLike[str], samples: Tensor, sample_rate: int) -> None:
    """Write mono samples in the format of the extension: 16-bit `.wav` or `.flac`, Vorbis `.ogg`.

    For 16 bits a sample is rounded to the nearest step of 1 / 32768 and clipped at full scale (1.0
    becomes 32767 / 32768). The same samples give the same bytes. The file appears when it is
    complete (`wavenet.storage.files.atomic_write`); missing folders are made.

    >>> tone = 0.5 * torch.sin(torch.arange(16000) * 2 * torch.pi * 440 / 16000)
    >>> write_audio("sounds/tone.ogg", tone, 16000)
    >>> audio_info("sounds/tone.ogg").n_samples
    16000

    Args:
        path: the file; an existing one is replaced.
        samples: `[T]` or `[1, T]` in [-1, 1], any floating dtype, any device.
        sample_rate: Hz.

    Raises:
        AudioError: unknown extension, wrong shape, no samples, NaN or infinity, a rate that the
            format does not have, or a file that cannot be written.
    """
    require_extension(path)
    samples = _require_mono(path, samples)
    with open_writer(path, sample_rate) as writer:
        writer.write(samples)


@contextlib.contextmanager
def open_writer(
    path: str | os.PathLike[str],
    sample_rate: int,
    *,
    channels: int = 1,
    formats: Mapping[str, tuple[str, str]] = FORMATS,
) -> Iterator[AudioWriter]:
    """Write samples in chunks; the complete file appears when the block ends.

    It has the same bytes as `write_audio` of all samples at once. If ctrl-C or SIGTERM ends the
    block, the samples so far are kept as a valid file, unless the path was a file before, which
    then stays unchanged; a warning reports either. Any other exception leaves nothing.

    Args:
        path: the file; missing folders are made.
        sample_rate: Hz.
        channels: of the file.
        formats: those that the path may have, as `FORMATS`.

    Raises:
        AudioError: unknown extension, a rate that the format does not have, too many samples for
            it, NaN or infinity, or a file that cannot be written.
    """
    suffix = require_extension(path, formats)
    sample_rate = require_rate("sample_rate", sample_rate)
    require_vorbis_rate(path, sample_rate)
    was_there = os.path.lexists(path)
    interruption: BaseException | None = None
    try:
        with (
            contextlib.ExitStack() as last,
            atomic_write(path) as temporary,
            open(temporary, "w+b", buffering=0) as raw,
        ):
            writer = AudioWriter(path, sample_rate, raw, channels, formats[suffix])
            try:
                yield writer
            except (KeyboardInterrupt, SystemExit) as error:
                if was_there or not writer.n_samples:
                    _report_discarded(path, was_there)
                    raise
                interruption = error
            finally:
                last.enter_context(signals_deferred())  # until the file has its name
                writer.close()
            if suffix == ".ogg":
                with mmap(raw.fileno(), 0) as pages:
                    set_ogg_serial(pages)
    except WriteError as error:
        raise AudioError(str(error)) from error
    if interruption is not None:
        duration_s = writer.n_samples / sample_rate
        logger.warning("interrupted: %s holds the %.3f s made so far", path, duration_s)
        raise interruption


class AudioWriter:
    """Writer of consecutive samples; `open_writer` makes one.

    Attributes:
        n_samples: written so far, per channel.
        clipped: values above full scale among them, in a format that clips.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        raw: FileIO,
        channels: int,
        kind: tuple[str, str],
    ) -> None:
        self.n_samples = self.clipped = 0
        container, self._subtype = kind
        self._path, self._sink = path, Sink(raw)
        self._waiting: list[Tensor] = []
        self._file: Any = None
        refusal = f"{container} cannot hold {channels} channels at {sample_rate} Hz"
        try:
            with self._explained(f"{refusal}; use another sample rate or extension"):
                self._file = import_soundfile().SoundFile(
                    self._sink,
                    "w",
                    sample_rate,
                    channels=channels,
                    subtype=self._subtype,
                    format=container,
                )
        except OSError:
            if self._file is not None:  # it tries its header once more, while `raw` is open
                with signals_deferred():
                    self._file.close()
            raise

    def write(self, samples: Tensor) -> None:
        """Append samples `[T]`, or `[T, channels]`, in [-1, 1].

        Raises:
            AudioError, OSError: NaN or infinity; or the format or the system accepts no more.
        """
        require_finite(self._path, samples)
        self.n_samples += len(samples)
        self._waiting.append(samples)
        if sum(map(len, self._waiting)) >= BLOCK:
            *whole, rest = torch.cat(self._waiting).split(BLOCK)
            self._waiting = [] if len(rest) == BLOCK else [rest.clone()]
            self._pass_on([*whole, rest] if not self._waiting else whole)

    def close(self) -> None:
        """Write the remaining samples; raises as `write`."""
        try:
            self._pass_on(self._waiting and [torch.cat(self._waiting)])
        finally:
            with self._explained():
                self._file.close()

    def _pass_on(self, blocks: Iterable[Tensor]) -> None:
        """Pass samples to the encoder in fixed blocks, as the bytes of Vorbis depend on them."""
        with self._explained():
            for block in blocks:
                if self._subtype != "FLOAT":
                    self.clipped += int((block.abs() > 1).sum())
                self._file.write(stored_values(block, self._subtype))

    @contextlib.contextmanager
    def _explained(self, reason: str = _FULL) -> Iterator[None]:
        try:
            with signals_deferred():
                yield
        except (RuntimeError, AssertionError) as error:  # soundfile asserts that all was written
            if self._sink.refusal is None:
                raise AudioError(f"{self._path}: {reason}") from error
        if self._sink.refusal is not None:
            raise self._sink.refusal


def require_room(path: str | os.PathLike[str], n_samples: int) -> None:
    """Check, before long work, that such a file can hold that many samples."""
    suffix = require_extension(path)
    if suffix == ".wav" and n_samples > _MOST_IN_WAV:
        raise AudioError(f"{path}: {n_samples} samples are more than a WAV holds; write .flac")


def require_finite(path: str | os.PathLike[str], samples: Tensor) -> None:
    """Raise AudioError for samples that are NaN or infinite; `path` is their file."""
    if not bool(torch.isfinite(samples).all()):
        bad = int((~torch.isfinite(samples)).sum())
        raise AudioError(
            f"{path}: {bad} samples are NaN or infinite; check what made them: a model with "
            "damaged weights, or a mel in another unit"
        )


def require_vorbis_rate(path: str | os.PathLike[str], sample_rate: int) -> None:
    """Raise AudioError if `path` is a Vorbis file, and Vorbis does not support this rate."""
    low, high = _VORBIS_RATES
    if Path(path).suffix.lower() == ".ogg" and not low <= sample_rate <= high:
        raise AudioError(
            f"{path}: sample_rate {sample_rate} is outside Vorbis's {low} to {high} Hz; "
            "resample, or write .wav"
        )


def require_extension(
    path: str | os.PathLike[str], formats: Mapping[str, tuple[str, str]] = FORMATS
) -> str:
    """Return the extension, in lower case; a check of the path before long work.

    >>> require_extension("speech.FLAC")
    '.flac'

    Raises:
        AudioError: unknown extension.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise AudioError(f"{path}: unknown extension {suffix!r}; use one of {', '.join(formats)}")
    return suffix


def stored_values(samples: Tensor, subtype: str) -> np.ndarray[Any, Any]:
    """Convert samples for libsndfile: "PCM_16" to int16, others to float32; "FLOAT" unclipped."""
    if subtype == "PCM_16":
        steps = (samples * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)
        return steps.to(torch.int16).numpy()
    return (samples if subtype == "FLOAT" else samples.clamp(-1.0, 1.0)).to(torch.float32).numpy()


def _report_discarded(path: str | os.PathLike[str], was_there: bool) -> None:
    if was_there:
        logger.warning("interrupted: %s is as it was; what was made is discarded", path)
    else:
        logger.warning("interrupted: %s is not written; nothing was made yet", path)


def _require_mono(path: str | os.PathLike[str], samples: Tensor) -> Tensor:
    """Return the samples `[T]` on the CPU, in a dtype that represents every step of 16 bits."""
    if not isinstance(samples, Tensor) or not samples.is_floating_point():
        kind = samples.dtype if isinstance(samples, Tensor) else type(samples).__name__
        raise AudioError(f"{path}: samples are {kind}; give a floating-point tensor in [-1, 1]")
    if samples.ndim > 2 or samples.ndim == 0 or (samples.ndim == 2 and len(samples) != 1):
        shape = list(samples.shape)
        raise AudioError(f"{path}: samples have shape {shape}; give [T] or [1, T], one row a file")
    if not samples.numel():
        raise AudioError(f"{path}: there are no samples to write; give at least one")
    dtype = torch.float64 if samples.dtype == torch.float64 else torch.float32
    return samples.detach().to("cpu", dtype).reshape(-1)
