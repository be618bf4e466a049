"""What stands for a torch function in a linear network with positive coefficients (``linear``).

A counterpart hears what its function hears, and computes a sum of it, each term times something
positive: a convolution with positive weights, a mean for a maximum, and for a normalisation its
input plus the mean of what it normalises over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.receptive_fields.module_tracker import convert

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
        """Those arguments that were given, by name; `names` are those of the positions."""
        return dict(zip(names, self.args, strict=False)) | self.kwargs


Counterpart = Callable[[Call], Any]
COUNTERPARTS: dict[str, Counterpart] = {}
"""By the function's name. Others are linear already, or replaced by ``linear`` itself."""


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
    return _with_positive_weight(call, _CONVOLUTION)


@counterpart("conv_transpose{n}d")
def _transposed(call: Call) -> Tensor:
    return _with_positive_weight(call, _TRANSPOSED)


def _with_positive_weight(call: Call, names: tuple[str, ...]) -> Tensor:
    arguments = call.named(names)
    arguments["weight"] = call.positive(arguments["weight"])
    arguments["bias"] = None
    result: Tensor = getattr(F, call.name)(**arguments)
    return result


@counterpart("linear")
def _linear(call: Call) -> Tensor:
    arguments = call.named(("input", "weight", "bias"))
    return F.linear(arguments["input"], call.positive(arguments["weight"]))


@counterpart("matmul", "bmm", "mm")
def _product(call: Call) -> Tensor:
    a, b = (*call.args, *call.kwargs.values())[:2]
    a = a if a.requires_grad else call.positive(a)
    b = b if b.requires_grad else call.positive(b)
    return torch.matmul(a, b)


@counterpart("max_pool{n}d", "max_pool{n}d_with_indices")
def _max_pool(call: Call) -> Any:
    """A mean over each window, by a convolution of every channel with itself."""
    n = int(call.name[len("max_pool")])
    arguments = call.named(_MAX_POOL)
    true = torch.max_pool1d if n == 1 else F.max_pool2d if n == 2 else F.max_pool3d
    kept = {k: v for k, v in arguments.items() if k not in ("input", "return_indices")}
    x = arguments["input"]
    sizes = tuple(true(x.detach(), **kept).shape[-n:])
    pooled = _mean_over_windows(x, sizes, arguments)
    indices = call.name.endswith("indices") or arguments.get("return_indices")
    return (pooled, torch.zeros_like(pooled, dtype=torch.long)) if indices else pooled


def _mean_over_windows(x: Tensor, sizes: tuple[int, ...], arguments: dict[str, Any]) -> Tensor:
    """``[..., *sizes]``, with the windows of a max-pooling of these arguments."""
    n = len(sizes)
    kernel = _as_tuple(arguments["kernel_size"], n)
    stride = _as_tuple(arguments.get("stride") or kernel, n)
    padding, dilation = (
        _as_tuple(arguments.get(key, default), n)
        for key, default in (("padding", 0), ("dilation", 1))
    )
    pads: list[int] = []
    for i in reversed(range(n)):
        needed = (sizes[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        pads += [padding[i], max(0, needed - x.shape[i - n] - padding[i])]
    padded = F.pad(x, pads)
    rows = padded.reshape(-1, 1, *padded.shape[-n:])
    weight = torch.ones(1, 1, *kernel, dtype=x.dtype) / math.prod(kernel)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    pooled = convolve(rows, weight, None, stride, 0, dilation)
    cut = tuple(slice(0, size) for size in sizes)
    return pooled[(slice(None), slice(None), *cut)].reshape(*padded.shape[:-n], *sizes)


@counterpart("adaptive_max_pool{n}d", "adaptive_max_pool{n}d_with_indices")
def _adaptive_max_pool(call: Call) -> Any:
    arguments = call.named(("input", "output_size", "indices"))
    pool = getattr(F, call.name.replace("max", "avg"))
    return pool(arguments["input"], arguments["output_size"])


@counterpart("lp_pool{n}d")
def _power_pool(call: Call) -> Any:
    arguments = call.named(_POWER_POOL)
    del arguments["norm_type"]
    return getattr(F, call.name.replace("lp", "avg"))(**arguments)


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


@counterpart("softmax", "log_softmax", "softmin", "_softmax", "normalize")
def _spread(call: Call) -> Tensor:
    x: Tensor = call.x
    dim = call.get(2 if call.name == "normalize" else 1, "dim", 1)
    return x + x.mean(dim, keepdim=True)


@counterpart("amax", "amin", "max", "min", "std", "var", "norm", "logsumexp", "median")
@counterpart("vector_norm", "linalg_vector_norm", "prod", "mean", "sum")
def _mean(call: Call) -> Any:
    x: Tensor = call.x
    at = 2 if "norm" in call.name else 1
    dim = call.get(at, "dim", call.kwargs.get("axis"))
    keepdim = call.kwargs.get("keepdim", len(call.args) > at + 1 and call.args[at + 1] is True)
    if dim is None or isinstance(dim, bool):
        return x.mean()
    mean = x.mean(dim, keepdim=keepdim)
    if call.name in ("max", "min", "median"):
        kind = getattr(torch.return_types, call.name)
        return kind((mean, torch.zeros_like(mean, dtype=torch.long)))
    return mean


@counterpart("stft")
def _stft(call: Call) -> Tensor:
    """The window's zeros would hide the outermost samples."""
    args, kwargs = convert(
        (call.args, call.kwargs), lambda t: t if t.requires_grad else t.double() + 1
    )
    return torch.stft(*args, **kwargs)


@counterpart("glu")
def _glu(call: Call) -> Tensor:
    first, second = call.args[0].chunk(2, call.get(1, "dim", -1))
    return first + second


@counterpart("gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell")
def _cell(call: Call) -> Any:
    """The mean of the input and the old state, in every unit of the new state."""
    x, state = call.args[0], call.args[1]
    before = state[0] if isinstance(state, tuple | list) else state
    after = before + x.mean(-1, keepdim=True) + before.mean(-1, keepdim=True)
    return (after, after.clone()) if call.name == "lstm_cell" else after


def span(call: Call) -> int:
    """How far a layer looks along its own input, in samples of it; never too few."""
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
