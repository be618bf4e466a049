"""Samples per second of training; validation, checkpoints and logged samples do not count."""

from __future__ import annotations

import time

import torch
from torch import Tensor


class Throughput:
    """Counts samples between two readings; nothing but ``read`` waits for a GPU."""

    def __init__(self) -> None:
        self.pause()

    def pause(self) -> None:
        """Count anew from the end of the next step on: something else is done than training."""
        self._began_s: float | None = None
        self._samples = torch.zeros((), dtype=torch.float64)

    def count(self, samples: Tensor) -> None:
        """Count a step that has ended: the samples ``[]`` of all its windows."""
        if self._began_s is None:  # what was begun before, or held up, does not count
            self._began_s = time.monotonic()
        else:
            self._samples = self._samples + samples.double()

    def read(self) -> float | None:
        """Return samples per second since the last reading; None if no step was counted."""
        samples = float(self._samples)  # waits for the steps to be done
        now_s = time.monotonic()
        if self._began_s is None or samples == 0:
            return None
        rate = samples / (now_s - self._began_s)
        self._began_s, self._samples = now_s, torch.zeros((), dtype=torch.float64)
        return rate
