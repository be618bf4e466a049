"""Slices, the order of axes, and channels that are taken apart or joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wavenet.conversion.joins import Channels, Concatenation
from wavenet.conversion.rules.pointwise import elementwise
from wavenet.conversion.rules.windows import decimate, shifted
from wavenet.conversion.signals import LONGEST_CONSTANT, NOMINAL_SAMPLES, Call, Rule, Signal, Timing

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


def transpose(call: Call) -> Signal:
    """``transpose(dim0, dim1)``."""
    (x,) = call.signals
    axes = list(x.axes)
    first, second = call.argument(1, "dim0"), call.argument(2, "dim1")
    axes[first], axes[second] = axes[second], axes[first]
    return _alias(call, x, call.result(), tuple(axes))


def permute(call: Call) -> Signal:
    """``permute(dims)``."""
    (x,) = call.signals
    dims = call.kwargs.get("dims", call.args[1:])
    dims = dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims
    return _alias(call, x, call.result(), tuple(x.axes[dim] for dim in dims))


def swap_last(call: Call) -> Signal:
    """``x.mT``."""
    (x,) = call.signals
    return _alias(call, x, call.result(), (*x.axes[:-2], x.axes[-1], x.axes[-2]))


def squeeze(call: Call) -> Signal:
    """``squeeze(dim)`` of one channel."""
    (x,), dim = call.signals, call.argument(1, "dim")
    if x.channels != 1 or "C" not in x.axes or (dim is not None and x.axes[dim] != "C"):
        return unchanged(call)
    return _alias(call, x, call.result(), tuple(axis for axis in x.axes if axis != "C"))


def unsqueeze(call: Call) -> Signal:
    """``unsqueeze(dim)`` of ``[B, T]``."""
    (x,), dim = call.signals, call.argument(1, "dim")
    if "C" in x.axes:
        raise call.tracer.refusal("makes a tensor of four axes; signals are [B, C, T] here")
    axes = list(x.axes)
    axes.insert(dim % (len(axes) + 1), "C")
    return _alias(call, x, call.result(), tuple(axes))


def reshape(call: Call) -> Signal:
    """``view`` and ``reshape`` that leave ``[B, C, T]`` as it is, or drop or add one channel."""
    (x,), result = call.signals, call.result()
    if result.shape == x.shape:
        return _alias(call, x, result, x.axes)
    if x.channels == 1 and result.ndim == 2 and result.shape[-1] == x.shape[-1]:
        return _alias(call, x, result, ("B", "T"))
    raise call.tracer.refusal(
        f"calls {call.name}, which mixes time with other axes; signals are [B, C, T] here"
    )


def pieces(call: Call) -> tuple[Signal, ...]:
    """``chunk`` and ``split`` of channels."""
    (x,), results = call.signals, call.result()
    dim, at = call.argument(2, "dim", 0), 0
    if x.axes[dim] == "T":
        raise call.tracer.refusal(f"calls {call.name} along time; pieces depend on the length")
    if x.axes[dim] != "C":
        raise call.tracer.refusal(f"calls {call.name} over the rows of the batch")
    parts = []
    for result in results:
        n = int(result.shape[dim])
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
    """``x[...]``: slices of channels, and of time if they count from both ends."""
    x, index = call.args
    index = list(index) if isinstance(index, tuple) else [index]
    if any(entry is None or isinstance(entry, Tensor | list) for entry in index):
        raise call.tracer.refusal("is indexed by tensors, lists or None; use slices")
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index[at : at + 1] = [slice(None)] * (len(x.axes) - len(index) + 1)
    index += [slice(None)] * (len(x.axes) - len(index))
    taken = dict(zip(x.axes, index, strict=True))
    if taken["B"] != slice(None):
        raise call.tracer.refusal("takes some rows of the batch")
    plain, entry = x, taken.get("C", slice(None))
    if entry != slice(None):
        x = _one_axis(call, plain, "C", entry)
    return _in_time(call, x, taken["T"])


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
    if x.axes[dim] == "C":
        return _one_axis(call, x, "C", entry)
    return _in_time(call, x, entry)


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
    if axes[dim] != "C" or len(signals) != len(tensors):
        raise tracer.refusal("joins signals with tensors that are none, or over the batch")
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
    rules |= dict.fromkeys(("chunk", "split"), pieces)
    rules |= dict.fromkeys(("view", "reshape"), reshape)
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
