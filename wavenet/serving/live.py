"""Live input of a stream: mel frames, or audio whose mel is computed as it arrives."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from wavenet.features import log_mel_rows
from wavenet.features.mel_config import MelConfig

LIVE_BLOCK = 4
"""Frames that are encoded at once: fewer have less latency and cost more."""


class LiveMel:
    """The frames of ``log_mel`` of a signal that arrives in pieces, each as soon as it is known.

    Args:
        config: settings of the mel.
        filterbank: as for ``log_mel``.
    """

    def __init__(self, config: MelConfig, filterbank: Tensor) -> None:
        self._config, self._filterbank = config, filterbank
        self._known = torch.empty(0, dtype=torch.float32)
        self._skipped = 0  # frames whose samples are dropped
        self._begin = 0  # next frame
        # Far enough back for the reflection, should the signal end here.
        self._behind = (config.pad_samples + 2 * config.n_fft) // config.hop_samples + 1

    def add(self, samples: Tensor) -> Tensor | None:
        """Add samples ``[n]``; returns the frames ``[M, F]`` that are known by now, if any."""
        self._known = torch.cat((self._known, samples))
        config, n_known = self._config, len(self._known)
        stop = (n_known + config.pad_samples - config.n_fft) // config.hop_samples + 1
        frames = self._rows(max(0, stop) + self._skipped)
        keep = max(self._skipped, self._begin - self._behind)
        self._known = self._known[(keep - self._skipped) * config.hop_samples :].clone()
        self._skipped = keep
        return frames

    def finish(self) -> Tensor | None:
        """Return the frames at the end, whose windows reach beyond it."""
        if not len(self._known):
            return None
        return self._rows(self._config.frames(len(self._known)) + self._skipped)

    def _rows(self, stop: int) -> Tensor | None:
        """Frames up to ``stop``."""
        first, count = self._begin - self._skipped, stop - self._begin
        if count < 1:
            return None
        self._begin = stop
        return log_mel_rows(self._known, self._config, first, count, self._filterbank)


class Feed(Iterator[Tensor | None]):
    """Frames from an event loop to the worker's thread: None where the next has not arrived.

    Attributes:
        n_waiting: frames that have not been taken.
        n_frames: that have been put.
    """

    def __init__(self) -> None:
        self._pieces: deque[Tensor] = deque()
        self._ended = False
        self._taken = self.n_frames = 0

    @property
    def n_waiting(self) -> int:
        """Frames that have not been taken."""
        return self.n_frames - self._taken

    def put(self, frames: Tensor | None) -> None:
        """Add frames ``[M, F]``, if there are any."""
        if frames is not None and frames.shape[1]:
            self.n_frames += frames.shape[1]
            self._pieces.append(frames)

    def end(self) -> None:
        """Mark the end."""
        self._ended = True

    def __next__(self) -> Tensor | None:
        ended = self._ended  # before looking: the end comes after the last piece
        if self._pieces:
            piece = self._pieces.popleft()
            self._taken += piece.shape[1]
            return piece
        if ended:
            raise StopIteration
        return None
