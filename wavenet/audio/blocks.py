"""Audio in blocks: files of any length, read in constant memory.

The samples are those of `read_audio`, bit for bit: the same decoder, the same mean of channels, and
the same resampler, applied block by block.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio.libraries import AudioError
from wavenet.audio.opening import open_audio
from wavenet.audio.reading import mono_blocks
from wavenet.audio.resampling import BlockResampler


def read_blocks(path: str | os.PathLike[str], sample_rate: int) -> Iterator[Tensor]:
    """Yield the samples of `read_audio(path, sample_rate)` in blocks of about 65536.

    Args:
        path: the file.
        sample_rate: to which it is resampled, Hz.

    Yields:
        float32 `[n]` in [-1, 1], n at least 1.

    Raises:
        AudioError: as `read_audio`, when reading gets to the defect.
    """
    with open_audio(path) as file:
        rate, length = int(file.samplerate), int(file.frames)
        blocks: Iterable[np.ndarray[Any, Any]] = mono_blocks(file, path, 0, length)
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
    """Count the samples of `read_blocks`; all are read, which checks the whole file.

    Raises:
        AudioError: as `read_blocks`.
    """
    return sum(len(block) for block in read_blocks(path, sample_rate))


def _resampled(
    blocks: Iterable[np.ndarray[Any, Any]], from_rate: int, to_rate: int
) -> Iterator[np.ndarray[Any, Any]]:
    resampler = BlockResampler(from_rate, to_rate, 1)
    for block in blocks:
        yield resampler(block)
    yield resampler(np.empty(0, np.float32), last=True)
