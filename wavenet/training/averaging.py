"""The exponential moving average of the weights (Polyak and Juditsky 1992).

torch's ``AveragedModel`` keeps its number of updates on the device, and waits for it at every step;
here the number is a plain one.
"""

from __future__ import annotations

import copy

import torch

from wavenet.model import WaveNet


class Average:
    """Average of a model's weights that ends well also in a short run.

    Before update n the decay is at most (1 + n) / (10 + n), as in TensorFlow's
    ``ExponentialMovingAverage``: early averages forget the weights that training began with.

    Args:
        model: on the device where the average shall be.
        decay: in [0, 1): the average spans about the last ``1 / (1 - decay)`` steps.

    Attributes:
        model: a copy with the averaged weights, and the buffers of the last step.
        updates: how many weights were included.
    """

    def __init__(self, model: WaveNet, decay: float) -> None:
        self.model, self.decay = copy.deepcopy(model), decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: WaveNet) -> None:
        """Include the weights after a step; the first ones replace those of the beginning."""
        n = self.updates
        share = 1 - min(self.decay, (1 + n) / (10 + n)) if n else 1.0
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), share)
        for own, found in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(found)  # such as the statistics of a batch normalization
        self.updates += 1
