"""A run that lasts so many minutes, with the decay of the learning rate at its end.

The learning rate is constant until a share of the time has passed. From the time that a step took
until then follows once how many steps the rest of the time has room for, and the learning rate
falls to 0 over these. This number is saved at once, so that from there on a run that is resumed
ends with the same bits as one that was not.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from wavenet.training.config import TrainingConfig

if TYPE_CHECKING:
    from wavenet.training.trainer import Trainer

logger = logging.getLogger("wavenet")

WARM_UP_SHARE = 0.1
"""Of the time, at its beginning, in which steps are not timed: code is being compiled."""


class TimeLimit:
    """Sets the last step of a run when ``1 - decay_fraction`` of its time has passed.

    Validations and checkpoints count as time of the run, as does what passed before it was resumed;
    reading the corpus and what follows the last step do not.

    Args:
        config: of the run; ``minutes`` is above 0.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self._limit_s = 60 * config.minutes
        self._before_s = 0.0  # of the run before it was resumed
        self._began_s: float | None = None
        self._timed: tuple[float, int] | None = None  # when the timed steps began, and after which

    @property
    def elapsed_s(self) -> float:
        """Seconds that the run has lasted so far."""
        running_s = 0.0 if self._began_s is None else time.monotonic() - self._began_s
        return self._before_s + running_s

    def start(self) -> None:
        """Start the clock."""
        self._began_s = time.monotonic()

    def is_due(self, trainer: Trainer) -> bool:
        """Return whether the last step is to be set now, in any process."""
        if trainer.schedule.decays_over is not None:
            return False
        elapsed_s, step = self.elapsed_s, trainer.global_step
        if self._timed is None and elapsed_s >= WARM_UP_SHARE * self._limit_s:
            self._timed = elapsed_s, step
        constant_s = (1 - self.config.decay_fraction) * self._limit_s
        return trainer.anywhere(step > 0 and elapsed_s >= constant_s)

    def set_last_step(self, trainer: Trainer) -> None:
        """Let the learning rate fall from now on, over the steps that there is time for."""
        elapsed_s, step = self.elapsed_s, trainer.global_step
        last = min(self._last_step(elapsed_s, step), self.config.max_steps)
        last = trainer.fabric.broadcast(last)
        trainer.decay_over(step, last)
        logger.info("%.0f s passed: the run ends after step %d", elapsed_s, last)

    def _last_step(self, elapsed_s: float, step: int) -> int:
        """The number of steps of the whole run; the next one is made in any case."""
        since_s, since_step = self._timed or (0.0, 0)
        if step == since_step:  # so slow that none was timed
            since_s, since_step = 0.0, 0
        step_s = (elapsed_s - since_s) / max(1, step - since_step)
        left_s = max(0.0, self._limit_s - elapsed_s)
        return step + max(1, round(left_s / step_s))

    def state_dict(self) -> dict[str, Any]:
        """Return the time that has passed, and since when steps are timed."""
        timed = None if self._timed is None else list(self._timed)
        return {"elapsed_s": self.elapsed_s, "timed": timed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the time of a checkpoint."""
        self._before_s = state["elapsed_s"]
        self._timed = None if state["timed"] is None else tuple(state["timed"])
