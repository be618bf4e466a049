"""Convolutions, pooling, padding and upsampling.

A window of kernel size k and dilation d, padded by p on the left, reads for its output j

    x[s j - p .. s j - p + (k - 1) d]

and looks ``(k - 1) d - p`` samples ahead of sample s j. The causal one ends at sample s j; so the
shift of the output is that of x plus what the window looks ahead, in output columns. x waits where
this is no whole number of columns, or below zero and the window has to see the zeros before x.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wavenet.conversion.adoption import adopt, constant, owner_of
from wavenet.conversion.pooling import CausalMaxPool1d
from wavenet.conversion.signals import OTHER_AXES, Call, Rule, Signal, Timing
from wavenet.nn.convolution import CausalConv1d, CausalConvTranspose1d


def _number(value: Any) -> int:
    """Return a size that torch takes as a number or as a tuple of one."""
    return int(value[0]) if isinstance(value, tuple | list | torch.Size) else int(value)


def _signal(call: Call, index: int = 0) -> Signal:
    """Return the input of a window: a signal ``[B, C, T]``."""
    x = call.argument(index, "input")
    if not isinstance(x, Signal) or x.axes != ("B", "C", "T"):
        raise call.tracer.refusal(
            f"takes its input not as [B, C, T]; transpose it before, {OTHER_AXES}"
        )
    return x


def _window(
    call: Call, x: Signal, size: int, stride: int, left: int, *, of_zeros: bool = True
) -> tuple[int, Timing]:
    """Return the value that a causal window of this size reads, and the timing of its output.

    ``of_zeros``: whether it may be computed early, see ``Tracer.aligned``.
    """
    ahead = size - 1 - left + x.timing.shift
    waits = ahead < 0 and not (of_zeros and call.tracer.early)
    wait = -ahead if waits else -ahead % stride
    value = call.tracer.waiting(call.tracer.begun(x), wait)
    shift = (ahead + wait) // stride
    return value, Timing(x.timing.rate / stride, shift, max(0, shift))


def _noted(call: Call, module: nn.Module, value: int, timing: Timing) -> Signal:
    result = call.result()
    value = call.tracer.note(module, value, channels=int(result.shape[1]))
    return call.tracer.signal(call, result, value, timing)


def convolution(call: Call) -> Signal:
    """``conv1d``, of any padding."""
    tracer, x = call.tracer, _signal(call)
    weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
    if isinstance(weight, Signal):
        raise tracer.refusal("takes its weight from a signal")
    stride, padding = _number(call.argument(3, "stride", 1)), call.argument(4, "padding", 0)
    dilation, groups = _number(call.argument(5, "dilation", 1)), call.argument(6, "groups", 1)
    size = (weight.shape[2] - 1) * dilation + 1
    named = {"same": (size - 1) // 2, "valid": 0}
    left = named[padding] if isinstance(padding, str) else _number(padding)
    value, timing = _window(call, x, size, stride, left, of_zeros=bias is None or not tracer.exact)
    out, each, taps = weight.shape
    block: nn.Module
    if taps == stride == 1:
        block = nn.Conv1d(each * groups, out, 1, groups=groups)
    else:
        block = CausalConv1d(
            each * groups, out, taps, dilation=dilation, groups=groups, stride=stride
        )
    _adopt_later(call, block, weight, bias)
    return _noted(call, block, value, timing)


def transposed(call: Call) -> Signal:
    """``conv_transpose1d``; what is trimmed at the left end is looked ahead."""
    tracer, x = call.tracer, _signal(call)
    weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
    stride, padding = (
        _number(call.argument(3, "stride", 1)),
        _number(call.argument(4, "padding", 0)),
    )
    groups = call.argument(6, "groups", 1)
    if _number(call.argument(7, "dilation", 1)) != 1:
        raise tracer.refusal("is a transposed convolution with a dilation, which no block has")
    (value,), timing = tracer.aligned([x], of_zeros=bias is None or not tracer.exact)
    value = tracer.begun(x) if x.timing.shift > 0 else value
    out = weight.shape[1] * groups
    block = CausalConvTranspose1d(
        weight.shape[0], out, weight.shape[2], stride=stride, groups=groups
    )
    _adopt_later(call, block, weight, bias)
    return _noted(call, block, value, _raised(timing, stride, padding))


def _raised(timing: Timing, factor: int, ahead: int) -> Timing:
    """The timing at a higher rate, of which the first columns are trimmed."""
    shift = timing.shift * factor + ahead
    return Timing(timing.rate * factor, shift, max(0, shift))


def _adopt_later(call: Call, block: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    owner = owner_of(weight, call.tracer.owner)
    block.to(weight.device, weight.dtype)
    call.tracer.tasks.append(lambda: adopt(block, owner, {"weight": weight, "bias": bias}))


def maximum(call: Call) -> Signal:
    """``max_pool1d``."""
    tracer, x = call.tracer, _signal(call)
    kernel = _number(call.argument(1, "kernel_size"))
    stride = call.argument(2, "stride")
    stride = kernel if stride is None or stride == () else _number(stride)
    left, dilation = (
        _number(call.argument(3, "padding", 0)),
        _number(call.argument(4, "dilation", 1)),
    )
    if call.argument(5, "ceil_mode", False) or call.argument(6, "return_indices", False):
        raise tracer.refusal("has ceil_mode or return_indices; leave them out")
    if left and tracer.exact:
        raise tracer.refusal("is padded, and a recurrent layer would remember how; set padding=0")
    value, timing = _window(call, x, (kernel - 1) * dilation + 1, stride, left)
    block = CausalMaxPool1d(x.channels, kernel, stride=stride, dilation=dilation)
    return _noted(call, block, value, timing)


def average(call: Call) -> Signal:
    """``avg_pool1d``: a convolution of each channel with equal weights."""
    tracer, x = call.tracer, _signal(call)
    kernel = _number(call.argument(1, "kernel_size"))
    stride = call.argument(2, "stride")
    stride = kernel if stride is None or stride == () else _number(stride)
    left = _number(call.argument(3, "padding", 0))
    counted = call.argument(5, "count_include_pad", True)
    if call.argument(4, "ceil_mode", False):
        raise tracer.refusal("has ceil_mode; leave it out")
    if left and tracer.exact and not counted:
        raise tracer.refusal("is padded, and a recurrent layer would remember how; set padding=0")
    value, timing = _window(call, x, kernel, stride, left)
    block = _depthwise(
        call, torch.full((kernel,), 1 / kernel, dtype=torch.float64), x.channels, stride=stride
    )
    return _noted(call, block, value, timing)


def decimate(call: Call, x: Signal, first: int, stride: int) -> Signal:
    """``x[..., first::stride]``."""
    value, timing = _window(call, x, 1, stride, -first)
    block = _depthwise(call, torch.ones(1), x.channels, stride=stride)
    return _noted(call, block, value, timing)


def difference(call: Call) -> Signal:
    """``diff`` along time: ``x[..., 1:] - x[..., :-1]``."""
    x = _signal(call)
    value, timing = _window(call, x, 2, 1, 0)
    block = _depthwise(call, torch.tensor([-1.0, 1.0]), x.channels, stride=1)
    return _noted(call, block, value, timing)


def _depthwise(call: Call, taps: Tensor, channels: int, *, stride: int) -> CausalConv1d:
    block = CausalConv1d(channels, channels, len(taps), stride=stride, groups=channels, bias=False)
    values = constant(taps.expand(channels, 1, -1), call.tracer.owners[0])
    block.weight = nn.Parameter(values.clone(), requires_grad=False)
    return block


def pad(call: Call) -> Signal:
    """``F.pad``: zeros at the left end are the beginning of a stream, which waits for them.

    Reflected and repeated samples at the ends are taken for zeros: they touch the first columns
    and the last ones alone.
    """
    tracer = call.tracer
    (x,), sizes = call.signals, list(call.argument(1, "pad"))
    mode, constant_value = call.argument(2, "mode", "constant"), call.argument(3, "value", 0.0)
    pairs = [(sizes[i], sizes[i + 1]) for i in range(0, len(sizes), 2)]
    along = dict(zip(reversed(x.axes), pairs, strict=False))
    left, right = along.pop("T", (0, 0))
    if any(pair != (0, 0) for pair in along.values()):
        raise tracer.refusal("pads channels; join zeros to them, or pad the weights")
    if mode == "circular" and (left or right):
        raise tracer.refusal("pads with samples of the other end, which lies in the future")
    if mode == "constant" and constant_value and (left or right):
        raise tracer.refusal(f"pads with {constant_value}; a stream begins with zeros")
    if mode != "constant" and left > 0 and tracer.exact:
        raise tracer.refusal(
            f"pads with mode={mode!r}, which a recurrent layer would remember; pad with zeros"
        )
    if left < 0:
        return shifted(call, x, call.result(), -left)
    timing = Timing(x.timing.rate, x.timing.shift - left, x.timing.start)
    return tracer.signal(call, call.result(), x.value, timing, x.axes)


def shifted(call: Call, x: Signal, result: Tensor, first: int) -> Signal:
    """``x[..., first:]``."""
    shift = x.timing.shift + first
    start = max(x.timing.start, shift) if first else x.timing.start
    return call.tracer.signal(call, result, x.value, Timing(x.timing.rate, shift, start), x.axes)


def interpolate(call: Call) -> Signal:
    """``F.interpolate`` by a whole factor, of the nearest sample or linear."""
    tracer, x, result = call.tracer, _signal(call), call.result()
    mode, n = call.argument(3, "mode", "nearest"), int(x.shape[-1])
    factor, rest = divmod(int(result.shape[-1]), n)
    if rest or factor < 1:
        raise tracer.refusal("resamples by a factor that is no whole number")
    if mode in ("nearest", "nearest-exact"):
        return upsample(call, x, torch.ones(factor), 0)
    if mode != "linear" or call.argument(4, "align_corners"):
        raise tracer.refusal(f"interpolates with mode={mode!r} over the whole length; use nearest")
    if tracer.exact:
        raise tracer.refusal(
            "interpolates at the ends otherwise, which a recurrent layer would "
            "remember; use mode='nearest'"
        )
    ahead = factor // 2
    middle = torch.arange(2 * factor - factor % 2, dtype=torch.float64) - ahead - (factor - 1) / 2
    return upsample(call, x, 1 - middle.abs() / factor, ahead)


def repeat(call: Call) -> Signal:
    """``repeat_interleave`` along time."""
    x, factor = _signal(call), call.argument(1, "repeats")
    dim = call.argument(2, "dim")
    if not isinstance(factor, int) or dim is None or x.axes[dim] != "T":
        raise call.tracer.refusal("repeats other than every sample a number of times")
    return upsample(call, x, torch.ones(factor), 0)


def upsample(call: Call, x: Signal, taps: Tensor, ahead: int) -> Signal:
    """A transposed convolution of each channel with the same taps, the first columns trimmed."""
    tracer, n, factor = call.tracer, x.channels, int(call.result().shape[-1]) // int(x.shape[-1])
    (value,), timing = tracer.aligned([x], of_zeros=True)
    block = CausalConvTranspose1d(n, n, len(taps), stride=factor, groups=n, bias=False)
    values = constant(taps.expand(n, 1, -1), tracer.owners[0])
    block.weight = nn.Parameter(values.clone(), requires_grad=False)
    return _noted(call, block, value, _raised(timing, factor, ahead))


RULES: dict[str, Rule] = {
    "conv1d": convolution,
    "conv_transpose1d": transposed,
    "max_pool1d": maximum,
    "avg_pool1d": average,
    "pad": pad,
    "interpolate": interpolate,
    "repeat_interleave": repeat,
}
"""By the name of the function."""
