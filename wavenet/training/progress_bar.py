"""The progress bar of a run: its steps, and the batches of a validation while it lasts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class ProgressBar:
    """Shows steps and bits per sample within a ``with`` block.

    Args:
        enabled: whether anything is shown.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._steps: tqdm[None] | None = None
        self._shown: dict[str, float] = {}

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bar also when training ends early: messages then begin a new line."""
        if self._steps is not None:
            self._steps.close()

    def start(self, first: int, last: float) -> None:
        """Begin at a step; of the last one infinity means that it is not known yet."""
        self._steps = tqdm(desc="training", initial=first, unit="step", disable=not self._enabled)
        self.count_to(last)

    def count_to(self, last: float) -> None:
        """Change the number of steps that it counts to."""
        if self._steps is not None:
            self._steps.total = None if math.isinf(last) else int(last)
            self._steps.refresh()

    def update(self) -> None:
        """Count a step."""
        if self._steps is not None:
            self._steps.update()

    def show(self, numbers: dict[str, float]) -> None:
        """Show numbers behind the steps, the latest of each name."""
        self._shown |= numbers
        if self._steps is not None:
            self._steps.set_postfix(self._shown, refresh=False)

    def validating(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches of a validation, counted in a bar that goes when they are done."""
        yield from tqdm(items, "validating", leave=False, disable=not self._enabled)
