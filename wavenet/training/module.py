"""The loss of a run as a module, and the sums of its validation."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from wavenet.data import WindowPlan
from wavenet.model import WaveNet
from wavenet.training.conditioning import ShuffledConditioning
from wavenet.training.config import TrainingConfig
from wavenet.training.loss import LogProb, bits_per_sample, window_log_prob


class WaveNetTraining(nn.Module):
    """Bits per sample of batches of windows; its parameters are those of the model.

    Args:
        model: trained in place.
        plan: of the windows.
        config: of the run.

    Attributes:
        shuffled: bits with another window's conditioning, collected by validation.
    """

    def __init__(self, model: WaveNet, plan: WindowPlan, config: TrainingConfig) -> None:
        super().__init__()
        self.model, self.plan, self.config = model, plan, config
        self._log_prob: LogProb = partial(window_log_prob, recompute=config.recompute)
        if config.compile:
            self._log_prob = torch.compile(window_log_prob)
        self._sums = torch.zeros(2, dtype=torch.float64)
        self.shuffled = ShuffledConditioning(plan, config.warmup_steps)
        # The last block's residual output is not used: its weights get no gradient.
        model.stack.blocks[-1].residual_projection.requires_grad_(False)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Return ``training_step``: the call that is shared among processes."""
        return self.training_step(batch)

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the bits per sample ``[]`` of one part of a step."""
        return bits_per_sample(self.model, batch, self.plan, self._log_prob)

    def start_validation(self, device: torch.device) -> None:
        """Forget the sums of the validation before."""
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self.shuffled.start(device)

    def validation_step(self, learnt: WaveNet, batch: dict[str, Tensor]) -> None:
        """Collect sums, so that the mean weighs every sample alike.

        Args:
            learnt: the model that is validated: the trained one, or its average.
            batch: windows, as ``Windows`` makes them, collated.
        """

        def needed(windows: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            """Nats that each window needs, and its samples that count, ``[B]`` float64."""
            log_prob, mask = self._log_prob(learnt, windows, self.plan)
            return -(log_prob * mask).double().sum(-1), mask.double().sum(-1)

        nats, count = needed(batch)
        self._sums = self._sums + torch.stack([nats.sum(), count.sum()])
        self.shuffled.add(batch, nats, count, lambda other: needed(other)[0])

    def validation_sums(self) -> Tensor:
        """Return nats and samples, then ``ShuffledConditioning.sums``: ``[5]`` float64."""
        return torch.cat([self._sums, self.shuffled.sums])
