"""Slices, joins and changes of shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from torch import Tensor

from wavenet.receptive_fields.rules.call import (
    Call,
    Heard,
    aligned,
    axes_of,
    placed,
    rule,
    seen_through,
    union,
)
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window


@rule("getitem")
def _getitem(call: Call) -> Heard:
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
    return _cut(call, call.heard, cuts, new_axis)


def _cut(call: Call, heard: Heard, cuts: dict[int, Any], new_axis: dict[int, int]) -> Heard:
    """Slices (and single positions) along some axes, whose axes are then numbered anew."""
    shape = call.x.shape
    reaches: list[Reach | str] = []
    for reach in heard.reaches:
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
    for axis in heard.mixed:
        cut = cuts.get(axis, slice(None))
        if not isinstance(cut, slice) or cut.indices(shape[axis]) != (0, shape[axis], 1):
            raise CannotTrace(f"{call.place}: slices an axis whose entries hear different things")
    return Heard(tuple(reaches), frozenset(new_axis[axis] for axis in heard.mixed))


def _same_axes(ndim: int) -> dict[int, int]:
    return {axis: axis for axis in range(ndim)}


@rule("narrow")
def _narrow(call: Call) -> Heard:
    axis, start, n = call.get(1, "dim") % call.x.ndim, call.get(2, "start"), call.get(3, "length")
    start = start % call.x.shape[axis] if start < 0 else start
    cut = {axis: slice(start, start + n)}
    return _cut(call, call.heard, cut, _same_axes(call.x.ndim))


@rule("select")
def _select(call: Call) -> Heard:
    axis, position = call.get(1, "dim") % call.x.ndim, call.get(2, "index")
    new_axis = {a: a - (a > axis) for a in range(call.x.ndim)}
    return _cut(call, call.heard, {axis: position}, new_axis)


@rule("chunk", "split", "tensor_split", "split_with_sizes", "hsplit", "vsplit", "unsafe_chunk")
def _chunk(call: Call) -> list[Heard]:
    if call.name in ("hsplit", "vsplit"):
        raise CannotTrace(f"{call.place}: {call.name}")
    axis = call.get(2, "dim", 0) % call.x.ndim
    found, start = [], 0
    for part in call.result:
        stop = start + part.shape[axis]
        cut = {axis: slice(start, stop)}
        found.append(_cut(call, call.heard, cut, _same_axes(call.x.ndim)))
        start = stop
    return found


@rule("unbind")
def _unbind(call: Call) -> list[Heard]:
    axis = call.get(1, "dim", 0) % call.x.ndim
    new_axis = {a: a - (a > axis) for a in range(call.x.ndim)}
    return [_cut(call, call.heard, {axis: i}, new_axis) for i in range(len(call.result))]


@rule("flip", "fliplr", "flipud")
def _flip(call: Call) -> Heard:
    dims = call.args[1:] if len(call.args) > 2 else call.get(1, "dims")
    dims = {"fliplr": 1, "flipud": 0}.get(call.name, dims)
    axes = axes_of(dims, call.x.ndim)
    heard = call.heard
    reach_axes = {r.axis for r in heard.reaches if isinstance(r, Reach)}
    windows = {a: Window(-1, call.x.shape[a] - 1) for a in axes if a in reach_axes}
    return seen_through(call, heard, windows)


@rule("roll")
def _roll(call: Call) -> Heard:
    shifts, dims = call.get(1, "shifts"), call.get(2, "dims")
    if dims is None or dims == ():
        raise CannotTrace(f"{call.place}: roll without dims")
    shifts = shifts if isinstance(shifts, tuple | list) else [shifts]
    dims = dims if isinstance(dims, tuple | list) else [dims]
    heard = call.heard
    reach_axes = {r.axis for r in heard.reaches if isinstance(r, Reach)}
    windows = {
        d % call.x.ndim: Window(1, -s)
        for s, d in zip(shifts, dims, strict=True)
        if d % call.x.ndim in reach_axes
    }
    return seen_through(call, heard, windows)


@rule("cat", "concat", "concatenate")
def _cat(call: Call) -> Heard:
    tensors = list(call.get(0, "tensors"))
    axis = call.get(1, "dim", call.kwargs.get("axis", 0)) % call.result.ndim
    parts, start = [], 0
    for tensor in tensors:
        heard = call.heard_of(tensor)
        if heard is not None:
            parts.append((heard, start))
        start += tensor.shape[axis] if tensor.ndim == call.result.ndim else 0
    along = [
        any(isinstance(r, Reach) and r.axis == axis for r in heard.reaches) for heard, _ in parts
    ]
    if not any(along):
        merged = union(call, [heard for heard, _ in parts])
        one = len(parts) == len(tensors) and all(alike(parts[0][0], h) for h, _ in parts)
        return merged if one else Heard(merged.reaches, merged.mixed | {axis})
    if len(parts) > 1:
        raise CannotTrace(f"{call.place}: joins pieces of the signal end to end")
    heard, start = parts[0]
    return seen_through(call, heard, {axis: Window(1, -start)})


def alike(a: Heard, b: Heard) -> bool:
    """Whether both hear the same."""
    return a.mixed == b.mixed and all(
        x.same_as(y) if isinstance(x, Reach) and isinstance(y, Reach) else x == y
        for x, y in zip(a.reaches, b.reaches, strict=True)
    )


@rule("stack")
def _stack(call: Call) -> Heard:
    tensors = list(call.get(0, "tensors"))
    axis = call.get(1, "dim", 0) % call.result.ndim
    found = [call.heard_of(tensor) for tensor in tensors]
    parts = [moved(heard, lambda a: a + (a >= axis)) for heard in found if heard is not None]
    merged = union(call, parts)
    one = len(parts) == len(tensors) and all(alike(parts[0], part) for part in parts)
    return merged if one else Heard(merged.reaches, merged.mixed | {axis})


def moved(heard: Heard, new_axis: Callable[[int], int]) -> Heard:
    """The axes numbered anew."""
    return Heard(
        tuple(
            reach.moved_to(new_axis(reach.axis))
            if isinstance(reach, Reach) and reach.axis is not None
            else reach
            for reach in heard.reaches
        ),
        frozenset(new_axis(axis) for axis in heard.mixed),
    )


@rule("transpose", "swapaxes", "swapdims", "t", "__get__:T", "__get__:mT", "adjoint")
def _transpose(call: Call) -> Heard:
    ndim = call.x.ndim
    if call.name in ("__get__:mT", "adjoint"):
        a, b = ndim - 2, ndim - 1
    elif call.name in ("t", "__get__:T"):
        a, b = 0, ndim - 1
        if ndim > 2:
            raise CannotTrace(f"{call.place}: T of more than two axes")
    else:
        a = call.get(1, "dim0", call.kwargs.get("axis0")) % ndim
        b = call.get(2, "dim1", call.kwargs.get("axis1")) % ndim
    return moved(call.heard, lambda axis: {a: b, b: a}.get(axis, axis))


@rule("permute")
def _permute(call: Call) -> Heard:
    dims = call.args[1:] if len(call.args) > 2 else call.get(1, "dims")
    order = [d % call.x.ndim for d in (dims if isinstance(dims, tuple | list) else [dims])]
    return moved(call.heard, order.index)


@rule("movedim", "moveaxis")
def _movedim(call: Call) -> Heard:
    source, target = call.get(1, "source"), call.get(2, "destination")
    if not isinstance(source, int):
        raise CannotTrace(f"{call.place}: movedim of several axes")
    order = [axis for axis in range(call.x.ndim) if axis != source % call.x.ndim]
    order.insert(target % call.x.ndim, source % call.x.ndim)
    return moved(call.heard, order.index)


@rule("unsqueeze")
def _unsqueeze(call: Call) -> Heard:
    at = call.get(1, "dim") % (call.x.ndim + 1)
    return moved(call.heard, lambda axis: axis + (axis >= at))


@rule("squeeze")
def _squeeze(call: Call) -> Heard:
    dim = call.get(1, "dim")
    gone = {axis for axis in axes_of(dim, call.x.ndim) if call.x.shape[axis] == 1}
    reaches = [r.axis for r in call.heard.reaches if isinstance(r, Reach)]
    heard = call.heard
    if gone & set(reaches):  # one position is all there is: it is picked
        heard = Heard(
            tuple(
                r.picked(0) if isinstance(r, Reach) and r.axis in gone else r for r in heard.reaches
            ),
            heard.mixed,
        )
    kept = Heard(heard.reaches, heard.mixed - gone)
    return moved(kept, lambda axis: axis - sum(a < axis for a in gone))


@rule("expand", "expand_as", "broadcast_to")
def _expand(call: Call) -> Heard:
    return aligned(call, call.heard, call.x, call.result.ndim, call.result.shape)


@rule("repeat", "tile")
def _repeat(call: Call) -> Heard:
    heard = moved(call.heard, lambda axis: axis + call.result.ndim - call.x.ndim)
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            size = call.x.shape[reach.axis - call.result.ndim + call.x.ndim]
            if call.result.shape[reach.axis] != size:
                raise CannotTrace(f"{call.place}: repeats the signal end to end")
    return heard


@rule("unfold")
def _unfold(call: Call) -> Heard:
    """Windows of ``size`` samples, ``step`` apart, each along a new last axis."""
    heard = call.alone()
    if call.x.ndim == call.result.ndim:  # F.unfold, blocks of an image as channels
        raise CannotTrace(f"{call.place}: unfold of an image")
    axis = call.get(1, "dimension") % call.x.ndim
    size, step = call.get(2, "size"), call.get(3, "step")
    call.layer.append((size, 1))
    mixed = heard.mixed | {call.x.ndim}
    return seen_through(call, heard, {axis: Window.convolution(size, step, 0, 1)}, mixed)


@rule("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "ravel")
def _view(call: Call) -> Heard:
    """Axes that keep their size keep their signal; splitting and merging time follow a window."""
    heard, before, after = call.heard, tuple(call.x.shape), tuple(call.result.shape)
    groups = _matched(before, after)
    reaches: list[Reach | str] = []
    mixed: set[int] = set()
    for axis in heard.mixed:
        old, new = next(group for group in groups if axis in group[0])
        mixed |= set(new)
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            old, new = next(group for group in groups if reach.axis in group[0])
            image, tainted = _reshaped(call, reach, old, new, heard.mixed)
            mixed = (mixed | tainted) - {image.axis if image.axis is not None else -1}
            reaches.append(image)
        else:
            reaches.append(reach)
    return Heard(tuple(reaches), frozenset(mixed))


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
                return Reach(a, reach.lo, reach.hi, reach.advance), set()
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
            return Reach(wide_new[0], reach.lo, reach.hi, reach.advance, folded), set()
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
