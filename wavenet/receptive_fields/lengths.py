"""Fields that follow the length of the input: found by comparing two lengths.

A slice to the middle, a shift by half of the input, the first step minus the last: positions may
be computed from the length. At the same stride such a field grows with the input: it is unbounded.
A layer that divides its input into a fixed number of parts (adaptive pooling, interpolation to a
size) changes its stride instead: its field is finite at each length, and is given with a note.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from wavenet.receptive_fields.field import (
    OutputField,
    ReceptiveField,
    is_finite,
    size_text,
    squeezed,
)
from wavenet.receptive_fields.module_tracker import spatial_axes

UNBOUNDED = (math.inf, math.inf, math.inf, None, None)
"""Samples, look-back, look-ahead, stride and padding of a field unbounded on both sides."""


def with_other_length(
    field: ReceptiveField, shape: Sequence[int], other: ReceptiveField, other_shape: Sequence[int]
) -> ReceptiveField:
    """Return the field of one input, given that of an input of another length.

    Args:
        field: what was found for ``shape``.
        shape: of the input.
        other: the same for ``other_shape``.
        other_shape: longer or shorter along every spatial axis.
    """
    longer = math.prod(other_shape) > math.prod(shape)
    outputs, reasons, notes = [], list(field.unbounded), list(field.notes)
    at, other_at = (_size(s) for s in (shape, other_shape))
    named = {output.name: output for output in other.outputs}
    for output in field.outputs:
        known = named.get(output.name)
        if known is None or known.samples == output.samples:
            outputs.append(output)
            continue
        compared = (
            f"{size_text(output.samples)} samples of an input of {at}, "
            f"{size_text(known.samples)} of one of {other_at}"
        )
        short, long = (output, known) if longer else (known, output)
        rows = [_row(output, d) for d in range(len(spatial_axes(tuple(shape))))]
        for d in range(len(rows)):
            a, b = _row(short, d), _row(long, d)
            if a[3] == b[3] and a[0] < b[0] and is_finite(b[0]):
                rows[d] = UNBOUNDED
        if rows == [_row(output, d) for d in range(len(rows))]:
            notes.append(f"the field depends on the length of the input: {compared}")
        else:
            reasons.append(f"the field grows with the input: {compared}")
        columns = (squeezed(column) for column in zip(*rows, strict=True))
        outputs.append(OutputField(output.name, *columns))
    if outputs == list(field.outputs) and notes == list(field.notes):
        return field
    largest = max(outputs, key=lambda o: math.prod(_each(o.samples)))
    return dataclasses.replace(
        field,
        samples=largest.samples,
        look_back=largest.look_back,
        look_ahead=largest.look_ahead,
        stride=largest.stride,
        padding=largest.padding,
        outputs=tuple(outputs),
        notes=tuple(notes),
        unbounded=tuple(reasons),
    )


def _size(shape: Sequence[int]) -> str:
    return size_text(squeezed([shape[axis] for axis in spatial_axes(tuple(shape))]))


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _row(output: OutputField, d: int) -> tuple[Any, ...]:
    values = (output.samples, output.look_back, output.look_ahead, output.stride, output.padding)
    return tuple(_each(value)[d] for value in values)
