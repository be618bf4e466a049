"""Ctrl-C, SIGTERM and SIGHUP end a run between two steps, with a checkpoint to go on from.

SIGHUP is what a terminal sends that closes; under nohup it is ignored, and stays so.

The first signal is noted, and the step that runs is finished; so is a validation. A second signal
ends the run at once, and what there is to go on from is the last checkpoint.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
"""Signals that ask a program to end; Windows has no SIGHUP."""


class Signals:
    """Notes signals within a ``with`` block, and puts the handlers back after it.

    Attributes:
        asked: whether a signal has come; the next one raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python sends none to others
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:  # as under nohup, or in a background
                    self._before[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
