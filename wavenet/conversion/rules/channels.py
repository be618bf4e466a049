"""Functions that mix, repeat or reorder channels, of every column by itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from wavenet.conversion.joins import Function, Slot
from wavenet.conversion.rules.pointwise import function_of, noted
from wavenet.conversion.rules.windows import difference
from wavenet.conversion.signals import Call, Rule, Signal, lettered

_DIMS = {"flip": "dims", "roll": "dims"}
"""Names of the argument that is ``dim`` elsewhere."""


def channels(call: Call) -> Signal:
    """Functions along axes of channels, which return as many axes."""
    (x,), place = call.signals, 2 if call.name == "roll" else 1
    dims = call.argument(place, _DIMS.get(call.name, "dim"), ())
    dims = dims if isinstance(dims, tuple | list) else (dims,)
    dims = (*dims, *call.args[2:]) if call.name == "flip" else dims
    if not dims or any(x.axes[dim] in ("B", "T") for dim in dims):
        raise call.tracer.refusal(f"calls {call.name} along time, or over the rows of the batch")
    return noted(call, function_of(call, call.kwargs), x.axes)


def stack(call: Call) -> Signal:
    """``stack`` of signals: a new axis of channels."""
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0)
    signals, axes = call.signals, call.signals[0].axes
    if len(signals) != len(tensors) or any(one.axes != axes for one in signals):
        raise call.tracer.refusal("stacks signals with axes in different orders, or with constants")
    after: list[str | None] = list(axes)
    after.insert(dim % (len(axes) + 1), None)
    return noted(call, function_of(call, call.kwargs), lettered(after))


def repeat(call: Call) -> Signal:
    """``repeat`` and ``tile`` of channels."""
    (x,), times = call.signals, call.argument(1, "repeats", call.kwargs.get("dims", ()))
    times = tuple(times) if isinstance(times, tuple | list) else call.args[1:]
    if len(times) != len(x.axes) or any(
        n != 1 for axis, n in zip(x.axes, times, strict=True) if axis in ("B", "T")
    ):
        raise call.tracer.refusal(f"calls {call.name} along time, or over the rows of the batch")
    return noted(call, function_of(call, call.kwargs), x.axes)


def expand(call: Call) -> Signal:
    """``expand`` of one channel; the sizes of the batch and of time stay open."""
    (x,), result = call.signals, call.result()
    if result.ndim != x.ndim:
        raise call.tracer.refusal("calls expand to more axes; use unsqueeze before")
    sizes = zip(x.axes, result.shape, strict=True)
    open_sizes = [-1 if axis in ("B", "T") else int(n) for axis, n in sizes]
    return noted(call, Function(Tensor.expand, (Slot(0), *open_sizes), {}), x.axes)


def product(call: Call) -> Signal:
    """``matmul`` of channels with a matrix."""
    x, pair = call.signals[0], call.args[:2]
    right = pair[0] is x
    other = pair[1] if right else pair[0]
    axis = x.axes[-1 if right else -2]
    if len(call.signals) > 1 or other.ndim != 2 or axis in ("B", "T"):
        raise call.tracer.refusal(f"calls {call.name} other than of its channels with a matrix")
    return noted(call, function_of(call, call.kwargs), x.axes)


def einsum(call: Call) -> Signal:
    """``einsum`` of one signal and constants, of every column by itself."""
    tracer, equation, operands = call.tracer, call.args[0], call.args[1:]
    operands = (
        operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    )
    before, arrow, after = str(equation).replace(" ", "").partition("->")
    terms = before.split(",")
    if len(call.signals) != 1 or not arrow or "." in equation or len(terms) != len(operands):
        raise tracer.refusal("calls einsum other than of one signal and constants, with ->")
    x = call.signals[0]
    at = next(i for i, one in enumerate(operands) if one is x)
    names = dict(zip(terms[at], x.axes, strict=True))
    fixed = {letter for letter, axis in names.items() if axis in ("B", "T")}
    shared = set("".join(term for i, term in enumerate(terms) if i != at))
    if fixed & shared or not fixed <= set(after):
        raise tracer.refusal("calls einsum over time, or over the rows of the batch")
    return noted(call, function_of(call, call.kwargs), lettered(names.get(one) for one in after))


def diff(call: Call) -> Signal:
    """``diff`` along channels or time."""
    (x,) = call.signals[:1]
    if (
        call.argument(1, "n", 1) != 1
        or len(call.args) > 3
        or {"prepend", "append"} & {*call.kwargs}
    ):
        raise call.tracer.refusal("calls diff with n, prepend or append; leave them out")
    axis = x.axes[call.argument(2, "dim", -1)]
    if axis == "B":
        raise call.tracer.refusal("calls diff over the rows of the batch")
    if axis == "T":
        return difference(call)
    return noted(call, function_of(call, call.kwargs), x.axes)


def _rules() -> dict[str, Rule]:
    rules: dict[str, Any] = dict.fromkeys(
        ("flip", "roll", "cumsum", "cumprod", "index_select"), channels
    )
    rules |= dict.fromkeys(("repeat", "tile"), repeat)
    rules |= dict.fromkeys(("matmul", "__matmul__", "__rmatmul__"), product)
    return rules | {"stack": stack, "expand": expand, "einsum": einsum, "diff": diff}


RULES = _rules()
"""By the name of the function."""
