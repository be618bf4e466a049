"""Slices, the order of axes, and channels that are taken apart or joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wavenet.conversion.joins import Channels, Concatenation
from wavenet.conversion.rules.channels import channels
from wavenet.conversion.rules.pointwise import elementwise, function_of, noted
from wavenet.conversion.rules.windows import decimate, shifted
from wavenet.conversion.signals import (
    LONGEST_CONSTANT,
    NOMINAL_SAMPLES,
    Call,
    Rule,
    Signal,
    Timing,
    lettered,
)

_SHORTEST_SHARE = 64
"""More than the nominal length divided by this is a share of the signal, or its other end."""


def _alias(call: Call, x: Signal, result: Tensor, axes: tuple[str, ...]) -> Signal:
    """Return the same value with its axes in another order."""
    return call.tracer.signal(call, result, x.value, x.timing, axes)


def unchanged(call: Call) -> Signal:
    """Functions that return what they get, but for the precision; of other types, a cast."""
    x, result = call.signals[0], call.result()
    if not (x.dtype.is_floating_point and result.dtype.is_floating_point):
        return elementwise(call)
    return _alias(call, x, result, x.axes)


def _moved(call: Call, x: Signal, order: list[int]) -> Signal:
    """Return the signal with its axes in another order, its channels too."""
    axes = tuple(x.axes[dim] for dim in order)
    after = lettered(axes)
    if axes == after:
        return _alias(call, x, call.result(), after)
    return noted(call, function_of(call, call.kwargs), after)


def transpose(call: Call) -> Signal:
    """``transpose(dim0, dim1)``."""
    (x,) = call.signals
    order = list(range(len(x.axes)))
    first, second = call.argument(1, "dim0"), call.argument(2, "dim1")
    order[first], order[second] = order[second], order[first]
    return _moved(call, x, order)


def permute(call: Call) -> Signal:
    """``permute(dims)``."""
    (x,) = call.signals
    dims = call.kwargs.get("dims", call.args[1:])
    dims = dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims
    return _moved(call, x, list(dims))


def swap_last(call: Call) -> Signal:
    """``x.mT``."""
    (x,) = call.signals
    n = len(x.axes)
    return _moved(
        Call(call.tracer, Tensor.transpose, (x, -2, -1), {}), x, [*range(n - 2), n - 1, n - 2]
    )


def squeeze(call: Call) -> Signal:
    """``squeeze(dim)`` of one channel."""
    (x,), dim, result = call.signals, call.argument(1, "dim"), call.result()
    sizes = list(enumerate(zip(x.axes, x.shape, strict=True)))
    chosen = range(len(x.axes)) if dim is None else [dim % len(x.axes)]
    gone = {i for i, (axis, n) in sizes if n == 1 and axis not in "BT" and i in chosen}
    return _alias(call, x, result, lettered(x.axes[i] for i, _ in sizes if i not in gone))


def unsqueeze(call: Call) -> Signal:
    """``unsqueeze(dim)``: an axis of one channel."""
    (x,), dim = call.signals, call.argument(1, "dim")
    axes: list[str | None] = list(x.axes)
    axes.insert(dim % (len(axes) + 1), None)
    return _alias(call, x, call.result(), lettered(axes))


def reshape(call: Call) -> Signal:
    """``view``, ``reshape``, ``flatten`` and ``unflatten`` of channels beside each other."""
    (x,), result = call.signals, call.result()
    if result.shape == x.shape:
        return _alias(call, x, result, x.axes)
    n, shape = len(x.axes), tuple(x.shape)
    for first in range(n + 1):
        for last in range(n, first - 1, -1):
            outer = shape[:first], shape[last:]
            room = len(result.shape) - first - (n - last)
            split = len(result.shape) - (n - last)
            same = room >= 0 and outer == (result.shape[:first], result.shape[split:])
            if same and not set(x.axes[first:last]) & {"B", "T"}:
                axes = (*x.axes[:first], *[None] * room, *x.axes[last:])
                if {"B", "T"} <= set(axes):
                    return _alias(call, x, result, lettered(axes))
    raise call.tracer.refusal(
        f"calls {call.name}, which mixes time with other axes; signals are [B, C, T] here"
    )


def pieces(call: Call) -> tuple[Signal, ...]:
    """``chunk`` and ``split`` of channels."""
    (x,), results = call.signals, call.result()
    dim, at = call.argument(1 if call.name == "unbind" else 2, "dim", 0), 0
    if x.axes[dim] == "T":
        raise call.tracer.refusal(f"calls {call.name} along time; pieces depend on the length")
    if x.axes[dim] == "B":
        raise call.tracer.refusal(f"calls {call.name} over the rows of the batch")
    parts = []
    if call.name == "unbind":
        return tuple(
            noted(one, function_of(one, {}), lettered(a for a in x.axes if a != x.axes[dim]))
            for one in (
                Call(call.tracer, torch.select, (x, dim, i), {}) for i in range(len(results))
            )
        )
    for result in results:
        n = int(result.shape[dim])
        if len(x.axes) > 3:
            one = Call(call.tracer, torch.narrow, (x, dim, at, n), {})
            parts.append(noted(one, function_of(one, {}), x.axes))
        else:
            parts.append(_channels(call, x, result, at, n, x.axes))
        at += n
    return tuple(parts)


def _channels(
    call: Call, x: Signal, result: Tensor, start: int, n: int, axes: tuple[str, ...]
) -> Signal:
    if n == x.channels:
        return _alias(call, x, result, axes)
    value = call.tracer.note(Channels(start, n), x.value, channels=n, loose=True)
    return call.tracer.signal(call, result, value, x.timing, axes)


def item(call: Call) -> Signal:
    """``x[...]``: channels, and slices of time that count from both ends."""
    x, index = call.args
    index = list(index) if isinstance(index, tuple) else [index]
    n_taken = sum(entry is not None and entry is not Ellipsis for entry in index)
    rest = [slice(None)] * (len(x.axes) - n_taken)
    at = next((i for i, entry in enumerate(index) if entry is Ellipsis), None)
    index[len(index) if at is None else at : None if at is None else at + 1] = rest
    axes, after, in_time = iter(x.axes), list[str | None](), slice(None)
    for i, entry in enumerate(index):
        axis = None if entry is None else next(axes)
        if axis == "B" and not _is_all(entry):
            raise call.tracer.refusal("takes some rows of the batch")
        if axis == "T":
            in_time, index[i] = entry, slice(None)
        after += [] if axis not in ("B", "T") and isinstance(entry, int) else [axis]
    others = [entry for entry in index if isinstance(entry, Tensor | list)]
    if others and (len(others) > 1 or any(isinstance(entry, int) for entry in index)):
        raise call.tracer.refusal("is indexed by several tensors or lists; use slices")
    if not all(_is_all(entry) for entry in index):
        x = _at_channels(call, x, index, lettered(after))
    return _in_time(call, x, in_time)


def _is_all(entry: Any) -> bool:
    return isinstance(entry, slice) and entry == slice(None)


def _at_channels(call: Call, x: Signal, index: list[Any], after: tuple[str, ...]) -> Signal:
    """Return the channels of an index, which has all of the time."""
    if len(x.axes) == len(index) == 3 or x.axes == ("B", "T"):
        entry = index[x.axes.index("C")] if "C" in x.axes else None
        if isinstance(entry, int | slice):
            return _one_axis(call, x, "C", entry)
    one = Call(call.tracer, Tensor.__getitem__, (x, tuple(index)), {})
    return noted(one, function_of(one, {}), after)


def _one_axis(call: Call, x: Signal, axis: str, entry: Any) -> Signal:
    """Return the channels of an index."""
    axes, n = x.axes, x.channels
    if isinstance(entry, int):
        start, length = entry % n, 1
        axes = tuple(one for one in axes if one != axis)
    else:
        start, stop, step = entry.indices(n)
        length = stop - start
        if step != 1:
            raise call.tracer.refusal(f"takes every {step}th channel; permute the weights instead")
    with torch._C.DisableTorchFunctionSubclass():
        result = x[tuple(entry if one == axis else slice(None) for one in x.axes)]
    return _channels(call, x, result, start, length, axes)


def _in_time(call: Call, x: Signal, entry: Any) -> Signal:
    if entry == slice(None):
        return x
    if isinstance(entry, int):
        raise call.tracer.refusal("takes the sample of one time")
    at, n = x.axes.index("T"), int(x.shape[x.axes.index("T")])
    start, stop, step = entry.indices(n)
    # More than this was counted from the other end, or is a share of the length.
    longest = int(NOMINAL_SAMPLES * x.timing.rate) // _SHORTEST_SHARE
    if start > longest or n - stop > longest:
        raise call.tracer.refusal("takes a number of samples at one end, not the whole signal")
    with torch._C.DisableTorchFunctionSubclass():
        result = x.narrow(at, start, stop - start)[(*[slice(None)] * at, slice(None, None, step))]
    if step == 1:
        return shifted(call, x, result, start)
    if x.axes != ("B", "C", "T"):
        raise call.tracer.refusal("takes every n-th sample, not of [B, C, T]; transpose it before")
    return decimate(call, x, start, step)


def narrow(call: Call) -> Signal:
    """``narrow(dim, start, length)``."""
    (x,) = call.signals
    dim, start, length = (call.argument(i + 1, k) for i, k in enumerate(("dim", "start", "length")))
    entry = slice(start % int(x.shape[dim]), start % int(x.shape[dim]) + length)
    if x.axes[dim] == "T":
        return _in_time(call, x, entry)
    if x.axes == ("B", "C", "T"):
        return _one_axis(call, x, "C", entry)
    return channels(call)


def join(call: Call) -> Signal:
    """``cat``: of channels, or of zeros and a signal along time."""
    tracer, result = call.tracer, call.result()
    tensors, dim = call.argument(0, "tensors"), call.argument(1, "dim", 0)
    signals = call.signals
    axes = signals[0].axes
    if any(one.axes != axes for one in signals):
        raise tracer.refusal("joins signals with axes in different orders")
    if axes[dim] == "T":
        return _behind_zeros(call, list(tensors), result)
    if axes[dim] == "B" or len(signals) != len(tensors):
        raise tracer.refusal("joins signals with tensors that are none, or over the batch")
    if len(axes) > 3:
        return noted(call, function_of(call, call.kwargs), axes)
    values, timing = tracer.aligned(signals, of_zeros=True)
    n = sum(one.channels for one in signals)
    value = tracer.note(Concatenation(), *values, channels=n, loose=True)
    return tracer.signal(call, result, value, timing, axes)


def _behind_zeros(call: Call, tensors: list[Tensor], result: Tensor) -> Signal:
    (x,) = call.signals[:1]
    zeros = tensors[:-1]
    if len(call.signals) > 1 or tensors[-1] is not x or any(bool(one.any()) for one in zeros):
        raise call.tracer.refusal("joins tensors along time that are not zeros before a signal")
    left = sum(int(one.shape[x.axes.index("T")]) for one in zeros)
    timing = Timing(x.timing.rate, x.timing.shift - left, x.timing.start)
    return call.tracer.signal(call, result, x.value, timing, x.axes)


def zeros(call: Call) -> Tensor:
    """Tensors of zeros of a size that does not depend on the length of the signal."""
    shape = tuple(call.result().shape)
    if max(shape, default=0) > LONGEST_CONSTANT:
        raise call.tracer.refusal(f"calls {call.name} for as many samples as the signal has")
    return torch.zeros(shape)


def plainly(call: Call) -> Any:
    """Questions about the shape and the type."""
    return call.result()


def device(call: Call) -> torch.device:
    """``x.device``."""
    return next((one.device for one in call.tracer.owners[0].parameters()), torch.device("cpu"))


_ASKED = ("shape", "ndim", "dtype", "is_cuda", "requires_grad", "layout", "is_sparse", "is_nested")
_TOLD = (
    "size",
    "dim",
    "ndimension",
    "numel",
    "is_floating_point",
    "__len__",
    "is_complex",
    "stride",
)
_SAME = ("contiguous", "to", "float", "double", "type_as", "clone", "detach", "cpu")


def _rules() -> dict[str, Rule]:
    rules: dict[str, Callable[[Call], Any]] = {f"get {name}": plainly for name in _ASKED}
    rules |= dict.fromkeys(_TOLD, plainly)
    rules |= dict.fromkeys(_SAME, unchanged)
    rules |= dict.fromkeys(("transpose", "swapaxes", "swapdims"), transpose)
    rules |= dict.fromkeys(("chunk", "split", "tensor_split", "unbind"), pieces)
    rules |= dict.fromkeys(("view", "reshape", "flatten", "unflatten"), reshape)
    rules |= dict.fromkeys(("cat", "concat"), join)
    rules |= dict.fromkeys(("new_zeros", "zeros_like"), zeros)
    return rules | {
        "get device": device,
        "get mT": swap_last,
        "permute": permute,
        "squeeze": squeeze,
        "unsqueeze": unsqueeze,
        "__getitem__": item,
        "narrow": narrow,
    }


RULES = _rules()
"""By the name of the function."""
