"""Several tensors into one: end to end, or along a new axis."""

from __future__ import annotations

from wavenet.receptive_fields.rules.call import (
    Call,
    TensorField,
    moved,
    rule,
    through_windows,
    union,
)
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window


@rule("cat", "concat", "concatenate")
def _cat(call: Call) -> TensorField:
    tensors = list(call.get(0, "tensors"))
    axis = call.get(1, "dim", call.kwargs.get("axis", 0)) % call.result.ndim
    parts, start = [], 0
    for tensor in tensors:
        field = call.field_of(tensor)
        if field is not None:
            parts.append((field, start))
        start += tensor.shape[axis] if tensor.ndim == call.result.ndim else 0
    along = [
        any(isinstance(r, Reach) and r.axis == axis for r in field.reaches) for field, _ in parts
    ]
    if not any(along):
        _refuse_positions(call, [field for field, _ in parts])
        merged = union(call, [field for field, _ in parts])
        one = len(parts) == len(tensors) and all(alike(parts[0][0], h) for h, _ in parts)
        return merged if one else TensorField(merged.reaches, merged.mixed | {axis})
    if len(parts) > 1:
        raise CannotTrace(f"{call.place}: joins pieces of the signal end to end")
    field, start = parts[0]
    return through_windows(call, field, {axis: Window(1, -start)})


def alike(a: TensorField, b: TensorField) -> bool:
    """Return true if both fields are equal."""
    return a.mixed == b.mixed and all(
        x.same_as(y) if isinstance(x, Reach) and isinstance(y, Reach) else x == y
        for x, y in zip(a.reaches, b.reaches, strict=True)
    )


@rule("stack")
def _stack(call: Call) -> TensorField:
    tensors = list(call.get(0, "tensors"))
    axis = call.get(1, "dim", 0) % call.result.ndim
    found = [call.field_of(tensor) for tensor in tensors]
    parts = [moved(field, lambda a: a + (a >= axis)) for field in found if field is not None]
    _refuse_positions(call, parts)
    merged = union(call, parts)
    one = len(parts) == len(tensors) and all(alike(parts[0], part) for part in parts)
    return merged if one else TensorField(merged.reaches, merged.mixed | {axis})


def _refuse_positions(call: Call, parts: list[TensorField]) -> None:
    """Raise CannotTrace where single positions are put side by side: that may make a time axis."""
    for part in parts[1:]:
        single = [r for r in (*parts[0].reaches, *part.reaches) if isinstance(r, Reach)]
        if any(r.axis is None for r in single) and not alike(parts[0], part):
            raise CannotTrace(f"{call.place}: puts positions together one by one, as a loop does")
