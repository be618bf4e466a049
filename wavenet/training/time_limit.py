"""A run that lasts so many minutes, with the decay of the learning rate at its end.

The learning rate is constant until a share of the time has passed. From the time that a step took
until then follows once how many steps the rest of the time has room for, and the learning rate
falls to 0 over these. This number is saved at once, so that from there on a run that is resumed
ends with the same bits as one that was not.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from wavenet.training.checkpoints import Checkpoints, between_steps
from wavenet.training.config import TrainingConfig
from wavenet.training.meters import logging_interval
from wavenet.training.module import WaveNetTraining
from wavenet.training.trainer import StepBar

logger = logging.getLogger("wavenet")

WARM_UP_SHARE = 0.1
"""Of the time, at its beginning, in which steps are not timed: code is being compiled."""


class TimeLimit(Callback):
    """Sets the last step of a run when ``1 - decay_fraction`` of its time has passed.

    Validations and checkpoints count as time of the run, as does what passed before it was resumed;
    reading the corpus and what follows the last step do not.

    Args:
        config: of the run; ``minutes`` is above 0.
        checkpoints: what saves.
    """

    def __init__(self, config: TrainingConfig, checkpoints: Checkpoints) -> None:
        self.config, self.checkpoints = config, checkpoints
        self._limit_s = 60 * config.minutes
        self._before_s = 0.0  # of the run before it was resumed
        self._began_s: float | None = None
        self._timed: tuple[float, int] | None = None  # when the timed steps began, and after which
        self._first = 0  # steps of the run before it was resumed

    @property
    def elapsed_s(self) -> float:
        """Seconds that the run has lasted so far."""
        running_s = 0.0 if self._began_s is None else time.monotonic() - self._began_s
        return self._before_s + running_s

    def on_train_start(self, trainer: lightning.Trainer, pl_module: object) -> None:
        """Start the clock."""
        assert isinstance(pl_module, WaveNetTraining)
        self._began_s, self._first = time.monotonic(), trainer.global_step
        self._show(trainer, math.inf if pl_module.decays_over is None else pl_module.decays_over[1])

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: object, batch: object, batch_idx: int
    ) -> None:
        """Set the last step where it is due: the step before is done, the next one not begun."""
        assert isinstance(pl_module, WaveNetTraining)
        if pl_module.decays_over is not None or not between_steps(trainer, batch_idx):
            return
        elapsed_s, step = self.elapsed_s, trainer.global_step
        if self._timed is None and elapsed_s >= WARM_UP_SHARE * self._limit_s:
            self._timed = elapsed_s, step
        constant_s = (1 - self.config.decay_fraction) * self._limit_s
        if not self._anywhere(trainer, step > 0 and elapsed_s >= constant_s):
            return
        last = min(self._last_step(elapsed_s, step), self.config.max_steps)
        last = trainer.strategy.broadcast(last)
        set_last_step(trainer, pl_module, step, last)
        self._show(trainer, last)
        logger.info("%.0f s passed: the run ends after step %d", elapsed_s, last)
        self.checkpoints.save(trainer, again=True)

    def _anywhere(self, trainer: lightning.Trainer, due: bool) -> bool:
        """Return whether it is due in any process; several ask each other at steps that log."""
        if trainer.world_size == 1:
            return due
        if trainer.global_step % max(1, logging_interval(trainer)):
            return False
        return trainer.strategy.reduce_boolean_decision(due, all=False)

    def _last_step(self, elapsed_s: float, step: int) -> int:
        """The number of steps of the whole run; the next one is made in any case."""
        since_s, since_step = self._timed or (0.0, 0)
        if step == since_step:  # so slow that none was timed
            since_s, since_step = 0.0, 0
        step_s = (elapsed_s - since_s) / max(1, step - since_step)
        left_s = max(0.0, self._limit_s - elapsed_s)
        return step + max(1, round(left_s / step_s))

    def _show(self, trainer: lightning.Trainer, last: float) -> None:
        """Let the progress bar count to the last step."""
        bar = trainer.progress_bar_callback
        if isinstance(bar, StepBar):
            bar.count_to((last - self._first) * trainer.accumulate_grad_batches)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: object, checkpoint: dict[str, Any]
    ) -> None:
        """Store the time and the decay."""
        assert isinstance(pl_module, WaveNetTraining)
        decays_over = None if pl_module.decays_over is None else list(pl_module.decays_over)
        timed = None if self._timed is None else list(self._timed)
        checkpoint["time"] = {
            "elapsed_s": self.elapsed_s,
            "timed": timed,
            "decays_over": decays_over,
        }

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: object, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the time and the decay."""
        assert isinstance(pl_module, WaveNetTraining)
        saved = checkpoint["time"]
        self._before_s = saved["elapsed_s"]
        self._timed = None if saved["timed"] is None else tuple(saved["timed"])
        if saved["decays_over"] is not None:
            set_last_step(trainer, pl_module, *saved["decays_over"])


def set_last_step(
    trainer: lightning.Trainer, module: WaveNetTraining, first: int, last: int
) -> None:
    """Let the learning rate fall from step ``first`` on, and the run end after ``last`` steps."""
    module.decays_over = first, last
    trainer.fit_loop.epoch_loop.max_steps = last
