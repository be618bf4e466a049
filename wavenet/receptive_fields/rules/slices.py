"""Slices: parts of a signal, in its order, backwards, around the end, or as windows."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from wavenet.receptive_fields.rules.call import (
    Call,
    TensorField,
    axes_of,
    placed,
    rule,
    through_windows,
)
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window


@rule("getitem")
def _getitem(call: Call) -> TensorField:
    x, index = call.x, call.args[1]
    index = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(i, Tensor | list | bool) for i in index):
        raise CannotTrace(f"{call.place}: picks samples by a list or a mask")
    n_given = sum(i is not None and i is not Ellipsis for i in index)
    filler = [slice(None)] * (x.ndim - n_given)
    if any(i is Ellipsis for i in index):
        at = next(i for i, item in enumerate(index) if item is Ellipsis)
        index[at : at + 1] = filler
    else:
        index += filler
    cuts, new_axis, axis, out = {}, {}, 0, 0
    for item in index:
        if item is None:
            out += 1
            continue
        cuts[axis] = item
        new_axis[axis] = out
        axis += 1
        out += isinstance(item, slice)
    return _cut(call, call.field, cuts, new_axis)


def _cut(
    call: Call, field: TensorField, cuts: dict[int, Any], new_axis: dict[int, int]
) -> TensorField:
    """Take slices (and single positions) along some axes, and renumber the axes."""
    shape = call.x.shape
    reaches: list[Reach | str] = []
    for reach in field.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            cut, axis = cuts.get(reach.axis, slice(None)), reach.axis
            if reach.folded is not None and cut != slice(None):
                raise CannotTrace(f"{call.place}: slices a flattened axis")
            if isinstance(cut, slice):
                start, _, step = cut.indices(shape[axis])
                if (start, step) != (0, 1):
                    window = Window(step, start)
                    inner: Reach = reach
                    reach = placed(call, partial(inner.through, window))
                    if step > 1:
                        call.layer.append((1, 1))
                reach = reach.moved_to(new_axis[axis])
            else:
                reach = reach.picked(int(cut) % shape[axis])
        reaches.append(reach)
    for axis in field.mixed:
        cut = cuts.get(axis, slice(None))
        if not isinstance(cut, slice) or cut.indices(shape[axis]) != (0, shape[axis], 1):
            raise CannotTrace(f"{call.place}: slices an axis whose entries have different fields")
    return TensorField(tuple(reaches), frozenset(new_axis[axis] for axis in field.mixed))


def _same_axes(ndim: int) -> dict[int, int]:
    return {axis: axis for axis in range(ndim)}


@rule("narrow")
def _narrow(call: Call) -> TensorField:
    axis, start, n = call.get(1, "dim") % call.x.ndim, call.get(2, "start"), call.get(3, "length")
    start = start % call.x.shape[axis] if start < 0 else start
    cut = {axis: slice(start, start + n)}
    return _cut(call, call.field, cut, _same_axes(call.x.ndim))


@rule("select")
def _select(call: Call) -> TensorField:
    axis, position = call.get(1, "dim") % call.x.ndim, call.get(2, "index")
    new_axis = {a: a - (a > axis) for a in range(call.x.ndim)}
    return _cut(call, call.field, {axis: position}, new_axis)


@rule("chunk", "split", "tensor_split", "split_with_sizes", "hsplit", "vsplit", "unsafe_chunk")
def _chunk(call: Call) -> list[TensorField]:
    if call.name in ("hsplit", "vsplit"):
        raise CannotTrace(f"{call.place}: {call.name}")
    axis = call.get(2, "dim", 0) % call.x.ndim
    found, start = [], 0
    for part in call.result:
        stop = start + part.shape[axis]
        cut = {axis: slice(start, stop)}
        found.append(_cut(call, call.field, cut, _same_axes(call.x.ndim)))
        start = stop
    return found


@rule("unbind")
def _unbind(call: Call) -> list[TensorField]:
    axis = call.get(1, "dim", 0) % call.x.ndim
    new_axis = {a: a - (a > axis) for a in range(call.x.ndim)}
    return [_cut(call, call.field, {axis: i}, new_axis) for i in range(len(call.result))]


@rule("flip", "fliplr", "flipud")
def _flip(call: Call) -> TensorField:
    dims = call.args[1:] if len(call.args) > 2 else call.get(1, "dims")
    dims = {"fliplr": 1, "flipud": 0}.get(call.name, dims)
    axes = axes_of(dims, call.x.ndim)
    field = call.field
    reach_axes = {r.axis for r in field.reaches if isinstance(r, Reach)}
    windows = {a: Window(-1, call.x.shape[a] - 1) for a in axes if a in reach_axes}
    return through_windows(call, field, windows)


@rule("roll")
def _roll(call: Call) -> TensorField:
    shifts, dims = call.get(1, "shifts"), call.get(2, "dims")
    if dims is None or dims == ():
        raise CannotTrace(f"{call.place}: roll without dims")
    shifts = shifts if isinstance(shifts, tuple | list) else [shifts]
    dims = dims if isinstance(dims, tuple | list) else [dims]
    field = call.field
    reach_axes = {r.axis for r in field.reaches if isinstance(r, Reach)}
    windows = {
        d % call.x.ndim: Window(1, -s)
        for s, d in zip(shifts, dims, strict=True)
        if d % call.x.ndim in reach_axes
    }
    return through_windows(call, field, windows)


@rule("unfold")
def _unfold(call: Call) -> TensorField:
    """Windows of ``size`` samples, ``step`` apart, each along a new last axis."""
    field = call.sole_field()
    if call.x.ndim == call.result.ndim:  # F.unfold, blocks of an image as channels
        raise CannotTrace(f"{call.place}: unfold of an image")
    axis = call.get(1, "dimension") % call.x.ndim
    size, step = call.get(2, "size"), call.get(3, "step")
    call.layer.append((size, 1))
    mixed = field.mixed | {call.x.ndim}
    return through_windows(call, field, {axis: Window.convolution(size, step, 0, 1)}, mixed)
