"""Ctrl-C, SIGTERM and SIGHUP end a run between two steps, with a checkpoint to go on from.

SIGHUP is what a terminal sends that closes; under nohup it is ignored, and stays so.

The first signal is noted, and the step that runs is finished; so is a validation. Then the state is
saved and the run ends as Lightning ends one for ctrl-C. A second signal ends it at once, and what
there is to go on from is the last checkpoint. Of several processes that train together each may get
the signal or not: they ask each other, but only at steps that log, as asking costs time.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from wavenet.training.checkpoints import Checkpoints, between_steps
from wavenet.training.meters import logging_interval

SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
"""Signals that ask a program to end; Windows has no SIGHUP."""


class Stopping(Callback):
    """Saves and stops where a signal asked for it.

    Attributes:
        asked: whether a signal has come since training began.

    Args:
        checkpoints: what saves.
    """

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.asked = False

    def on_train_start(self, *_: Any) -> None:
        """Set signal handlers, over Lightning's own, which will put back older ones."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python sends no signals there
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in a background
                signal.signal(number, self._note)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: object, batch: object, batch_idx: int
    ) -> None:
        """Save and stop if a signal has come.

        Raises:
            KeyboardInterrupt: after saving, if a signal has come to any of the processes.
        """
        if between_steps(trainer, batch_idx) and self._asked_anywhere(trainer):
            self.asked = True
            self.checkpoints.save(trainer)
            raise KeyboardInterrupt

    def _asked_anywhere(self, trainer: lightning.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.asked
        if trainer.global_step % max(1, logging_interval(trainer)):
            return False
        return trainer.strategy.reduce_boolean_decision(self.asked, all=False)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
