"""Inputs that a network is measured on: larger and smaller shapes, and those beyond the memory."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction

from torch import nn

from wavenet.receptive_fields.linear import (
    CannotMeasure,
    Run,
    Shapes,
    run_linear,
    run_on_shapes,
)
from wavenet.receptive_fields.memory import TooLarge, gigabytes, limit_bytes
from wavenet.receptive_fields.module_tracker import spatial_axes

_SMALL_INPUT = 2**13
"""Numbers of an input that runs without a plan: what grows with its square is small as well."""

_KEPT_RUN = 10_000_000
"""Bytes of a run that is kept until the next one, in case it is asked for again."""

_FEWEST = 16
"""Samples (or pixels) of the smallest input that is tried."""


def stretched(shapes: list[tuple[int, ...]], shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Scale the lengths of further inputs like that of the first one."""
    factor = Fraction(shape[-1], shapes[0][-1])
    return [(*other[:-1], math.ceil(other[-1] * factor)) for other in shapes[1:]]


def scaled(shape: Sequence[int], factor: Fraction) -> tuple[int, ...]:
    """Return a shape with all its spatial sizes multiplied, rounded up as evenly as they are.

    A size that 2 divides k times becomes one that 2 divides k times, or 32 where that is more.
    """
    axes = spatial_axes(tuple(shape))

    def size(n: int) -> int:
        even = math.gcd(n, 32)
        return math.ceil(n * factor / even) * even

    return tuple(size(n) if axis in axes else n for axis, n in enumerate(shape))


def smaller(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield shapes of 3/4, 1/2, 3/8, 1/4 ... of the spatial sizes."""
    axes = spatial_axes(tuple(shape))
    factor, before = Fraction(1), tuple(shape)
    while True:
        for part in (Fraction(3, 4), Fraction(1, 2)):
            found = scaled(shape, factor * part)
            if min(found[axis] for axis in axes) < _FEWEST or found == before:
                return
            before = found
            yield found
        factor /= 2


class Plans:
    """Results of runs of one module on shapes alone, each of them computed once.

    Args:
        module: see ``run_linear``.
        shapes: of the inputs as they were given; the first is followed.
    """

    def __init__(self, module: nn.Module, shapes: list[tuple[int, ...]]) -> None:
        self.module, self.shapes = module, shapes
        self._known: dict[tuple[int, ...], Shapes | None] = {}
        self._last: tuple[tuple[int, ...], Run] | None = None

    def at(self, shape: tuple[int, ...]) -> Shapes | None:
        """Return the plan of a run on this shape; None where only a run with values can tell."""
        if shape not in self._known:
            if math.prod(shape) <= _SMALL_INPUT:  # then values cost less than shapes
                try:
                    run = self.run(shape)
                    self._known[shape] = Shapes.of(run, run.n_bytes)
                except (CannotMeasure, TooLarge):
                    self._known[shape] = None
            else:
                others = stretched(self.shapes, shape)
                self._known[shape] = run_on_shapes(self.module, shape, others)
        return self._known[shape]

    def run(self, shape: tuple[int, ...], keep: Collection[str] = ()) -> Run:
        """Run on this shape with values; see ``run_linear``."""
        if self._last is not None and self._last[0] == shape and not keep:
            return self._last[1]
        if math.prod(shape) > _SMALL_INPUT:
            plan = self.at(shape)
            if plan is not None and plan.n_bytes > limit_bytes():
                raise TooLarge(plan.n_bytes)
        run = run_linear(self.module, shape, stretched(self.shapes, shape), keep=keep)
        if not keep and run.n_bytes < _KEPT_RUN:
            self._last = (shape, run)
        return run

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Return true if all layers together fit into half of this shape, along each axis."""
        plan = self.at(shape)
        needed = 8 if plan is None else 2 * plan.extent + 8
        return all(shape[axis] >= needed for axis in spatial_axes(shape))

    def refusal(self, shape: tuple[int, ...], error: TooLarge) -> TooLarge:
        """Return the error in one line: the bytes, the limit, and an input that would do."""
        text = (
            f"measuring {type(self.module).__name__} by gradient on an input of shape {shape} "
            f"needs {gigabytes(error.n_bytes)} of memory, more than the {gigabytes(limit_bytes())} "
            "that it may take; "
        )
        for less in smaller(shape):
            plan = self.at(less)
            if plan is not None and plan.n_bytes <= limit_bytes():
                if self.holds(less):
                    return TooLarge(error.n_bytes, f"{text}give input_shape={less}")
                break
        return TooLarge(
            error.n_bytes,
            f"{text}give a network of fewer channels, or a smaller input_shape if its field is "
            "smaller",
        )
