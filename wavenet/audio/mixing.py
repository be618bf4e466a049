"""Down-mixing of a file to mono, block after block, and checks of its samples."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

import numpy as np

from wavenet.audio.libraries import AudioError

logger = logging.getLogger("wavenet")

LARGEST_SAMPLE = 16.0
"""Largest plausible sample, 24 dB above full scale: below are loud float recordings, above
integers that were stored as floats."""

_AUDIBLE_POWER = 1e-8
"""Power, -80 dB, below which a block is too quiet to compare channels."""
_CANCELLED = 0.01
"""Power of the mean of C channels, relative to uncorrelated ones: C for equal channels, 0 for
two of opposite phase."""


class Mixer:
    """Down-mixes the blocks of one file to mono: the mean of its channels.

    If the channels cancel each other, as in a stereo recording with one channel inverted, it keeps
    the loudest channel instead, with a warning. The first audible block decides.

    Args:
        path: of the file, for the warning.
        channels: of the file.
    """

    def __init__(self, path: str | os.PathLike[str], channels: int) -> None:
        self._path, self._decided = path, channels == 1
        self._channel = 0 if channels == 1 else None

    def __call__(self, block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """``[T, channels]`` to ``[T]``."""
        if not self._decided:
            self._decide(block)
        mono: np.ndarray[Any, Any] = (
            block.mean(axis=1) if self._channel is None else block[:, self._channel]
        )
        return mono

    def _decide(self, block: np.ndarray[Any, Any]) -> None:
        powers = np.square(block, dtype=np.float64).mean(axis=0)
        if powers.max() < _AUDIBLE_POWER:
            return
        self._decided = True
        uncorrelated = powers.sum() / len(powers) ** 2
        if np.square(block.mean(axis=1), dtype=np.float64).mean() < _CANCELLED * uncorrelated:
            self._channel = int(powers.argmax())
            _report_cancelled(os.fspath(self._path), self._channel + 1)


@functools.lru_cache(maxsize=1024)
def _report_cancelled(path: str, channel: int) -> None:
    """Warn once per file, which may be read several times."""
    logger.warning("%s: its channels cancel each other; channel %d alone is used", path, channel)


def require_plausible_samples(
    block: np.ndarray[Any, Any], path: str | os.PathLike[str], first: int, subtype: str
) -> None:
    """Check that samples are finite, and not far above full scale.

    Args:
        block: ``[T, channels]``.
        path: of the file.
        first: number of the block's first sample.
        subtype: of the file, as libsndfile names it.

    Raises:
        AudioError: for the first such sample.
    """
    plausible = np.abs(block) <= LARGEST_SAMPLE  # false for NaN
    if plausible.all():
        return
    row = int(np.flatnonzero(~plausible.all(axis=1))[0])
    value = block[row][~plausible[row]][0]
    sample = f"{path}: sample {first + row} is {value:g}"
    if not np.isfinite(value):
        raise AudioError(f"{sample}; repair the file or leave it out")
    if subtype in ("FLOAT", "DOUBLE"):
        raise AudioError(
            f"{sample}, where full scale is 1: integers stored as floats? divide all samples by "
            "the integers' full scale, 32768 for 16 bits"
        )
    raise AudioError(f"{sample}, far beyond full scale; copy or download the file again")
