"""Permuted, added, removed and repeated axes; each keeps its signal."""

from __future__ import annotations

from wavenet.receptive_fields.rules.call import Call, TensorField, aligned, axes_of, moved, rule
from wavenet.receptive_fields.windows import CannotTrace, Reach


@rule("transpose", "swapaxes", "swapdims", "t", "__get__:T", "__get__:mT", "adjoint")
def _transpose(call: Call) -> TensorField:
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
    return moved(call.field, lambda axis: {a: b, b: a}.get(axis, axis))


@rule("permute")
def _permute(call: Call) -> TensorField:
    dims = call.args[1:] if len(call.args) > 2 else call.get(1, "dims")
    order = [d % call.x.ndim for d in (dims if isinstance(dims, tuple | list) else [dims])]
    return moved(call.field, order.index)


@rule("movedim", "moveaxis")
def _movedim(call: Call) -> TensorField:
    source, target = call.get(1, "source"), call.get(2, "destination")
    if not isinstance(source, int):
        raise CannotTrace(f"{call.place}: movedim of several axes")
    order = [axis for axis in range(call.x.ndim) if axis != source % call.x.ndim]
    order.insert(target % call.x.ndim, source % call.x.ndim)
    return moved(call.field, order.index)


@rule("unsqueeze")
def _unsqueeze(call: Call) -> TensorField:
    at = call.get(1, "dim") % (call.x.ndim + 1)
    return moved(call.field, lambda axis: axis + (axis >= at))


@rule("squeeze")
def _squeeze(call: Call) -> TensorField:
    dim = call.get(1, "dim")
    gone = {axis for axis in axes_of(dim, call.x.ndim) if call.x.shape[axis] == 1}
    reaches = [r.axis for r in call.field.reaches if isinstance(r, Reach)]
    field = call.field
    if gone & set(reaches):  # one position is all there is: it is picked
        field = TensorField(
            tuple(
                r.picked(0) if isinstance(r, Reach) and r.axis in gone else r for r in field.reaches
            ),
            field.mixed,
        )
    kept = TensorField(field.reaches, field.mixed - gone)
    return moved(kept, lambda axis: axis - sum(a < axis for a in gone))


@rule("expand", "expand_as", "broadcast_to")
def _expand(call: Call) -> TensorField:
    return aligned(call, call.field, call.x, call.result.ndim, call.result.shape)


@rule("repeat", "tile")
def _repeat(call: Call) -> TensorField:
    field = moved(call.field, lambda axis: axis + call.result.ndim - call.x.ndim)
    for reach in field.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            size = call.x.shape[reach.axis - call.result.ndim + call.x.ndim]
            if call.result.shape[reach.axis] != size:
                raise CannotTrace(f"{call.place}: repeats the signal end to end")
    return field
