"""Reading an audio file: its header, and its samples as mono float32."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio.libraries import BLOCK, AudioError
from wavenet.audio.mixing import Mixer, require_plausible_samples
from wavenet.audio.opening import cut_short, decoding, open_audio
from wavenet.audio.resampling import resample


@dataclass(frozen=True)
class AudioInfo:
    """Header of an audio file.

    >>> write_audio("tone.wav", torch.zeros(16000), 16000)
    >>> info = audio_info("tone.wav")
    >>> info.n_samples / info.sample_rate
    1.0

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
    """Read sample rate, channels and length of an audio file, without decoding all of it.

    The last sample is decoded, which shows that the file is complete.

    >>> write_audio("tone.flac", torch.zeros(16000), 16000)
    >>> audio_info("tone.flac")
    AudioInfo(sample_rate=16000, channels=1, n_samples=16000)

    Raises:
        AudioError: missing, empty, cut short, or not an audio file.
    """
    with open_audio(path) as file:
        info = AudioInfo(file.samplerate, file.channels, file.frames)
        if not file.seekable():  # such as GSM in WAV
            return info
        with decoding(file, path):
            file.seek(info.n_samples - 1)
            found = len(file.read(1))
    if not found:
        raise cut_short(path, info.n_samples)
    return info


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int | None = None,
    *,
    first: int = 0,
    count: int | None = None,
) -> tuple[Tensor, int]:
    """Read a file, or a part of it, as mono: the mean of its channels.

    Reads WAV, FLAC, Ogg and all other formats of libsndfile, integers of 8 to 32 bits and floats;
    and M4A, AAC, WMA and others of FFmpeg with the extra ``media``.
    Values above full scale, in float files or after resampling, are clipped to [-1, 1]; values far
    above it are refused. Channels that cancel each other are not averaged, with a warning. WAV and
    FLAC declare a length and are refused with fewer samples; Ogg is read to its end.

    >>> write_audio("tone.wav", torch.zeros(16000), 16000)
    >>> samples, sample_rate = read_audio("tone.wav", 8000)
    >>> tuple(samples.shape), sample_rate
    ((8000,), 8000)

    Args:
        path: the file.
        sample_rate: resample to this rate in Hz (`resample`); None keeps the rate of the file.
        first: start at this sample of the file.
        count: number of samples; None reads to the end. A part can only be read at the rate of the
            file, since resampling a part alone has artefacts at its edges.

    Returns:
        The samples, float32 `[T]` in [-1, 1], and their sample rate in Hz.

    Raises:
        AudioError: missing, empty, cut short, not audio, with NaN, infinity or integers stored as
            floats, or shorter than the requested part.
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
                f"{path}: samples {first} to {stop} were requested; the file has 0 to {length}"
            )
        samples = torch.from_numpy(np.concatenate(list(mono_blocks(file, path, first, stop))))
    if sample_rate is not None and sample_rate != rate:
        samples = resample(samples, rate, sample_rate)
        if not len(samples):
            raise AudioError(
                f"{path}: {length} samples at {rate} Hz are less than one at {sample_rate} Hz; "
                "leave the file out"
            )
        rate = sample_rate
    return samples.clamp_(-1.0, 1.0), rate


def mono_blocks(
    file: Any, path: str | os.PathLike[str], first: int, stop: int
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield samples `first` to `stop` of an open file as float32 `[n]`, n up to 65536, unclipped.

    Raises:
        AudioError: as `checked_blocks`.
    """
    mixer = Mixer(path, file.channels)
    for block in checked_blocks(file, path, first, stop, max(1, BLOCK // file.channels)):
        yield mixer(block)


def checked_blocks(
    file: Any, path: str | os.PathLike[str], first: int, stop: int, most: int
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield samples `first` to `stop` of an open file as float32 `[n, channels]`, n up to `most`.

    Blocks bound the memory: a damaged header may declare more samples than fit into it.

    Raises:
        AudioError: if samples are missing, or implausible.
    """
    if first:
        with decoding(file, path):
            file.seek(first)
    while first < stop:
        with decoding(file, path):
            block = file.read(min(stop - first, most), dtype="float32", always_2d=True)
        if not len(block):
            raise cut_short(path, file.frames)
        require_plausible_samples(block, path, first, file.subtype)
        yield block
        first += len(block)
