"""Axes cut and merged: `reshape` and its kin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from wavenet.receptive_fields.rules.call import (
    Call,
    TensorField,
    rule,
)
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window


@rule("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "ravel")
def _view(call: Call) -> TensorField:
    """Axes that keep their size keep their signal; splitting and merging time follow a window."""
    field, before, after = call.field, tuple(call.x.shape), tuple(call.result.shape)
    groups = _matched(before, after)
    reaches: list[Reach | str] = []
    mixed: set[int] = set()
    for axis in field.mixed:
        old, new = next(group for group in groups if axis in group[0])
        mixed |= set(new)
    for reach in field.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            old, new = next(group for group in groups if reach.axis in group[0])
            image, tainted = _reshaped(call, reach, old, new, field.mixed)
            mixed = (mixed | tainted) - {image.axis if image.axis is not None else -1}
            reaches.append(image)
        else:
            reaches.append(reach)
    return TensorField(tuple(reaches), frozenset(mixed))


def _reshaped(
    call: Call, reach: Reach, old: list[int], new: list[int], mixed: frozenset[int]
) -> tuple[Reach, set[int]]:
    before, after = call.x.shape, call.result.shape
    axis = reach.axis
    assert axis is not None
    wide_old = [a for a in old if before[a] > 1 or a == axis]
    wide_new = [a for a in new if after[a] > 1]
    if before[axis] == 1:
        raise CannotTrace(f"{call.place}: {call.name} of a signal of one sample; give more")
    if reach.folded is not None:
        major, size, _ = reach.folded
        done = 1
        for a in wide_new:
            if done == major and after[a] == size and wide_old == [axis]:
                return replace(reach, axis=a, folded=None), set()
            done *= after[a]
        raise CannotTrace(f"{call.place}: {call.name} of a flattened axis")
    if wide_old == [axis] and len(wide_new) == 1:
        return reach.moved_to(wide_new[0]), set()
    at = wide_old.index(axis)
    if len(wide_new) == 1:
        major = math.prod(before[a] for a in wide_old[:at])
        minor = math.prod(before[a] for a in wide_old[at + 1 :])
        if major > 1:
            folded = (major, before[axis], minor)
            return replace(reach, axis=wide_new[0], folded=folded), set()
        if any(a in mixed for a in wide_old):
            raise CannotTrace(f"{call.place}: {call.name} interleaves different signals")
        return reach.moved_to(wide_new[0]).through(Window.nearest(Fraction(1, minor))), set()
    if wide_old == [axis]:
        block = math.prod(after[a] for a in wide_new[1:])
        image = reach.moved_to(wide_new[0]).through(Window.convolution(block, block, 0, 1))
        return image, set(wide_new[1:])
    raise CannotTrace(f"{call.place}: {call.name} cuts the time axis and others anew")


def _matched(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes whose products of sizes agree."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [], []
        if i < len(before):
            old.append(i)
            i += 1
        if j < len(after):
            new.append(j)
            j += 1
        n_old = math.prod(before[a] for a in old)
        n_new = math.prod(after[a] for a in new)
        while n_old != n_new:
            if n_old < n_new:
                n_old *= before[i]
                old.append(i)
                i += 1
            else:
                n_new *= after[j]
                new.append(j)
                j += 1
        groups.append((old, new))
    return groups
