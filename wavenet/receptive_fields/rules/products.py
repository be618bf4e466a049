"""Products of matrices, einsum, and what gathers by index."""

from __future__ import annotations

from torch import Tensor

from wavenet.receptive_fields.module_tracker import tensors_in
from wavenet.receptive_fields.rules.call import Call, Heard, moved, rule, union, whole
from wavenet.receptive_fields.rules.reductions import endless
from wavenet.receptive_fields.windows import CannotTrace, Reach


@rule("linear")
def _linear(call: Call) -> Heard:
    heard = call.alone()
    axis = call.x.ndim - 1
    return whole(call, heard, {axis}, "is fully connected along time")


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
    for heard, tensor, contracted in ((hears_a, a, a.ndim - 1), (hears_b, b, b.ndim - 2)):
        if heard is not None:
            heard = whole(call, heard, {contracted}, "multiplies matrices over all of the time")
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
