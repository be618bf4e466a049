"""Limits of the machine, in samples a second.

Every sample uses every weight once, in one multiply-add. So a core is bound by one of two limits:

    reading       rows * (bytes a second) / (bytes of the weights)      one read serves all rows
    arithmetic    (multiply-adds a second) / (number of weights)        for each core at work

A single row waits for memory, a batch for arithmetic; the smaller limit binds. Both are measured in
the same run as the engine: how fast one core reads the very array that holds the weights, again and
again, and how many fused multiply-adds it makes on registers alone. Weights that are used once a
frame (the conditioning's) or never (the last residual projection) do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from wavenet.benchmark.timing import Spread, repeated
from wavenet.generation.engines.cpu.kernels.packing import Array
from wavenet.generation.options import WEIGHTS
from wavenet.model import WaveNet
from wavenet.nn import GatedResidualBlock

_ROUND_S = 0.05
"""Wall-clock seconds that each loop takes in a round."""


@dataclass(frozen=True)
class Limit:
    """Limit of sampling, and the speed if nothing else limited it.

    Attributes:
        name: ``reading`` or ``arithmetic``.
        samples_per_second: of all rows together.
        rate: bytes read, or multiply-adds made, in a second by one core.
    """

    name: str
    samples_per_second: float
    rate: float


def count_weights(model: WaveNet) -> int:
    """Weights that an engine reads at every sample, and multiply-adds that it makes with them.

    Of a model with two samples a step, the mean of both. All matrices, without the column by which
    the sample enters and without the residual projection of the last layer, which is not used.
    """
    last = cast(GatedResidualBlock, model.stack.blocks[-1])
    unused = last.residual_projection.weight.numel()
    unused //= model.samples_per_step
    return model.multiply_adds - model.config.residual_channels - unused


def weight_bytes(model: WaveNet, weights: str) -> int:
    """Bytes of ``count_weights`` in a type of ``WEIGHTS``."""
    return count_weights(model) * WEIGHTS[weights].itemsize


class LimitLoops:
    """The two limits, as candidates that take turns with the engines.

    Args:
        packed: all weights, as an engine reads them.

    Attributes:
        candidates: to be given to ``take_turns``.
    """

    def __init__(self, packed: Array) -> None:
        from wavenet.benchmark.roofline_loops import (  # the compiler
            MULTIPLY_ADDS,
            multiply_add,
            read,
        )

        floats = packed.view(np.float32)
        self.candidates: dict[str, Callable[[], object]] = {}
        self._work: dict[str, float] = {}
        self._add("reading", floats.nbytes, read, floats)
        for sums, loop in multiply_add.items():
            self._add(f"multiply-adds with {sums} sums", MULTIPLY_ADDS[sums], loop, 0.5, 0.25)

    def limits(
        self, seconds: dict[str, list[float]], model: WaveNet, weights: str, rows: int, cores: int
    ) -> tuple[Limit, ...]:
        """Compute limits from the candidates' times; each core reads all weights itself."""
        rates = {
            name: Spread.of([work / one for one in seconds[name]]).median
            for name, work in self._work.items()
        }
        read = rates.pop("reading")
        peak = max(rates.values())
        return (
            Limit("reading", rows * read / weight_bytes(model, weights), read),
            Limit("arithmetic", cores * peak / count_weights(model), peak),
        )

    def _add(self, name: str, work: float, loop: Any, *arguments: object) -> None:
        """A loop of so much work a time."""
        times = repeated(lambda times: loop(times, *arguments), _ROUND_S)
        self.candidates[name] = lambda: loop(times, *arguments)
        self._work[name] = work * times
