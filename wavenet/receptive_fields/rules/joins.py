"""Several tensors into one: end to end, or along a new axis."""

from __future__ import annotations

from wavenet.receptive_fields.rules.call import Call, Heard, moved, rule, seen_through, union
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window


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
        _refuse_positions(call, [heard for heard, _ in parts])
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
    _refuse_positions(call, parts)
    merged = union(call, parts)
    one = len(parts) == len(tensors) and all(alike(parts[0], part) for part in parts)
    return merged if one else Heard(merged.reaches, merged.mixed | {axis})


def _refuse_positions(call: Call, parts: list[Heard]) -> None:
    """Raise CannotTrace where single positions are put side by side: that may make a time axis."""
    for part in parts[1:]:
        single = [r for r in (*parts[0].reaches, *part.reaches) if isinstance(r, Reach)]
        if any(r.axis is None for r in single) and not alike(parts[0], part):
            raise CannotTrace(f"{call.place}: puts positions together one by one, as a loop does")
