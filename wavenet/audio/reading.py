"""What an audio file holds: its header, and its samples as mono float32."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio.libraries import BLOCK, AudioError, import_soundfile
from wavenet.audio.resampling import resample

# Above this a length is a placeholder: libsndfile gives 2^63 - 1 for a FLAC without a sample count.
_UNKNOWN_LENGTH = 1 << 62
# In a WAV made by a pipe the writer leaves the greatest length it can, signed or unsigned.
_WAV_PLACEHOLDER = 0x7FFFF000


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        sample_rate: Hz.
        channels: 1 is mono.
        n_samples: samples per channel.
    """

    sample_rate: int
    channels: int
    n_samples: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Sample rate, channels and length of an audio file, without decoding all of it.

    The last sample is decoded, which shows that the file is complete.

    Raises:
        AudioError: missing, empty, cut short, or not an audio file.
    """
    with open_audio(path) as file:
        info = AudioInfo(file.samplerate, file.channels, file.frames)
        if not file.seekable():  # such as GSM in WAV
            return info
        try:
            file.seek(info.n_samples - 1)
            found = len(file.read(1))
        except RuntimeError as error:  # soundfile.SoundFileError is one
            raise _cut_short(path, info.n_samples) from error
    if not found:
        raise _cut_short(path, info.n_samples)
    return info


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int | None = None,
    *,
    first: int = 0,
    count: int | None = None,
) -> tuple[Tensor, int]:
    """Read a file, or a part of it, as mono: the mean of its channels.

    Reads WAV, FLAC, Ogg and what else libsndfile knows, integers of 8 to 32 bits and floats. Values
    beyond full scale, which float files and resampling can have, are clipped to [-1, 1]. WAV and
    FLAC promise a length, and with fewer samples are refused; Ogg is read as far as it goes.

    Args:
        path: the file.
        sample_rate: resample to this rate in Hz (`resample`); None keeps the rate of the file.
        first: start at this sample of the file.
        count: read so many samples; None reads to the end. A part can only be read at the rate of
            the file, since the resampler would hear the edges of the part.

    Returns:
        The samples, float32 `[T]` in [-1, 1], and their sample rate in Hz.

    Raises:
        AudioError: missing, empty, cut short, not audio, holding NaN or infinity, or shorter than
            the part that was asked for.
    """
    with open_audio(path) as file:
        rate, length = int(file.samplerate), int(file.frames)
        if sample_rate not in (None, rate) and (first, count) != (0, None):
            raise AudioError(
                f"{path}: a part of a file of {rate} Hz cannot be read at {sample_rate} Hz; "
                "resample the file first, or read all of it"
            )
        stop = length if count is None else first + count
        if not 0 <= first < stop <= length:
            raise AudioError(
                f"{path}: samples {first} to {stop} were asked for; the file holds 0 to {length}"
            )
        samples = _read_mono(file, path, first, stop)
    if sample_rate is not None and sample_rate != rate:
        samples = resample(samples, rate, sample_rate)
        if not len(samples):
            raise AudioError(
                f"{path}: {length} samples at {rate} Hz are less than one at {sample_rate} Hz; "
                "leave the file out"
            )
        rate = sample_rate
    return samples.clamp_(-1.0, 1.0), rate


def open_audio(path: str | os.PathLike[str]) -> Any:
    """Open `path` as a soundfile.SoundFile that has samples, all that its header promises.

    Raises:
        AudioError: as `read_audio`.
    """
    soundfile = import_soundfile()
    try:  # where libsndfile says "System error", the system gives its own reason
        with open(path, "rb") as raw:
            empty = not raw.read(1)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    if empty:
        raise AudioError(f"{path}: the file is empty (0 bytes); remove it or make it again")
    try:
        file = soundfile.SoundFile(path)
    except (RuntimeError, TypeError) as error:  # TypeError: .raw, which has no header
        raise AudioError(
            f"{path}: not an audio file that can be read, whatever its name says; "
            "remove it or convert it to wav, flac or ogg"
        ) from error
    try:
        _require_samples(file, path)
    except AudioError:
        file.close()
        raise
    return file


def _require_samples(file: Any, path: str | os.PathLike[str]) -> None:
    """Refuse a file without samples, of unknown length, or a WAV with fewer than its header says.

    libsndfile shortens a truncated WAV silently; its log keeps the length that the header promised.
    """
    if file.frames <= 0:
        raise AudioError(f"{path}: the file holds no samples; remove it or make it again")
    if file.frames >= _UNKNOWN_LENGTH:
        raise AudioError(
            f"{path}: the header does not say how many samples there are; convert the file anew"
        )
    lengths = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if lengths is not None:
        promised, present = int(lengths[1]), int(lengths[2])
        if present < promised < _WAV_PLACEHOLDER:
            raise _cut_short(path, file.frames * promised // max(present, 1))


def _cut_short(path: str | os.PathLike[str], promised: int) -> AudioError:
    return AudioError(
        f"{path}: cut short or damaged: not all of its {promised} samples can be decoded; "
        "copy or download it again"
    )


def _read_mono(file: Any, path: str | os.PathLike[str], first: int, stop: int) -> Tensor:
    """Samples `first` to `stop` as float32 `[T]`, checked to be all there and finite.

    In blocks: a damaged header may promise more than the memory holds.
    """
    samples = torch.from_numpy(np.concatenate(list(mono_blocks(file, path, first, stop))))
    bad = torch.nonzero(~torch.isfinite(samples))
    if len(bad):
        raise AudioError(
            f"{path}: sample {first + int(bad[0])} is {samples[bad[0]].item()}, and {len(bad)} in "
            "all are not finite; repair the file or leave it out"
        )
    return samples


def mono_blocks(
    file: Any, path: str | os.PathLike[str], first: int, stop: int
) -> Iterator[np.ndarray[Any, Any]]:
    """Samples `first` to `stop` of an open file as float32 `[n]`, n up to 65536, not yet clipped.

    Raises:
        AudioError: not all of them are there.
    """
    missing = stop - first
    try:
        if first:
            file.seek(first)
        while missing:
            block = file.read(min(missing, BLOCK), dtype="float32", always_2d=True)
            if not len(block):
                raise _cut_short(path, file.frames)
            yield block[:, 0] if file.channels == 1 else block.mean(axis=1)
            missing -= len(block)
    except RuntimeError as error:
        raise _cut_short(path, file.frames) from error
