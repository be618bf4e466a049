"""The receptive field of any module by measurement: where the gradient of one output is not zero.

Plain back-propagation shows too little. A ReLU that is off, a gate that is shut, a maximum that
was taken elsewhere, a weight of zero: each hides taps that exist. And in a long chain the gradient
at the field's edge underflows. So the network runs as a copy of itself that keeps the geometry
alone (``_Linear``):

- activations are the identity; products, quotients and differences of two signals are their sum;
- maxima are means, and a normalisation is its input plus the mean of what it normalises over;
- weights are positive, drawn from a fixed seed, and divided by the size of the kernel;
- behind every layer the gradient is set back to 0 and 1, so nothing underflows or cancels.

Such a network is linear with positive coefficients, so its gradient is nonzero exactly where a path
leads. The input is made so long that the field ends before it does. This knows nothing of the
formulas in ``rules``: one proves the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.receptive_fields.follower import (
    ALONG_TIME,
    Follower,
    convert,
    describe_error,
    function_name,
    is_in_place,
    named_outputs,
    private_copy,
    spatial_axes,
    tensors_in,
    words,
)

LARGEST_INPUT = 2**20
"""Samples (or pixels) of the longest input that is tried."""

MOST_OUTPUTS = 512
"""Neighbouring outputs that are measured where the rate was raised and they differ."""

MOST_PHASES = 16
"""Outputs of one period that are compared with the formula, evenly spread."""

_FLOOR = 1e-9
"""Of the largest gradient: below lies rounding, such as interpolation weights of 1e-17."""

_UNARY = words(
    """abs absolute alpha_dropout arctan asinh atan celu clamp clamp_max clamp_min clip cos
    cosh detach double dropout dropout1d dropout2d dropout3d elu erf exp exp2 expm1
    feature_alpha_dropout float gelu half hardshrink hardsigmoid hardswish hardtanh
    leaky_relu lgamma log log10 log1p log2 logit logsigmoid log_sigmoid mish nan_to_num neg
    negative pow prelu reciprocal relu relu6 round rrelu rsqrt selu sigmoid sign silu sin
    sinc sinh softplus softshrink softsign sqrt square tan tanh tanhshrink threshold trunc
    floor ceil frac float_power bfloat16 type_as to cpu cuda masked_fill __get__:data
    fake_quantize_per_tensor_affine"""
)
_BINARY = words(
    """add sub rsub subtract mul multiply div divide true_divide truediv where maximum minimum
    fmod remainder lerp addcmul addcdiv hypot atan2 copysign logaddexp xlogy floordiv"""
)
_SPREADING = frozenset({"softmax", "log_softmax", "softmin", "_softmax", "normalize"})
_TO_MEAN = words(
    """amax amin max min std var norm logsumexp median vector_norm linalg_vector_norm prod mean
    sum"""
)
_CELLS = frozenset({"gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell"})
_RECURRENT = frozenset({"gru", "lstm", "rnn_tanh", "rnn_relu"})
_ATTENTION = frozenset(
    [
        "multi_head_attention_forward",
        "scaled_dot_product_attention",
        "_native_multi_head_attention",
        "_transformer_encoder_layer_fwd",
    ]
)


class CannotMeasure(ValueError):
    """The module does not run, or nothing it returns has a gradient; the message says which."""


class Endless(Exception):
    """The module hears without end; the message says where."""


@dataclass(frozen=True)
class Support:
    """Where the gradient of some neighbouring outputs is not zero, along one dimension.

    Attributes:
        outputs: positions n of the outputs.
        first: position of the first input of each, or None where there is none.
        last: position of the last.
    """

    outputs: tuple[int, ...]
    first: tuple[int | None, ...]
    last: tuple[int | None, ...]


class _Linear(Follower):
    """Runs a module as a linear network with positive coefficients and the same geometry."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.layers: dict[str, Tensor] = {}
        self.modules: dict[str, Any] = {}
        self.extent = 0.0
        self.coarsest = math.inf
        self._generator = torch.Generator().manual_seed(0)
        self._length = 0

    def begin(self, length: int) -> None:
        """Note the length of the input, to which all others are compared."""
        self._length = length

    def finished(self, path: str, output: Any) -> None:
        """Keep the outputs of modules for those who ask."""
        self.modules[path] = output

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace one function by its positive linear counterpart, where it has one."""
        kwargs = kwargs or {}
        if not any(tensor.requires_grad for tensor in tensors_in((args, kwargs))):
            return function(*args, **kwargs)
        name = function_name(function)
        result = self._replaced(function, name, args, kwargs)
        strided = name == "getitem" and _has_step(args[1])
        if name in ALONG_TIME or name == "unfold" or strided:
            label, _ = self.layer(name)
            self.layers[label] = tensors_in(result)[0]
            self._measure_extent(name, args, kwargs, self.layers[label])
        for tensor in tensors_in(result):
            if name in ALONG_TIME | {"linear", "matmul"} and tensor.requires_grad:
                tensor.register_hook(_to_zeros_and_ones)
        return result

    def _replaced(
        self,
        function: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        x = args[0] if args else kwargs.get("input")
        if name in _RECURRENT:
            raise Endless(f"{self.place(name)}: is recurrent, so it hears all that came before")
        if name in _ATTENTION:
            raise Endless(f"{self.place(name)}: attends to every time")
        if name in _UNARY and isinstance(x, Tensor) and x.requires_grad and not x.is_complex():
            return x if is_in_place(function) else x.clone()
        if name in _BINARY or (name in ("max", "min") and _two_tensors(args)):
            total = _sum_of((args, kwargs))
            return x.copy_(total) if is_in_place(function) and isinstance(x, Tensor) else total
        if name in _CELLS:
            return self._cell(name, args)
        special = getattr(self, f"_do_{_family(name)}", None)
        if special is not None:
            return special(name, args, kwargs)
        args, kwargs = convert((args, kwargs), _as_double)
        return function(*args, **kwargs)

    def _do_convolution(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        arguments = dict(zip(_CONVOLUTION, args, strict=False)) | kwargs
        arguments["weight"] = self._positive(arguments["weight"])
        arguments["bias"] = None
        result: Tensor = getattr(F, name)(**arguments)
        return result

    def _do_transposed(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        arguments = dict(zip(_TRANSPOSED, args, strict=False)) | kwargs
        arguments["weight"] = self._positive(arguments["weight"])
        arguments["bias"] = None
        result: Tensor = getattr(F, name)(**arguments)
        return result

    def _do_linear(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        arguments = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        return F.linear(arguments["input"], self._positive(arguments["weight"]))

    def _do_product(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        a, b = (*args, *kwargs.values())[:2]
        a = a if a.requires_grad else self._positive(a)
        b = b if b.requires_grad else self._positive(b)
        return torch.matmul(a, b)

    def _do_max_pool(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A sum over each window, by a convolution of every channel with itself."""
        n = int(name[8])
        arguments = dict(zip(_MAX_POOL, args, strict=False)) | kwargs
        true = torch.max_pool1d if n == 1 else F.max_pool2d if n == 2 else F.max_pool3d
        kept = {k: v for k, v in arguments.items() if k not in ("input", "return_indices")}
        x = arguments["input"]
        sizes = true(x.detach(), **kept).shape[-n:]
        kernel = _tuple(arguments["kernel_size"], n)
        stride = _tuple(arguments.get("stride") or kernel, n)
        padding, dilation = (
            _tuple(arguments.get(key, default), n) for key, default in _POOL_DEFAULTS
        )
        pads: list[int] = []
        for i in reversed(range(n)):
            needed = (sizes[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
            pads += [padding[i], max(0, needed - x.shape[i - n] - padding[i])]
        padded = F.pad(x, pads)
        lead = padded.shape[:-n]
        rows = padded.reshape(-1, 1, *padded.shape[-n:])
        weight = torch.ones(1, 1, *kernel, dtype=x.dtype) / math.prod(kernel)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
        pooled = convolve(rows, weight, None, stride, 0, dilation)
        cut = tuple(slice(0, size) for size in sizes)
        pooled = pooled[(slice(None), slice(None), *cut)].reshape(*lead, *sizes)
        indices = name.endswith("indices") or arguments.get("return_indices")
        return (pooled, torch.zeros_like(pooled, dtype=torch.long)) if indices else pooled

    def _do_adaptive_max_pool(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        arguments = dict(zip(("input", "output_size", "indices"), args, strict=False)) | kwargs
        pool = getattr(F, name.replace("max", "avg"))
        return pool(arguments["input"], arguments["output_size"])

    def _do_power_pool(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names = ("input", "norm_type", "kernel_size", "stride", "ceil_mode")
        arguments = dict(zip(names, args, strict=False)) | kwargs
        del arguments["norm_type"]
        return getattr(F, name.replace("lp", "avg"))(**arguments)

    def _do_normalisation(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        x: Tensor = args[0] if args else kwargs["input"]
        if name == "batch_norm":
            training = args[5] if len(args) > 5 else kwargs.get("training", False)
            return x + x.mean([0, *range(2, x.ndim)], keepdim=True) if training else x.clone()
        if name == "layer_norm" or name == "rms_norm":
            shape = args[1] if len(args) > 1 else kwargs["normalized_shape"]
            n = 1 if isinstance(shape, int) else len(shape)
            return x + x.mean(list(range(-n, 0)), keepdim=True)
        if name == "instance_norm":
            stats = args[5] if len(args) > 5 else kwargs.get("use_input_stats", True)
            return x + x.mean(list(range(2, x.ndim)), keepdim=True) if stats else x.clone()
        if name == "local_response_norm":
            return x + x.mean(1, keepdim=True)
        groups = args[1] if len(args) > 1 else kwargs["num_groups"]
        grouped = x.reshape(x.shape[0], groups, -1)
        return (grouped + grouped.mean(-1, keepdim=True)).reshape(x.shape)

    def _do_spread(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        x: Tensor = args[0] if args else kwargs["input"]
        at = 2 if name == "normalize" else 1
        dim = args[at] if len(args) > at else kwargs.get("dim", 1)
        return x + x.mean(dim, keepdim=True)

    def _do_mean(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x: Tensor = args[0] if args else kwargs["input"]
        at = 2 if "norm" in name else 1
        dim = args[at] if len(args) > at else kwargs.get("dim", kwargs.get("axis"))
        keepdim = kwargs.get("keepdim", len(args) > at + 1 and args[at + 1] is True)
        if dim is None or isinstance(dim, bool):
            return x.mean()
        mean = x.mean(dim, keepdim=keepdim)
        if name in ("max", "min", "median"):
            kind = getattr(torch.return_types, name)
            return kind((mean, torch.zeros_like(mean, dtype=torch.long)))
        return mean

    def _do_stft(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The window's zeros would hide the outermost samples."""
        args, kwargs = convert((args, kwargs), lambda t: t if t.requires_grad else t.double() + 1)
        return torch.stft(*args, **kwargs)

    def _do_glu(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
        first, second = args[0].chunk(2, dim)
        return first + second

    def _cell(self, name: str, args: tuple[Any, ...]) -> Any:
        """The mean of the input and the old state, in every unit of the new state."""
        x, state = args[0], args[1]
        before = state[0] if isinstance(state, tuple | list) else state
        after = before + x.mean(-1, keepdim=True) + before.mean(-1, keepdim=True)
        return (after, after.clone()) if name == "lstm_cell" else after

    def _positive(self, weight: Tensor) -> Tensor:
        """A constant of this shape, drawn from [0.5, 1), over the inputs that one output sums."""
        drawn = torch.rand(weight.shape, generator=self._generator, dtype=torch.float64)
        return (0.5 + 0.5 * drawn) / max(1, math.prod(weight.shape[1:]))

    def _measure_extent(self, name: str, args: Any, kwargs: Any, result: Tensor) -> None:
        """Add how far this layer can look, in samples of the input, to what came before."""
        size = max(1, result.shape[-1])
        x = args[0] if args and isinstance(args[0], Tensor) else kwargs.get("input")
        incoming = x.shape[-1] if isinstance(x, Tensor) else size
        self.coarsest = min(self.coarsest, size)
        span = 2
        if "conv" in name:
            arguments = dict(
                zip(_TRANSPOSED if "transpose" in name else _CONVOLUTION, args, strict=False)
            )
            arguments |= kwargs
            kernel = arguments["weight"].shape[2:]
            dilation = _tuple(arguments.get("dilation", 1), len(kernel))
            span = max(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
            incoming = max(incoming, size) if "transpose" in name else incoming
        elif "pool" in name and "adaptive" not in name:
            arguments = dict(zip(_MAX_POOL, args, strict=False)) | kwargs
            at = "norm_type" if "lp" in name else "kernel_size"
            sizes = args[2] if at == "norm_type" and len(args) > 2 else arguments["kernel_size"]
            span = max(_tuple(sizes, 1)) * max(_tuple(arguments.get("dilation", 1), 1))
        self.extent += span * self._length / max(1, incoming)


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
_POOL_DEFAULTS = (("padding", 0), ("dilation", 1))


def _family(name: str) -> str:
    """Which of the replacements above a function belongs to."""
    if name.startswith("conv_transpose"):
        return "transposed"
    if name in ("conv1d", "conv2d", "conv3d"):
        return "convolution"
    if name.startswith("adaptive_max_pool"):
        return "adaptive_max_pool"
    for start, family in (("max_pool", "max_pool"), ("lp_pool", "power_pool")):
        if name.startswith(start):
            return family
    if name in ("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm") or (
        name == "local_response_norm"
    ):
        return "normalisation"
    if name in _SPREADING:
        return "spread"
    if name in _TO_MEAN:
        return "mean"
    return {"matmul": "product", "bmm": "product", "mm": "product"}.get(name, name)


def _two_tensors(args: tuple[Any, ...]) -> bool:
    return len(args) > 1 and isinstance(args[1], Tensor)


def _sum_of(arguments: Any) -> Tensor:
    """The sum of the signals among the arguments, in the shape that all of them broadcast to."""
    tensors = tensors_in(arguments)
    signals = [tensor for tensor in tensors if tensor.requires_grad]
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    total = signals[0].expand(shape).clone()
    for signal in signals[1:]:
        total = total + signal
    return total


def _as_double(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        return tensor.double()
    return tensor


def _to_zeros_and_ones(gradient: Tensor) -> Tensor:
    size = gradient.abs()
    return (size > _FLOOR * size.max()).to(gradient.dtype)


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * n
    values = tuple(value)
    return values * n if len(values) == 1 else values


def _has_step(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, slice) and (part.step or 1) > 1 for part in parts)


@dataclass
class Run:
    """One run of the linear copy: its input, its outputs by name, and what it noted."""

    x: Tensor
    outputs: dict[str, Tensor]
    layers: dict[str, Tensor]
    modules: dict[str, Any]
    extent: float
    coarsest: float


def run_linear(
    module: nn.Module, shape: Sequence[int], others: Sequence[Sequence[int]] = ()
) -> Run:
    """Run the module as a positive linear network on an input of this shape.

    Raises:
        CannotMeasure: if the module does not accept the shape, or leaves torch.
        Endless: at a recurrent layer or an attention.
    """
    copied = private_copy(module).cpu().double()
    linear = _Linear(copied)
    generator = torch.Generator().manual_seed(1)
    leaf = torch.rand(tuple(shape), generator=generator, dtype=torch.float64) + 0.5
    leaf.requires_grad_()
    further = [torch.ones(tuple(other), dtype=torch.float64) for other in others]
    linear.begin(shape[-1])
    start = leaf * 1
    try:
        with linear, torch.enable_grad():
            output = copied(start, *further)
    except Endless:
        raise
    except Exception as error:
        raise CannotMeasure(describe_error(error)) from error
    outputs = {name: t for name, t in named_outputs(output) if t.requires_grad}
    if not outputs:
        raise CannotMeasure("no output has a gradient with respect to the input")
    return Run(leaf, outputs, linear.layers, linear.modules, linear.extent, linear.coarsest)


def supports(
    run: Run,
    output: Tensor,
    axes: Sequence[int | None],
    counts: Sequence[int],
    *,
    spread: int | None = None,
) -> list[Support]:
    """Back-propagate from outputs in the middle, and see which inputs answer.

    Args:
        run: see ``run_linear``.
        output: one tensor of it.
        axes: the axis of the output for each dimension of the input, None where it is gone.
        counts: how many neighbouring outputs to measure in each dimension.
        spread: take at most so many of them, evenly spread.

    Returns:
        One ``Support`` per dimension.
    """
    inputs = spatial_axes(tuple(run.x.shape))
    found = []
    for axis, input_axis, count in zip(axes, inputs, counts, strict=True):
        middle = {a: output.shape[a] // 2 for a in axes if a is not None}
        positions = [0]
        if axis is not None:
            count = min(count, output.shape[axis])
            begin = max(0, middle[axis] - count // 2)
            step = 1 if spread is None else max(1, math.ceil(count / spread))
            positions = list(range(begin, begin + count, step))
        ends = []
        for n in positions:
            at = middle if axis is None else middle | {axis: n}
            index = tuple(at.get(a, slice(None)) for a in range(output.ndim))
            ends.append(_heard(run, output[index].sum(), input_axis))
        first, last = zip(*ends, strict=True)
        found.append(Support(tuple(positions), first, last))
    return found


def _heard(run: Run, value: Tensor, axis: int) -> tuple[int | None, int | None]:
    """First and last position along an axis of the input at which a gradient is not zero."""
    (gradient,) = torch.autograd.grad(value, run.x, retain_graph=True, allow_unused=True)
    if gradient is None:
        return None, None
    size = gradient.abs().amax([a for a in range(gradient.ndim) if a != axis])
    heard = (size > _FLOOR * size.max()).nonzero().flatten().tolist()
    return (heard[0], heard[-1]) if heard else (None, None)
