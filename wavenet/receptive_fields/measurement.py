"""The field of what cannot be followed, from the gradient alone."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from torch import nn

from wavenet.receptive_fields.field import (
    LayerField,
    OutputField,
    ReceptiveField,
    squeezed,
    stride_number,
)
from wavenet.receptive_fields.gradient import MOST_OUTPUTS, Support
from wavenet.receptive_fields.growth import AFTER, BEFORE, Dependencies, Growth
from wavenet.receptive_fields.linear import CannotMeasure


def make_field(
    outputs: list[OutputField],
    rate: int | None,
    layers: tuple[LayerField, ...],
    method: str,
    notes: tuple[str, ...],
    reasons: tuple[str, ...],
) -> ReceptiveField:
    """Return the result; its totals are those of the output with the largest field."""

    def size(output: OutputField) -> Any:
        samples = output.samples
        return math.prod(samples) if isinstance(samples, tuple) else samples

    largest = max(outputs, key=size)
    return ReceptiveField(
        largest.samples,
        rate,
        layers,
        largest.look_back,
        largest.look_ahead,
        largest.stride,
        largest.padding,
        tuple(outputs),
        method,
        notes,
        reasons,
    )


def measured_field(
    module: nn.Module,
    rate: int | None,
    shapes: list[tuple[int, ...]],
    notes: tuple[str, ...],
) -> ReceptiveField:
    """The field of any module, measured on inputs that grow from these shapes.

    Args:
        module: see ``run_linear``.
        rate: of its input, in Hz; None for no milliseconds.
        shapes: of the first inputs that are tried; time comes last.
        notes: remarks for the result.

    Raises:
        ValueError: if the module does not accept the shapes, or measuring it needs too much memory.
    """
    growth = Growth(module, shapes)
    try:
        found = growth.measure()
    except CannotMeasure as error:
        raise refusal(module, shapes, error) from error
    numbers = _numbers(growth, found)
    notes = (*notes, *growth.notes)
    if any(len(s.outputs) >= MOST_OUTPUTS for columns in found.columns.values() for s in columns):
        notes = (
            *notes,
            f"{MOST_OUTPUTS} neighbouring outputs were measured; others may depend on more inputs",
        )
    outputs = [
        OutputField(name, *(squeezed(row) for row in zip(*rows, strict=True)))
        for name, rows in numbers.items()
    ]
    reasons = tuple(dict.fromkeys(growth.reasons))
    return make_field(outputs, rate, (), "gradient", notes, reasons)


Numbers = tuple[Any, Any, Any, Any, Any]
"""(samples, look-back, look-ahead, stride, padding) of one output along one dimension."""


def _numbers(growth: Growth, found: Dependencies) -> dict[str, list[Numbers]]:
    """The numbers of each output; where two lengths leave the stride open, of further ones."""
    strides: dict[str, list[Fraction | None]] = {n: [None] * len(c) for n, c in found.axes.items()}
    numbers = _with_strides(growth, found, strides)
    if _strides_known(numbers):
        return numbers
    for extra, sizes in growth.sizes_of_longer(found):
        for name, axes in found.axes.items():
            for d, axis in enumerate(axes):
                if axis is not None and numbers[name][d][3] is None:
                    gained = sizes[name][axis] - found.sizes[name][axis]
                    strides[name][d] = Fraction(extra, gained) if gained > 0 else None
        numbers = _with_strides(growth, found, strides)
        if _strides_known(numbers):
            break
    return numbers


def _strides_known(numbers: dict[str, list[Numbers]]) -> bool:
    """Return whether every output has a stride, but for those that depend on all of the input."""
    rows = [row for of_output in numbers.values() for row in of_output]
    return all(row[3] is not None or row[1] == row[2] == math.inf for row in rows)


def _with_strides(
    growth: Growth, found: Dependencies, strides: dict[str, list[Fraction | None]]
) -> dict[str, list[Numbers]]:
    return {
        name: [
            _of_support(
                support,
                strides[name][d],
                (name, d, BEFORE) in growth.unbounded,
                (name, d, AFTER) in growth.unbounded,
            )
            for d, support in enumerate(columns)
        ]
        for name, columns in found.columns.items()
    }


def _of_support(
    support: Support, stride: Fraction | None, unbounded_before: bool, unbounded_after: bool
) -> Numbers:
    ranges = [
        (n, first, last)
        for n, first, last in zip(support.outputs, support.first, support.last, strict=True)
        if first is not None and last is not None
    ]
    if not ranges:
        raise ValueError("the output does not depend on the input")
    if unbounded_before and unbounded_after:
        return math.inf, math.inf, math.inf, None, None
    samples: Any = max(last - first + 1 for _, first, last in ranges)
    if unbounded_before or unbounded_after:
        samples = math.inf
    moving = {n: last if unbounded_before else first for n, first, last in ranges}
    if stride is None or not _keeps_step(moving, stride):
        unknown = (math.inf if unbounded_before else None, math.inf if unbounded_after else None)
        return samples, *unknown, None, None
    back: Any = max(0, *(math.floor(n * stride) - first for n, first, _ in ranges))
    ahead: Any = max(0, *(last - math.floor(n * stride) for n, _, last in ranges))
    if unbounded_before:
        return samples, math.inf, ahead, stride_number(stride), None
    if unbounded_after:
        return samples, back, math.inf, stride_number(stride), _padding(ranges, stride)
    return samples, back, ahead, stride_number(stride), _padding(ranges, stride)


def _keeps_step(moving: dict[int, int], stride: Fraction) -> bool:
    """Return true if the fields of outputs one period apart are shifted by the stride.

    Args:
        moving: the first input of each output, or the last where there is no first.
        stride: input samples per output sample.
    """
    for period in range(stride.denominator, len(moving) // 2 + 1, stride.denominator):
        pairs = [(n, n + period) for n in moving if n + period in moving]
        if all(moving[b] - moving[a] == stride * period for a, b in pairs):
            return True
    return False


def _padding(ranges: list[tuple[int, int, int]], stride: Fraction) -> int | None:
    """Samples before input 0 at which the field of output 0 begins, from one of the same phase."""
    for n, first, _ in ranges:
        if (n * stride).denominator == 1:
            return int(n * stride) - first
    return None


def refusal(module: nn.Module, shapes: list[tuple[int, ...]], error: Exception) -> ValueError:
    """Return the error for a module that does not run on the shapes that the user gave."""
    shown = shapes[0] if len(shapes) == 1 else shapes
    return ValueError(f"{type(module).__name__} does not accept input_shape={shown}: {error}")
