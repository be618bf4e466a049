"""The exponential moving average of the weights (Polyak and Juditsky 1992), by Lightning.

Lightning's callback keeps, updates, saves and restores the average. What it would also do is swap
average and weights before and after each validation. Here nothing is swapped: validation and the
exported model use the average where it is, so that whatever interrupts them, the weights are the
weights and the average is the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from wavenet.model import WaveNet


class Averaging(WeightAveraging):
    """Keeps an average of ``WaveNetTraining.model`` that ends well also in a short run.

    Before update n the decay is at most (1 + n) / (10 + n), as in TensorFlow's
    ``ExponentialMovingAverage``: early averages forget the weights that training began with.

    Args:
        decay: in [0, 1): the average spans about the last ``1 / (1 - decay)`` steps.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=partial(_update, decay))

    @property
    def model(self) -> WaveNet | None:
        """The average; None before ``fit`` has begun."""
        if self._average_model is None:
            return None
        module: Any = self._average_model.module  # a copy of the WaveNetTraining
        model: WaveNet = module.model
        return model

    def on_validation_epoch_start(self, *_: Any) -> None:
        """Nothing is swapped."""

    def on_validation_epoch_end(self, *_: Any) -> None:
        """Nothing is swapped back."""

    def on_train_end(self, *_: Any) -> None:
        """The weights stay: a checkpoint of the end is one of them."""


def _update(
    decay: float, averages: Sequence[Tensor], weights: Sequence[Tensor], n_averaged: Tensor | int
) -> None:
    n = int(n_averaged)
    share = 1 - min(decay, (1 + n) / (10 + n))
    torch._foreach_lerp_(list(averages), list(weights), share)
