"""Resampling of audio that comes in blocks, without hearing the edges of the blocks."""

from __future__ import annotations

from typing import Any

import numpy as np


class BlockResampler:
    """SoX's resampler at its "HQ" quality, as ``wavenet.audio.resample``, block after block.

    Args:
        from_rate: of what comes in, Hz.
        to_rate: of what goes out, Hz.
        channels: of both.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int) -> None:
        self._stream: Any = None
        if from_rate != to_rate:
            import soxr

            self._stream = soxr.ResampleStream(
                from_rate, to_rate, channels, dtype="float32", quality="HQ"
            )

    def __call__(self, block: np.ndarray[Any, Any], *, last: bool = False) -> Any:
        """``[T, channels]`` to what is due by now ``[T', channels]``; all the rest at the last."""
        if self._stream is None:
            return block
        return self._stream.resample_chunk(np.ascontiguousarray(block), last=last)
