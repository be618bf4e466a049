"""Products of matrices, einsum, and what gathers by index."""

from __future__ import annotations

from torch import Tensor, nn

from wavenet.receptive_fields.module_tracker import tensors_in
from wavenet.receptive_fields.rules.call import (
    Call,
    Maskable,
    TensorField,
    moved,
    rule,
    union,
    whole,
)
from wavenet.receptive_fields.rules.over_time import unbounded
from wavenet.receptive_fields.windows import CannotTrace, Reach


@rule("linear")
def _linear(call: Call) -> TensorField:
    field = call.sole_field()
    why = "is fully connected along time"
    return whole(call, field, {call.x.ndim - 1}, _unbounded_reason(call.get(1, "weight"), why))


def _unbounded_reason(matrix: Tensor, why: str) -> str:
    """Reason why a product with a constant is unbounded; a non-parameter may be a mask."""
    return why if isinstance(matrix, nn.Parameter) else Maskable(why)


@rule("matmul", "bmm", "mm", "mv", "baddbmm", "addmm", "rmatmul", "tensordot", "bilinear", "outer")
def _matmul(call: Call) -> TensorField:
    if call.name not in ("matmul", "bmm", "mm", "mv"):
        raise CannotTrace(f"{call.place}: {call.name} of the signal")
    a, b = call.get(0, "input"), call.get(1, "other", call.kwargs.get("mat2"))
    field_a, field_b = call.field_of(a), call.field_of(b)
    if b.ndim == 1 or a.ndim == 1:
        raise CannotTrace(f"{call.place}: {call.name} with a vector")
    ndim = call.result.ndim
    parts = []
    for field, tensor, contracted, other in (
        (field_a, a, a.ndim - 1, b),
        (field_b, b, b.ndim - 2, a),
    ):
        if field is not None:
            why = _unbounded_reason(other, "multiplies matrices over all of the time")
            field = whole(call, field, {contracted}, why)
            parts.append(_aligned_batch(field, tensor, ndim))
    if len(parts) == 2:
        for reach_a, reach_b in zip(parts[0].reaches, parts[1].reaches, strict=True):
            axes = {r.axis for r in (reach_a, reach_b) if isinstance(r, Reach)}
            if len(axes) == 2 or axes & {ndim - 2, ndim - 1}:
                return unbounded(call, "multiplies every time with every other (attention)")
    return union(call, parts)


def _aligned_batch(field: TensorField, tensor: Tensor, ndim: int) -> TensorField:
    return moved(field, lambda axis: axis + ndim - tensor.ndim)


@rule("einsum")
def _einsum(call: Call) -> TensorField:
    equation, operands = call.args[0], tensors_in(call.args[1:])
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        raise CannotTrace(f"{call.place}: einsum without a plain equation")
    sources, target = equation.replace(" ", "").split("->")
    parts, letters = [], []
    for source, tensor in zip(sources.split(","), operands, strict=True):
        field = call.field_of(tensor)
        if field is None:
            continue
        gone = {axis for axis, letter in enumerate(source) if letter not in target}
        field = whole(call, field, gone, "einsum sums over all of the time")
        axes = [r.axis if isinstance(r, Reach) else None for r in field.reaches]
        letters.append(["" if axis is None else source[axis] for axis in axes])
        places = [target.find(letter) for letter in source]
        parts.append(moved(field, places.__getitem__))
    for column in zip(*letters, strict=True):
        if len(set(column) - {""}) > 1:
            return unbounded(call, "multiplies every time with every other (attention)")
    return union(call, parts)


@rule("embedding", "one_hot", "view_as_real")
def _embedding(call: Call) -> TensorField:
    """A new axis at the end."""
    return call.sole_field()


@rule("glu")
def _glu(call: Call) -> TensorField:
    axis = call.get(1, "dim", -1) % call.x.ndim
    if any(isinstance(r, Reach) and r.axis == axis for r in call.field.reaches):
        raise CannotTrace(f"{call.place}: glu halves the time")
    return call.sole_field()
