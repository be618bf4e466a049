"""Measurement on longer and longer inputs, until no output depends on their ends.

If an output depends on the very first input, it may depend on more: a longer input is tried. If it
depends on the first input of that as well, its field is unbounded on this side. So the field of a
recurrent layer is unbounded before the output's own time and ends there, and that of a global mean
is unbounded on both sides.

Code that takes positions (a loop over time, a slice) may compute them from the length of its input.
Its field is then compared at two lengths: a field that grows with the input is unbounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from wavenet.receptive_fields.gradient import MOST_OUTPUTS, MOST_PHASES, Support, supports
from wavenet.receptive_fields.inputs import Plans, smaller
from wavenet.receptive_fields.linear import CannotMeasure, Run
from wavenet.receptive_fields.memory import TooLarge, gigabytes
from wavenet.receptive_fields.module_tracker import spatial_axes

BEFORE, AFTER = "before", "after"

Side = tuple[str, int, str]
"""An output, a dimension of the input, and BEFORE or AFTER."""

_LOOP = 512
"""Samples of an input that code which takes positions runs on first, and at least twice.

Its layers do not say how far it reaches, and a loop over time takes long.
"""

_OTHER_LENGTHS = {1: (96, 720, 20160), 2: (96, 960), 3: (96,)}
"""Added lengths, by number of dimensions, that show the stride: multiples of most strides."""


@dataclass(frozen=True)
class Dependencies:
    """Dependencies of the outputs of one run.

    Attributes:
        shape: of the input.
        sizes: shapes of the outputs, by name.
        columns: one support per dimension, by the output's name.
        axes: of each output that runs along each dimension, None where it is gone.
        extent, picks: see ``Run``.
    """

    shape: tuple[int, ...]
    sizes: dict[str, tuple[int, ...]]
    columns: dict[str, list[Support]]
    axes: dict[str, list[int | None]]
    extent: float
    picks: bool

    def touched(self) -> set[Side]:
        """The sides on which an output depends on the outermost input."""
        inputs = spatial_axes(self.shape)
        found: set[Side] = set()
        for name, columns in self.columns.items():
            for d, (support, axis) in enumerate(zip(columns, self.axes[name], strict=True)):
                if axis is None:
                    continue  # its own position may be the first or the last
                end = self.shape[inputs[d]] - 1
                if any(first is not None and first <= 0 for first in support.first):
                    found.add((name, d, BEFORE))
                if any(last is not None and last >= end for last in support.last):
                    found.add((name, d, AFTER))
        return found

    def spans(self) -> dict[tuple[str, int], int]:
        """Samples from the first to the last that the outputs depend on, by dimension."""
        return {
            (name, d): max(
                (b - a + 1 for a, b in zip(column.first, column.last, strict=True)
                 if a is not None and b is not None),
                default=0,
            )
            for name, columns in self.columns.items()
            for d, column in enumerate(columns)
        }  # fmt: skip


class Growth:
    """Measures one module on inputs that grow from the given shapes.

    Attributes:
        notes: remarks for the result.
        reasons: why the field is unbounded.
        unbounded: the sides on which it is unbounded.
    """

    def __init__(self, module: nn.Module, shapes: list[tuple[int, ...]]) -> None:
        self.module, self.shapes = module, shapes
        self.plans = Plans(module, shapes)
        self.notes: list[str] = []
        self.reasons: list[str] = []
        self.unbounded: set[Side] = set()
        self._axes: dict[str, list[int | None]] | None = None

    def measure(self) -> Dependencies:
        """Return what the outputs depend on, where no input's end hides it.

        Raises:
            CannotMeasure: if the module does not accept the given shapes.
            TooLarge: if memory does not suffice; the message is one line.
        """
        found = self._first()
        tried = False
        while touched := found.touched():
            looped = found.picks and len(spatial_axes(found.shape)) == 1
            if tried and not (looped and found.shape[-1] < _LOOP):
                self._declare(touched, found, "")
                return found
            tried = tried or found.extent * 2 + 8 <= min(self._sizes(found.shape))
            longer = self._enlarged(found.shape, found.extent, 4 if looped else 2)
            try:
                found = self._at(longer)
            except CannotMeasure:
                self._declare(touched, found, ", and the module accepts no longer one")
                return found
            except TooLarge as error:
                if self._touched_when_shorter(found) != touched:
                    raise self.plans.refusal(longer, error) from error
                self._declare(touched, found, "")
                return found
        self._compare_lengths(found)
        return found

    def sizes_of_longer(
        self, found: Dependencies
    ) -> Iterator[tuple[int, dict[str, tuple[int, ...]]]]:
        """Yield the added length of longer inputs, and the shapes of their outputs."""
        for extra in _OTHER_LENGTHS[len(spatial_axes(found.shape))]:
            more = self._with_more(found.shape, extra)
            try:
                yield extra, self._output_sizes(more)
            except CannotMeasure:
                continue
            except TooLarge as error:
                self.notes.append(
                    f"no stride is known: it needs an input of shape {more}, and that "
                    f"{gigabytes(error.n_bytes)} of memory"
                )
                break

    def _sizes(self, shape: Sequence[int]) -> list[int]:
        return [shape[axis] for axis in spatial_axes(tuple(shape))]

    def _first(self) -> Dependencies:
        """Measure the given shape, a longer one if its layers need that, or a smaller one."""
        given = self._short_loop(self.shapes[0])
        plan = self.plans.at(given)
        if plan is not None and not self.plans.holds(given):
            longer = self._enlarged(given, plan.extent)
            if self.plans.at(longer) is not None:
                try:
                    return self._at(longer)
                except TooLarge as error:
                    raise self.plans.refusal(longer, error) from error
                except CannotMeasure:
                    pass  # the shapes fit and the values do not
        try:
            return self._at(given)
        except TooLarge as error:
            for less in smaller(given):
                if self.plans.at(less) is not None and not self.plans.holds(less):
                    break
                try:
                    found = self._at(less)
                except (CannotMeasure, TooLarge):
                    continue
                self.notes.append(
                    f"measured on an input of shape {less}: one of {given} needs "
                    f"{gigabytes(error.n_bytes)} of memory"
                )
                return found
            raise self.plans.refusal(given, error) from error

    def _short_loop(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """The given shape, or a shorter one if code that takes positions would run long on it."""
        axes = spatial_axes(given)
        if len(axes) > 1:
            return given
        for less in smaller(given):
            if less[axes[0]] <= 2 * _LOOP:
                plan = self.plans.at(less) if less[axes[0]] >= _LOOP else None
                return less if plan is not None and plan.picks and self.plans.holds(less) else given
        return given

    def _enlarged(self, shape: tuple[int, ...], extent: float, least: int = 2) -> tuple[int, ...]:
        factor = max(least, *(math.ceil((2 * extent + 8) / size) for size in self._sizes(shape)))
        axes = spatial_axes(shape)
        return tuple(size * factor if a in axes else size for a, size in enumerate(shape))

    def _with_more(self, shape: tuple[int, ...], extra: int) -> tuple[int, ...]:
        axes = spatial_axes(shape)
        return tuple(size + extra if a in axes else size for a, size in enumerate(shape))

    def _at(self, shape: tuple[int, ...]) -> Dependencies:
        run = self.plans.run(shape)
        sizes = {name: tuple(tensor.shape) for name, tensor in run.outputs.items()}
        if self._axes is None:
            self._axes = self._axes_of_outputs(shape, sizes)
        columns = {}
        for name, tensor in run.outputs.items():
            axes = self._axes[name]
            columns[name] = supports(
                run, tensor, axes, _counts(run, tensor, axes), until_whole=True
            )
        return Dependencies(shape, sizes, columns, self._axes, run.extent, run.picks)

    def _output_sizes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs for an input of this shape."""
        plan = self.plans.at(shape)
        if plan is not None:
            return plan.outputs
        return {name: tuple(tensor.shape) for name, tensor in self.plans.run(shape).outputs.items()}

    def _axes_of_outputs(
        self, shape: tuple[int, ...], sizes: dict[str, tuple[int, ...]]
    ) -> dict[str, list[int | None]]:
        """Time is the axis that grows with the input; of several, and of images, the last ones."""
        inputs = spatial_axes(shape)
        last = {name: _last_axes(size, inputs) for name, size in sizes.items()}
        if len(inputs) > 1:
            return last
        try:
            longer = self._output_sizes(self._with_more(shape, _OTHER_LENGTHS[1][0]))
        except (CannotMeasure, TooLarge):
            return last
        for name, size in sizes.items():
            other = longer.get(name, size)
            grown = [a for a, n in enumerate(size) if a < len(other) and other[a] > n]
            if len(other) == len(size) and len(grown) == 1:
                last[name] = [grown[0]]
        return last

    def _declare(self, sides: set[Side], found: Dependencies, why: str) -> None:
        """Note that the field is unbounded on these sides."""
        self.unbounded |= sides
        for which, words in (
            ({BEFORE, AFTER}, "depends on both ends of"),
            ({BEFORE}, "depends on the start of"),
            ({AFTER}, "depends on the end of"),
        ):
            if {side for _, _, side in sides} == which:
                self.reasons.append(f"an output {words} an input of shape {found.shape}{why}")

    def _touched_when_shorter(self, found: Dependencies) -> set[Side]:
        for less in smaller(found.shape):
            try:
                return self._at(less).touched()
            except (CannotMeasure, TooLarge):
                continue
        return set()

    def _compare_lengths(self, found: Dependencies) -> None:
        """Compare two lengths where the field may depend on the length."""
        gone = any(axis is None for axes in found.axes.values() for axis in axes)
        loops = found.picks and len(spatial_axes(found.shape)) == 1
        if not gone and not loops:
            return
        other: Dependencies | None = None
        for shape in (self._enlarged(found.shape, 0), *smaller(found.shape)):
            try:
                other = self._at(shape)
                break
            except (CannotMeasure, TooLarge):
                continue
        if other is None:
            self.notes.append("measured at one length alone: the module accepts no other")
            return
        long, short = sorted((found, other), key=lambda f: f.shape[-1])[::-1]
        spans = short.spans()
        for (name, d), samples in long.spans().items():
            if samples > spans[name, d]:
                self.unbounded |= {(name, d, BEFORE), (name, d, AFTER)}
                self.reasons.append(
                    f"the field grows with the input: {spans[name, d]} samples of an input of "
                    f"shape {short.shape}, {samples} of one of {long.shape}"
                )


def _last_axes(size: tuple[int, ...], inputs: tuple[int, ...]) -> list[int | None]:
    """Time comes last in an output of as many axes as the input; else it is gone."""
    missing = max(0, inputs[-1] + 1 - len(size))
    return [axis if axis < len(size) and not missing else None for axis in inputs]


def _counts(run: Run, tensor: Tensor, axes: Sequence[Any]) -> list[int]:
    """Two periods of outputs, where a period is what one sample of the coarsest layer gives.

    Of a long period only one: the field is then known, and how it moves is not.
    """
    longest = max((tensor.shape[axis] for axis in axes if axis is not None), default=1)
    finest = max(1, math.ceil(longest / max(1.0, run.coarsest)))
    wanted = 2 * finest + 1 if finest <= MOST_PHASES else finest + 1
    return [min(MOST_OUTPUTS, wanted)] * len(axes)
