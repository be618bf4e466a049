"""Products of matrices, einsum, and what gathers by index."""

from __future__ import annotations

from torch import Tensor, nn

from wavenet.receptive_fields.module_tracker import tensors_in
from wavenet.receptive_fields.rules.call import (
    Call,
    Heard,
    Maskable,
    moved,
    rule,
    union,
    whole,
)
from wavenet.receptive_fields.rules.over_time import endless
from wavenet.receptive_fields.windows import CannotTrace, Reach


@rule("linear")
def _linear(call: Call) -> Heard:
    heard = call.alone()
    why = "is fully connected along time"
    return whole(call, heard, {call.x.ndim - 1}, _through(call.get(1, "weight"), why))


def _through(matrix: Tensor, why: str) -> str:
    """Why a product with a constant has no end; if it is no parameter, it may be a mask."""
    return why if isinstance(matrix, nn.Parameter) else Maskable(why)


@rule("matmul", "bmm", "mm", "mv", "baddbmm", "addmm", "rmatmul", "tensordot", "bilinear", "outer")
def _matmul(call: Call) -> Heard:
    if call.name not in ("matmul", "bmm", "mm", "mv"):
        raise CannotTrace(f"{call.place}: {call.name} of the signal")
    a, b = call.get(0, "input"), call.get(1, "other", call.kwargs.get("mat2"))
    hears_a, hears_b = call.heard_of(a), call.heard_of(b)
    if b.ndim == 1 or a.ndim == 1:
        raise CannotTrace(f"{call.place}: {call.name} with a vector")
    ndim = call.result.ndim
    parts = []
    for heard, tensor, contracted, other in (
        (hears_a, a, a.ndim - 1, b),
        (hears_b, b, b.ndim - 2, a),
    ):
        if heard is not None:
            why = _through(other, "multiplies matrices over all of the time")
            heard = whole(call, heard, {contracted}, why)
            parts.append(_aligned_batch(heard, tensor, ndim))
    if len(parts) == 2:
        for reach_a, reach_b in zip(parts[0].reaches, parts[1].reaches, strict=True):
            axes = {r.axis for r in (reach_a, reach_b) if isinstance(r, Reach)}
            if len(axes) == 2 or axes & {ndim - 2, ndim - 1}:
                return endless(call, "multiplies every time with every other (attention)")
    return union(call, parts)


def _aligned_batch(heard: Heard, tensor: Tensor, ndim: int) -> Heard:
    return moved(heard, lambda axis: axis + ndim - tensor.ndim)


@rule("einsum")
def _einsum(call: Call) -> Heard:
    equation, operands = call.args[0], tensors_in(call.args[1:])
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        raise CannotTrace(f"{call.place}: einsum without a plain equation")
    sources, target = equation.replace(" ", "").split("->")
    parts, letters = [], []
    for source, tensor in zip(sources.split(","), operands, strict=True):
        heard = call.heard_of(tensor)
        if heard is None:
            continue
        gone = {axis for axis, letter in enumerate(source) if letter not in target}
        heard = whole(call, heard, gone, "einsum sums over all of the time")
        axes = [r.axis if isinstance(r, Reach) else None for r in heard.reaches]
        letters.append(["" if axis is None else source[axis] for axis in axes])
        places = [target.find(letter) for letter in source]
        parts.append(moved(heard, places.__getitem__))
    for column in zip(*letters, strict=True):
        if len(set(column) - {""}) > 1:
            return endless(call, "multiplies every time with every other (attention)")
    return union(call, parts)


@rule("embedding", "one_hot", "view_as_real")
def _embedding(call: Call) -> Heard:
    """A new axis at the end."""
    return call.alone()


@rule("glu")
def _glu(call: Call) -> Heard:
    axis = call.get(1, "dim", -1) % call.x.ndim
    if any(isinstance(r, Reach) and r.axis == axis for r in call.heard.reaches):
        raise CannotTrace(f"{call.place}: glu halves the time")
    return call.alone()
