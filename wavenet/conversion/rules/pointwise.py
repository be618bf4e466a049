"""Functions of each column by itself: activations, arithmetic, norms over channels, projections."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from wavenet.conversion.adoption import adopt
from wavenet.conversion.joins import (
    CANONICAL,
    Affine,
    Difference,
    Function,
    InLayout,
    Product,
    Slot,
    Sum,
)
from wavenet.conversion.signals import (
    OTHER_AXES,
    Call,
    Rule,
    Signal,
    is_torchs,
    lettered,
    place_of_inplace,
)
from wavenet.nn.causal import Causal
from wavenet.nn.normalization import BatchNorm, LayerNorm, RMSNorm

_JOINS: dict[str, type[nn.Module]] = {
    "add": Sum, "__add__": Sum, "__iadd__": Sum, "__radd__": Sum,
    "sub": Difference, "__sub__": Difference, "__isub__": Difference,
    "mul": Product, "__mul__": Product, "__imul__": Product, "__rmul__": Product,
    "multiply": Product,
}  # fmt: skip
_WITH_NUMBER: dict[str, Callable[[float], Affine]] = {
    "add": lambda n: Affine(1, n),
    "sub": lambda n: Affine(1, -n),
    "rsub": lambda n: Affine(-1, n),
    "mul": lambda n: Affine(n, 0),
    "div": lambda n: Affine(1 / n, 0),
    "truediv": lambda n: Affine(1 / n, 0),
}
_ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "hardtanh": nn.Hardtanh,
}
_ELEMENTWISE = (
    *_JOINS, *_WITH_NUMBER, *_ACTIVATIONS,
    "__rsub__", "__truediv__", "__itruediv__", "__rtruediv__", "__rdiv__", "divide", "subtract",
    "__pow__", "__rpow__", "__neg__", "neg", "negative", "pow", "square", "abs", "absolute", "sign",
    "exp", "log", "log1p", "log2", "log10", "expm1", "sqrt", "rsqrt", "reciprocal", "sin", "cos",
    "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "erf", "clamp", "clip", "clamp_min",
    "clamp_max", "maximum", "minimum", "softplus", "softsign", "celu", "hardsigmoid", "hardswish",
    "relu6", "prelu", "logsigmoid", "tanhshrink", "hardshrink", "softshrink", "threshold", "lerp",
    "addcmul", "addcdiv", "fmod", "floor", "ceil", "round", "where", "nan_to_num", "hypot",
    "gt", "lt", "ge", "le", "__gt__", "__lt__", "__ge__", "__le__",

)  # fmt: skip
_DROPOUTS: dict[str, type[nn.Module]] = {
    "dropout": nn.Dropout,
    "dropout1d": nn.Dropout1d,
    "alpha_dropout": nn.AlphaDropout,
    "feature_alpha_dropout": nn.FeatureAlphaDropout,
}
_OVER_AN_AXIS = {
    "mean": 1, "sum": 1, "var": 1, "std": 1, "amax": 1, "amin": 1, "softmax": 1, "log_softmax": 1,
    "logsumexp": 1, "prod": 1,
    "argmax": 1, "argmin": 1, "glu": 1, "norm": 2, "normalize": 2,
}  # fmt: skip
"""Place of the argument ``dim``."""


def elementwise(call: Call) -> Signal:
    """Functions of single numbers."""
    tracer, axes = call.tracer, call.signals[0].axes
    if any(one.axes != axes for one in call.signals):
        raise tracer.refusal(f"calls {call.name} of signals with axes in different orders")
    if call.name == "prelu" and axes != CANONICAL and call.argument(1, "weight").numel() > 1:
        raise tracer.refusal("has a slope for each channel, but its input is not [B, C, T]")
    for tensor in _constants(call) if call.name != "prelu" else ():
        sizes = dict(zip(reversed(axes), reversed(tensor.shape), strict=False))
        if tensor.ndim > len(axes) or sizes.get("T", 1) != 1 or sizes.get("B", 1) != 1:
            raise tracer.refusal(f"calls {call.name} with a tensor along time or rows")
    return noted(call, _module(call, by_column=False), axes)


def over_channels(call: Call) -> Signal:
    """Functions over an axis, which has to be the channels."""
    tracer, axes, result = call.tracer, call.signals[0].axes, call.result()
    at = _OVER_AN_AXIS[call.name]
    dims = call.argument(at, "dim", {"glu": -1, "normalize": 1}.get(call.name))
    dims = range(len(axes)) if dims is None else dims
    names = {axes[dim] for dim in ([dims] if isinstance(dims, int) else dims)}
    if names & {"B", "T"}:
        along = "time" if "T" in names else "rows of the batch"
        raise tracer.refusal(f"computes {call.name} over {along}, later samples included")
    kept = result.ndim == len(axes)
    after = axes if kept else lettered(axis for axis in axes if axis not in names)
    return noted(call, _module(call, by_column=True), after)


def _constants(call: Call) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_flatten((call.args, call.kwargs))[0]
    return [one for one in leaves if isinstance(one, Tensor) and not isinstance(one, Signal)]


def _module(call: Call, *, by_column: bool) -> nn.Module:
    """Return a module that computes the call."""
    owner, signals = call.tracer.owner, call.signals
    canonical = signals[0].axes == CANONICAL
    as_it_is = canonical or (not by_column and not owner._parameters)
    if is_torchs(owner) and len(signals) == 1 and as_it_is:
        return owner
    others = [value for value in call.args if not isinstance(value, Signal)]
    alike = len(signals[0].axes) <= 3 or len({one.groups for one in signals}) == 1
    two = len(signals) == len(call.args) == 2 and not call.kwargs
    if two and alike and call.name in _JOINS:
        return _JOINS[call.name]()
    name = call.name.strip("_").removeprefix("i" if call.name.startswith("__i") else "")
    name = {"radd": "add", "rmul": "mul"}.get(name, name)
    number = others[0] if len(others) == 1 and call.args[0] is signals[0] else None
    if name in _WITH_NUMBER and isinstance(number, int | float) and not call.kwargs:
        return _WITH_NUMBER[name](number)
    kwargs = {key: value for key, value in call.kwargs.items() if key != "inplace"}
    if call.name == "glu" and canonical:
        return nn.GLU(dim=1)
    activation = _ACTIVATIONS.get(call.name)
    if activation is not None and not others and not by_column:
        return activation(**kwargs)
    return function_of(call, kwargs)


def function_of(call: Call, kwargs: dict[str, Any]) -> nn.Module:
    """Return the function itself, out of place, with the axes as they are in the module."""
    found = iter(range(len(call.signals)))

    def stored(value: Any) -> Any:
        return Slot(next(found)) if isinstance(value, Signal) else value

    function, raw = call.function, str(getattr(call.function, "__name__", ""))
    if raw.startswith("__i"):
        function = getattr(Tensor, f"__{raw[3:]}")
    elif raw.endswith("_") and not raw.startswith("__"):
        function = getattr(Tensor, raw[:-1])
    args, at = call.args, place_of_inplace(call.function)
    if at is not None and len(args) > at:
        args = (*args[:at], False, *args[at + 1 :])
    return Function(function, *tree_map(stored, (args, kwargs)))


def noted(call: Call, module: nn.Module, after: tuple[str, ...]) -> Signal:
    """Note a module that takes the call's signals, in whatever order of axes."""
    tracer, result, before = call.tracer, call.result(), call.signals[0].axes
    sizes = zip(after, result.shape, strict=True)
    channels = math.prod(int(n) for axis, n in sizes if axis not in "BT")
    loose = module is not tracer.owner
    if isinstance(module, Function) and (before, after) != (CANONICAL, CANONICAL):
        module = InLayout(module, before, after, [one.groups for one in call.signals])
    of_zeros = tracer.early and (not tracer.exact or _keeps_zeros(module, call.signals))
    values, timing = tracer.aligned(call.signals, of_zeros=of_zeros)
    value = tracer.note(module, *values, channels=channels, loose=loose)
    return tracer.signal(call, result, value, timing, after)


def _keeps_zeros(module: nn.Module, signals: list[Signal]) -> bool:
    """Return whether a module is known to make zeros of zeros; not before it has its weights."""
    if isinstance(module, Causal | nn.Conv1d):
        return False
    parts = (*module.parameters(), *module.buffers())
    device = next((part.device for part in parts), torch.device("cpu"))
    with torch._C.DisableTorchFunctionSubclass():
        zeros = (torch.zeros(1, one.channels, 1, dtype=one.dtype, device=device) for one in signals)
        return not bool(module.eval()(*zeros).any())


def dropout(call: Call) -> Signal:
    """Dropout, which draws in training mode alone."""
    owner, axes, kind = call.tracer.owner, call.signals[0].axes, _DROPOUTS[call.name]
    always = call.name in ("dropout", "dropout1d")  # unless told otherwise
    if call.argument(2, "training", always):
        raise call.tracer.refusal(
            f"draws at random in evaluation mode, too; use nn.{kind.__name__}"
        )
    if "1d" in call.name and axes != CANONICAL:
        raise call.tracer.refusal("drops whole channels, but its input is not [B, C, T]")
    module = owner if is_torchs(owner) else kind(call.argument(1, "p", 0.5))
    return noted(call, module, axes)


def batch_norm(call: Call) -> Signal:
    """``batch_norm`` by fixed statistics."""
    tracer, x = call.tracer, call.signals[0]
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    if mean is None or x.axes != CANONICAL:
        raise tracer.refusal("normalizes by the mean over a batch; set track_running_stats=True")
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    block = BatchNorm(x.channels, eps=call.argument(7, "eps", 1e-5), affine=weight is not None)
    block.to(mean.device, mean.dtype)
    block.running_mean, block.running_var = mean, variance
    owner = tracer.owner if getattr(tracer.owner, "weight", None) is weight else None
    given = {"weight": weight, "bias": bias}
    tracer.tasks.append(lambda: adopt(block, owner, given))
    return noted(call, block, x.axes)


def layer_norm(call: Call) -> Signal:
    """``layer_norm`` and ``rms_norm`` over channels, which are the last axis."""
    tracer, x = call.tracer, call.signals[0]
    shape = tuple(call.argument(1, "normalized_shape"))
    if x.axes[-1] != "C" or len(shape) != 1:
        raise tracer.refusal(
            f"normalizes over time; transpose its input to [B, T, C], {OTHER_AXES}"
        )
    weight, n = call.argument(2, "weight"), shape[0]
    given = {"weight": weight}
    block: LayerNorm | RMSNorm
    if call.name == "rms_norm":
        eps = call.argument(3, "eps")
        eps = torch.finfo(x.dtype).eps if eps is None else eps
        block = RMSNorm(n, eps=eps, affine=weight is not None)
    else:
        eps, bias = call.argument(4, "eps", 1e-5), call.argument(3, "bias")
        block = LayerNorm(n, eps=eps, affine=weight is not None, bias=bias is not None)
        given["bias"] = bias
    if weight is not None:
        block.to(weight.device, weight.dtype)
    owner = tracer.owner
    tracer.tasks.append(lambda: adopt(block, owner, given))
    return noted(call, block, x.axes)


def linear(call: Call) -> Signal:
    """``linear`` of channels, the last axis: a 1x1 convolution."""
    tracer, x, owner = call.tracer, call.signals[0], call.tracer.owner
    weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
    if x.axes[-1] != "C":
        raise tracer.refusal(f"is linear over time; transpose its input to [B, T, C], {OTHER_AXES}")
    if isinstance(weight, Signal):
        raise tracer.refusal("takes its weight from a signal")
    if type(owner) is not nn.Linear or owner._forward_pre_hooks:
        slot = Slot(0)
        return noted(call, Function(call.function, (slot, *call.args[1:]), call.kwargs), x.axes)
    conv = nn.Conv1d(weight.shape[1], weight.shape[0], 1, bias=bias is not None)
    conv.to(weight.device, weight.dtype).requires_grad_(weight.requires_grad)
    with torch.no_grad():
        conv.weight.copy_(weight[:, :, None])
        if conv.bias is not None:
            conv.bias.copy_(bias)
    return noted(call, conv, x.axes)


def _over_time(what: str, remedy: str) -> Rule:
    def refuse(call: Call) -> Any:
        raise call.tracer.refusal(f"{what} over time, later samples included; {remedy}")

    return refuse


_NORM = _over_time("normalizes", "use BatchNorm1d, or LayerNorm over channels")
_POOL = _over_time("pools", "use a pooling layer with a kernel")
_ATTEND = _over_time("attends", "use wavenet.nn.CausalAttention")

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(_OVER_AN_AXIS, over_channels),
    **dict.fromkeys(_DROPOUTS, dropout),
    **dict.fromkeys(("group_norm", "instance_norm"), _NORM),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_max_pool1d"), _POOL),
    **dict.fromkeys(("scaled_dot_product_attention", "multi_head_attention_forward"), _ATTEND),
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "rms_norm": layer_norm,
    "linear": linear,
}
"""By the name of the function."""
