"""Speed and norm of the gradient, which a run logs beside its bits.

Nothing here waits for a GPU at other steps. Lightning's ``LearningRateMonitor`` logs the rate. Its
``ThroughputMonitor`` counts batches and items; here a step's windows may hold less than they have
room for, and validation, checkpoints and logged samples are to be left out.
"""

from __future__ import annotations

import time
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor


def logs_now(trainer: lightning.Trainer) -> bool:
    """Return whether the values logged in the current step will be written."""
    every = logging_interval(trainer)
    return every > 0 and (trainer.global_step + 1) % every == 0


def logging_interval(trainer: lightning.Trainer) -> int:
    """Steps between those that log; 0 where none does."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by a connector
    return every


class Meters(Callback):
    """``train/gradient_norm`` before clipping, ``train/samples_per_second``, and a baseline.

    Args:
        constant_bits: those of the best constant distribution; a line beside ``valid/bits``.
    """

    def __init__(self, constant_bits: float) -> None:
        self.constant_bits = constant_bits
        self._began_s: float | None = None
        self._samples = torch.zeros((), dtype=torch.float64)

    def on_before_optimizer_step(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Log the norm of the gradient before clipping, after processes have shared theirs."""
        if logs_now(trainer):
            found = [p.grad for p in pl_module.parameters() if p.grad is not None]
            pl_module.log("train/gradient_norm", torch.nn.utils.get_total_norm(found))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: dict[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Count the step's samples, and log their rate.

        ``batch["samples"]`` is the same in every process: the mean over all parts of the step.
        """
        if self._began_s is None:  # what was begun before, or held up, does not count
            self._begin(time.monotonic())
            return
        self._samples = self._samples + batch["samples"].double() * trainer.world_size
        step_ends = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if step_ends and trainer.global_step % max(1, logging_interval(trainer)) == 0:
            samples = float(self._samples)  # waits for the steps to be done
            now_s = time.monotonic()
            pl_module.log("train/samples_per_second", samples / (now_s - self._began_s))
            self._begin(now_s)

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Log the baseline."""
        pl_module.log("valid/bits_constant", self.constant_bits)

    def on_validation_start(self, *_: Any) -> None:
        """Pause: validation is not training."""
        self.pause()

    def on_save_checkpoint(self, *_: Any) -> None:
        """Pause: saving is not training."""
        self.pause()

    def pause(self) -> None:
        """Something else is done than training: count anew from the end of the next batch on."""
        self._begin()

    def _begin(self, now_s: float | None = None) -> None:
        """Count from now on; without a time, from the end of the next batch on."""
        self._began_s = now_s
        self._samples = torch.zeros((), dtype=torch.float64)
