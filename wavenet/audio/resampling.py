"""Resampling of whole signals, and of signals that arrive in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio.libraries import import_soxr, require_rate

LARGEST_RATIO = 2048
"""Largest ratio of two sample rates; those of audio files and of any model are smaller."""


def resample(x: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Resample by the band-limited, linear-phase SoX resampler at its "HQ" quality.

    Sample n of `x` and sample n * to_rate / from_rate of the result have the same time. Not
    differentiable; computed on the CPU.

    >>> tuple(resample(torch.randn(2, 48000), from_rate=48000, to_rate=22050).shape)
    (2, 22050)

    Args:
        x: `[..., T]`, floating point.
        from_rate: the rate of `x`, Hz.
        to_rate: the rate of the result, Hz.

    Returns:
        `[..., T']`, T' = T * to_rate / from_rate to the nearest integer, with x's dtype and device.

    Raises:
        ValueError: a rate that is not a positive integer, or rates too far apart.
    """
    from_rate, to_rate = require_ratio(from_rate, to_rate)
    if from_rate == to_rate:
        return x
    wide = x.detach().to("cpu", torch.float64 if x.dtype == torch.float64 else torch.float32)
    columns = wide.reshape(-1, x.shape[-1]).T.contiguous().numpy()
    y = import_soxr().resample(columns, from_rate, to_rate, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(y.T)).reshape(*x.shape[:-1], len(y)).to(x)


def require_ratio(from_rate: int, to_rate: int) -> tuple[int, int]:
    """Return both rates as Python integers.

    Raises:
        ValueError: one is not a positive integer, or one is more than ``LARGEST_RATIO`` times the
            other, which would take memory without bound.
    """
    low, high = sorted((require_rate("from_rate", from_rate), require_rate("to_rate", to_rate)))
    if high > LARGEST_RATIO * low:
        raise ValueError(
            f"from {from_rate} Hz to {to_rate} Hz is a ratio of more than {LARGEST_RATIO}; one of "
            "the rates is wrong"
        )
    return int(from_rate), int(to_rate)


class BlockResampler:
    """Streaming ``resample``: block after block, without artefacts at their edges.

    Args:
        from_rate: of the input, Hz.
        to_rate: of the output, Hz.
        channels: of both.

    Raises:
        ValueError: as ``resample``.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int) -> None:
        from_rate, to_rate = require_ratio(from_rate, to_rate)
        self._stream: Any = None
        if from_rate != to_rate:
            self._stream = import_soxr().ResampleStream(
                from_rate, to_rate, channels, dtype="float32", quality="HQ"
            )

    def __call__(self, block: np.ndarray[Any, Any], *, last: bool = False) -> Any:
        """Resample a block; the last one returns all remaining samples.

        Args:
            block: float32 ``[T, channels]``, or ``[T]`` for one channel.
            last: whether it is the last block.

        Returns:
            ``[T', channels]`` or ``[T']``.
        """
        if self._stream is None:
            return block
        return self._stream.resample_chunk(np.ascontiguousarray(block), last=last)
