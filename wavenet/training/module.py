"""Lightning's view of the loss."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import lightning
import torch
from torch import Tensor

from wavenet.data import WindowPlan
from wavenet.model import WaveNet
from wavenet.training.averaging import Averaging
from wavenet.training.conditioning import ShuffledConditioning, bits_of
from wavenet.training.config import TrainingConfig
from wavenet.training.errors import TrainingError
from wavenet.training.extras import OptimizerFactory
from wavenet.training.finite import all_finite
from wavenet.training.loss import LogProb, bits_per_sample, window_log_prob
from wavenet.training.meters import logs_now


class WaveNetTraining(lightning.LightningModule):
    """Minimises bits per sample with Adam; the learning rate rises and falls.

    Args:
        model: trained in place.
        plan: of the windows.
        config: learning rate and steps.
        averaging: the callback that averages the weights, if they are averaged.
        optimizer: makes another optimizer than Adam, whose learning rate is the peak.

    Attributes:
        decays_over: the steps from and to which the learning rate decays, where the time of a run
            has set them; None: those of the configuration.
    """

    def __init__(
        self,
        model: WaveNet,
        plan: WindowPlan,
        config: TrainingConfig,
        averaging: Averaging | None = None,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        self.model, self.plan, self.config = model, plan, config
        self._averaging, self._optimizer = averaging, optimizer
        self.decays_over: tuple[int, int] | None = None
        self._log_prob: LogProb = partial(window_log_prob, recompute=config.recompute)
        if config.compile:
            self._log_prob = torch.compile(window_log_prob)
        self._step_bits = torch.zeros(())
        self._all_bits = torch.zeros(())  # of all steps: finite while each of them is
        self._nats, self._count = torch.zeros(2, dtype=torch.float64)
        self._shuffled = ShuffledConditioning(plan, config.warmup_steps)
        # The last block's residual output is not used: its weights get no gradient.
        model.stack.blocks[-1].residual_projection.requires_grad_(False)

    @property
    def learnt(self) -> WaveNet:
        """Model that is validated and exported: the averaged one, or else the trained one."""
        averaged = None if self._averaging is None else self._averaging.model
        return self.model if averaged is None else averaged

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Bits per sample of this part of a step; those of the step are logged with its last one.

        Raises:
            TrainingError: at a step that logs, if those of a step so far are not finite, in every
                process alike.
        """
        loss = bits_per_sample(self.model, batch, self.plan, self._log_prob)
        parts = self.trainer.accumulate_grad_batches
        done = loss.detach() / parts
        self._step_bits = done if index % parts == 0 else self._step_bits + done
        if (index + 1) % parts == 0:
            self._all_bits = self._all_bits + self._step_bits
            if logs_now(self.trainer):  # to look at a number makes a GPU wait
                bits = self.trainer.strategy.reduce(self._step_bits, reduce_op="mean")
                assert isinstance(bits, Tensor)  # as a tensor went in
                self.require_finite(weights=False)
                self.log("train/bits", bits, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Collect sums, so that the mean weighs every sample alike."""
        nats, count = self._needed(batch)
        self._nats = self._nats + nats.sum()
        self._count = self._count + count.sum()
        self._shuffled.add(batch, nats, count, lambda other: self._needed(other)[0])

    def _needed(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Nats that each window needs, and its samples that count, ``[B]`` float64."""
        log_prob, mask = self._log_prob(self.learnt, batch, self.plan)
        return -(log_prob * mask).double().sum(-1), mask.double().sum(-1)

    def on_validation_epoch_start(self) -> None:
        """Start the sums."""
        self._nats = torch.zeros((), dtype=torch.float64, device=self.device)
        self._count = torch.zeros((), dtype=torch.float64, device=self.device)
        self._shuffled.start(self.device)

    def on_validation_epoch_end(self) -> None:
        """Bits per sample over all validation windows.

        Raises:
            TrainingError: if they are not finite.
        """
        own = torch.cat([torch.stack([self._nats, self._count]), self._shuffled.sums])
        sums = self.trainer.strategy.reduce(own, reduce_op="sum")
        assert isinstance(sums, Tensor)  # as a tensor went in
        bits = (sums[0] / sums[1] / math.log(2)).float()
        self._require_finite("validation loss", float(bits))
        self.log("valid/bits", bits, prog_bar=True)
        shuffled = bits_of(sums[2:])
        if shuffled is not None:
            self.log("valid/bits_shuffled", shuffled[1])
            self.log("valid/conditioning_gain", shuffled[1] - shuffled[0])
            self._shuffled.judge(shuffled[1] - shuffled[0], self.global_step)

    def require_finite(self, *, weights: bool = True) -> None:
        """Nothing has run away so far: to be asked by every process, before anything is saved.

        Args:
            weights: look at weights, averages and the optimiser's moments, too.

        Raises:
            TrainingError: if the loss of any step, or one of these, is not finite.
        """
        total = self.trainer.strategy.reduce(self._all_bits.to(self.device), reduce_op="sum")
        self._require_finite("loss", float(total))
        if weights:
            moments = (part for o in self.trainer.optimizers for part in o.state.values())
            tensors = [value for part in moments for value in part.values()]
            if not all_finite([*self.parameters(), *self.learnt.parameters(), *tensors]):
                self._require_finite("state of training (weights, averages, moments)", math.nan)

    @property
    def sound(self) -> bool:
        """Return whether all losses of this process and all weights to be exported are finite."""
        return math.isfinite(float(self._all_bits)) and all_finite(self.learnt.parameters())

    def _require_finite(self, name: str, value: float) -> None:
        """Raise TrainingError if training has run away."""
        if not math.isfinite(value):
            raise TrainingError(
                f"the {name} is {value} at step {self.global_step}; the last good model is kept. "
                f"Lower learning_rate={self.config.learning_rate} or "
                f"gradient_clip={self.config.gradient_clip}"
            )

    def configure_optimizers(self) -> Any:
        """Adam (Kingma and Ba 2015) or another, linear warm-up, then decay to zero."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        betas = 0.9, self.config.adam_beta2
        optimizer: torch.optim.Optimizer
        if self._optimizer is None:
            optimizer = torch.optim.Adam(trained, lr=self.config.learning_rate, betas=betas)
        else:
            optimizer = self._optimizer(trained)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule,
                "interval": "step",
                "name": "train/learning_rate",  # as LearningRateMonitor logs it
            },
        }

    def _rate(self, step: int) -> float:
        """Share of the learning rate at a step."""
        config = self.config
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        begin, total = self.decays_over or self._default_decay()
        fallen = min(1.0, max(0.0, (step - begin) / max(1, total - begin)))
        if config.decay == "linear":
            return 1 - fallen
        return 0.5 * (1 + math.cos(math.pi * fallen))

    def _default_decay(self) -> tuple[float, int]:
        """The steps from and to which the learning rate decays by the configuration."""
        config = self.config
        total = config.max_steps
        return max(config.warmup_steps, total * (1 - config.decay_fraction)), total
