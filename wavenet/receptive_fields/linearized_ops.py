"""Linear counterparts of torch functions, with positive coefficients (``linear_network``).

A counterpart depends on the same inputs as its function, and is a sum of them with positive
coefficients: means over the windows of a convolution or a maximum, and for a normalisation its
input plus the mean over the normalised axes. Counterparts of recurrent layers, attention and masks
are in ``counterparts_over_time``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.receptive_fields.module_tracker import convert
from wavenet.receptive_fields.window_sums import (
    repeated_groups,
    sum_of_groups,
    window_means,
    zeros_between,
)

FLOOR = 1e-9
"""Fraction of the largest gradient that counts as zero: rounding, such as weights of 1e-17."""

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = (
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "output_padding",
    "groups",
    "dilation",
)
_MAX_POOL = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_AVERAGE_POOL = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
_POWER_POOL = ("input", "norm_type", "kernel_size", "stride", "ceil_mode")


@dataclass(frozen=True)
class Call:
    """One call of a torch function with at least one signal among its arguments.

    Attributes:
        name: of the function.
        args, kwargs: its arguments; a signal is a tensor that requires a gradient.
        positive: makes a positive constant in the shape of a weight.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    positive: Callable[[Tensor], Tensor]

    @property
    def x(self) -> Any:
        """The first argument."""
        return self.get(0, "input")

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or by name."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    def named(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the given arguments by name; `names` are those of the positions."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs


def with_binary_gradient(tensor: Tensor) -> Tensor:
    """Set the gradient back to 0 and 1 here, so that it neither underflows nor cancels."""
    if tensor.requires_grad:
        tensor.register_hook(_to_zeros_and_ones)
    return tensor


def _to_zeros_and_ones(gradient: Tensor) -> Tensor:
    if gradient.is_complex():
        return (gradient.abs() > FLOOR * gradient.abs().max()).to(gradient.dtype)
    size = gradient.abs()
    return size.gt_(FLOOR * size.max())


Counterpart = Callable[[Call], Any]
COUNTERPARTS: dict[str, Counterpart] = {}
"""Counterparts by function name; others are linear, or replaced in ``linear_network`` itself."""


def counterpart(*names: str) -> Callable[[Counterpart], Counterpart]:
    """Register a counterpart of functions of these names; ``{n}`` is 1, 2 and 3."""

    def register(function: Counterpart) -> Counterpart:
        for name in names:
            for n in (1, 2, 3):
                COUNTERPARTS[name.replace("{n}", str(n))] = function
        return function

    return register


@counterpart("conv{n}d")
def _convolution(call: Call) -> Tensor:
    arguments = call.named(_CONVOLUTION)
    x, weight = arguments["input"], arguments["weight"]
    n = weight.ndim - 2
    channels, groups = x.ndim - n - 1, arguments.get("groups", 1)
    kernel = tuple(weight.shape[2:])
    stride, dilation = (_as_tuple(arguments.get(key, 1), n) for key in ("stride", "dilation"))
    pads = _pads(arguments.get("padding", 0), kernel, dilation)
    fits = (
        x.ndim in (n + 1, n + 2)
        and x.shape[channels] == groups * weight.shape[1]
        and min(*stride, *dilation, *kernel) > 0
        and min(min(pad) for pad in pads) >= 0
        and all(
            size + sum(pad) > d * (k - 1)
            for size, pad, k, d in zip(x.shape[-n:], pads, kernel, dilation, strict=True)
        )
    )
    if not fits:
        return _as_torch_does(call)
    narrow = sum_of_groups(x, channels, groups)
    means = with_binary_gradient(window_means(narrow, kernel, stride, dilation, pads))
    return _with_weight(repeated_groups(means, channels, weight.shape[0]), weight)


def _pads(
    padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if isinstance(padding, str):  # torch puts the odd sample of "same" behind
        spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(span // 2, span - span // 2) for span in spans]
    return [(pad, pad) for pad in _as_tuple(padding, len(kernel))]


@counterpart("conv_transpose{n}d")
def _transposed(call: Call) -> Tensor:
    arguments = call.named(_TRANSPOSED)
    x, weight = arguments["input"], arguments["weight"]
    n = weight.ndim - 2
    channels, groups = x.ndim - n - 1, arguments.get("groups", 1)
    kernel = tuple(weight.shape[2:])
    stride, dilation, padding, added = (
        _as_tuple(arguments.get(key, default), n)
        for key, default in (
            ("stride", 1), ("dilation", 1), ("padding", 0), ("output_padding", 0)
        )
    )  # fmt: skip
    fits = (
        x.ndim in (n + 1, n + 2)
        and x.shape[channels] == weight.shape[0]
        and min(*stride, *dilation) > 0
        and all(more < max(s, d) for more, s, d in zip(added, stride, dilation, strict=True))
    )
    if not fits:
        return _as_torch_does(call)
    y = sum_of_groups(x, channels, groups)
    for d in range(n):
        y = zeros_between(y, y.ndim - n + d, stride[d])
    spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    pads = [
        (span - pad, span - pad + more)
        for span, pad, more in zip(spans, padding, added, strict=True)
    ]
    means = with_binary_gradient(window_means(y, kernel, (1,) * n, dilation, pads))
    return _with_weight(repeated_groups(means, channels, groups * weight.shape[1]), weight)


def _as_torch_does(call: Call) -> Tensor:
    """Run the real function, whose error names what it does not accept."""
    args, kwargs = convert((call.args, call.kwargs), lambda t: t.detach().float())
    getattr(F, call.name)(*args, **kwargs)
    raise NotImplementedError(f"{call.name} with these arguments")


def _with_weight(y: Tensor, weight: Tensor) -> Tensor:
    """Make every output depend on the whole of a weight that depends on the input."""
    return y + weight.mean() if weight.requires_grad else y


@counterpart("linear")
def _linear(call: Call) -> Tensor:
    arguments = call.named(("input", "weight", "bias"))
    x, weight = arguments["input"], arguments["weight"]
    if weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        return _as_torch_does(call)
    if is_triangular(weight):
        return with_binary_gradient(F.linear(x, _positive_or_mask(call, weight)))
    y = with_binary_gradient(x.mean(-1, keepdim=True))
    return _with_weight(y.expand(*y.shape[:-1], weight.shape[0]).clone(), weight)


@counterpart("matmul", "bmm", "mm")
def _product(call: Call) -> Tensor:
    a, b = (*call.args, *call.kwargs.values())[:2]
    a, b = (t if t.requires_grad else _positive_or_mask(call, t) for t in (a, b))
    return with_binary_gradient(torch.matmul(a, b))


def _positive_or_mask(call: Call, constant: Tensor) -> Tensor:
    positive = call.positive(constant)
    return positive * (constant != 0) if is_triangular(constant) else positive


def is_triangular(constant: Tensor) -> bool:
    """Return true if a constant mixes every time with earlier (or later) ones alone.

    Zeros of a parameter are values, which training moves; those of a mask, or of the product of a
    weight and a mask, on one side of the diagonal are not.
    """
    n = constant.shape[-1]
    if constant.ndim < 2 or n < 2 or constant.shape[-2] != n or isinstance(constant, nn.Parameter):
        return False
    if constant.is_meta or constant.requires_grad or not bool((constant != 0).any()):
        return False
    return not bool(constant.triu(1).any()) or not bool(constant.tril(-1).any())


@counterpart("max_pool{n}d", "max_pool{n}d_with_indices", "avg_pool{n}d", "lp_pool{n}d")
def _pool(call: Call) -> Any:
    """A mean over each window."""
    kind, _, rest = call.name.partition("_pool")
    n = int(rest[0])
    names = {"max": _MAX_POOL, "avg": _AVERAGE_POOL, "lp": _POWER_POOL}[kind]
    arguments = call.named(names)
    arguments.pop("norm_type", None)
    x = arguments["input"]
    sizes = _pooled_sizes(x, n, kind, arguments)
    pooled = _mean_over_windows(x, sizes, arguments)
    indices = call.name.endswith("indices") or arguments.get("return_indices")
    return (pooled, torch.zeros_like(pooled, dtype=torch.long)) if indices else pooled


def _pooled_sizes(x: Tensor, n: int, kind: str, arguments: dict[str, Any]) -> tuple[int, ...]:
    """The sizes that torch's own pooling gives, on shapes alone."""
    kept = {
        key: value for key, value in arguments.items() if key not in ("input", "return_indices")
    }
    true = getattr(torch if n == 1 else F, f"{'max' if kind == 'max' else 'avg'}_pool{n}d")
    sizes: tuple[int, ...] = tuple(true(x.detach().to("meta"), **kept).shape[-n:])
    return sizes


def _mean_over_windows(x: Tensor, sizes: tuple[int, ...], arguments: dict[str, Any]) -> Tensor:
    """``[..., *sizes]``, with the windows of a pooling of these arguments."""
    n = len(sizes)
    kernel = _as_tuple(arguments["kernel_size"], n)
    stride = _as_tuple(arguments.get("stride") or kernel, n)
    padding, dilation = (
        _as_tuple(arguments.get(key, default), n)
        for key, default in (("padding", 0), ("dilation", 1))
    )
    pads = []
    for i in range(n):
        needed = (sizes[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        pads.append((padding[i], needed - x.shape[i - n] - padding[i]))
    return with_binary_gradient(window_means(x, kernel, stride, dilation, pads))


@counterpart("adaptive_max_pool{n}d", "adaptive_max_pool{n}d_with_indices")
def _adaptive_max_pool(call: Call) -> Any:
    arguments = call.named(("input", "output_size", "indices"))
    pool = getattr(F, call.name.replace("max", "avg"))
    return pool(arguments["input"], arguments["output_size"])


@counterpart("batch_norm")
def _batch_norm(call: Call) -> Tensor:
    x: Tensor = call.x
    if not call.get(5, "training", False):
        return x.clone()
    return x + x.mean([0, *range(2, x.ndim)], keepdim=True)


@counterpart("instance_norm")
def _instance_norm(call: Call) -> Tensor:
    x: Tensor = call.x
    if not call.get(5, "use_input_stats", True):
        return x.clone()
    return x + x.mean(list(range(2, x.ndim)), keepdim=True)


@counterpart("layer_norm", "rms_norm")
def _layer_norm(call: Call) -> Tensor:
    x: Tensor = call.x
    shape = call.get(1, "normalized_shape")
    n = 1 if isinstance(shape, int) else len(shape)
    return x + x.mean(list(range(-n, 0)), keepdim=True)


@counterpart("local_response_norm")
def _local_response_norm(call: Call) -> Tensor:
    x: Tensor = call.x
    return x + x.mean(1, keepdim=True)


@counterpart("group_norm")
def _group_norm(call: Call) -> Tensor:
    x: Tensor = call.x
    grouped = x.reshape(x.shape[0], call.get(1, "num_groups"), -1)
    return (grouped + grouped.mean(-1, keepdim=True)).reshape(x.shape)


@counterpart("stft")
def _stft(call: Call) -> Tensor:
    """The window's zeros would hide the outermost samples."""
    args, kwargs = convert(
        (call.args, call.kwargs), lambda t: t if t.requires_grad else t.double() + 1
    )
    spectrum = torch.stft(*args, **kwargs)
    return spectrum.to(torch.promote_types(call.x.dtype, torch.complex64))


@counterpart("glu")
def _glu(call: Call) -> Tensor:
    first, second = call.args[0].chunk(2, call.get(1, "dim", -1))
    return first + second


def span(call: Call) -> int:
    """Return an upper bound of the extent of a layer's kernel, in samples of its input."""
    if "conv" in call.name:
        arguments = call.named(_TRANSPOSED if "transpose" in call.name else _CONVOLUTION)
        kernel = arguments["weight"].shape[2:]
        dilation = _as_tuple(arguments.get("dilation", 1), len(kernel))
        return max(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    if "pool" in call.name and "adaptive" not in call.name:
        size = max(_as_tuple(call.get(2 if "lp" in call.name else 1, "kernel_size"), 1))
        taps_apart = call.get(4, "dilation", 1) if "max" in call.name else 1
        return size * max(_as_tuple(taps_apart, 1))
    return 2


def _as_tuple(value: Any, n: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * n
    values = tuple(value)
    return values * n if len(values) == 1 else values
