"""A module run as a linear network with positive coefficients, in its own geometry.

Each torch function that the module calls passes through ``_Linear``, which runs what stands for it:
nothing for an activation, the sum of its signals for a product, and for the rest ``counterparts``.
Behind every layer the gradient is set back to 0 and 1, so nothing underflows or cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.receptive_fields.linearized_ops import COUNTERPARTS, Call, span
from wavenet.receptive_fields.module_tracker import (
    ALONG_TIME,
    TO_VALUES,
    Follower,
    convert,
    describe_error,
    function_name,
    is_in_place,
    named_outputs,
    private_copy,
    tensors_in,
    words,
)

FLOOR = 1e-9
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
"""The identity stands for these."""

_BINARY = words(
    """add sub rsub subtract mul multiply div divide true_divide truediv where maximum minimum
    fmod remainder lerp addcmul addcdiv hypot atan2 copysign logaddexp xlogy floordiv"""
)
"""The sum of the signals stands for these."""

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


@dataclass
class Run:
    """One run of the linear network, and what was noted on the way.

    Attributes:
        x: its input, a leaf that requires a gradient.
        outputs: those with a gradient, by name.
        layers: the outputs of what looks along time, by the layer's name.
        modules: the outputs of modules, by path.
        extent: no fewer samples of the input than all layers together look along.
        coarsest: the fewest samples that a layer gives.
    """

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
    linear = _Linear(copied, shape[-1])
    generator = torch.Generator().manual_seed(1)
    leaf = torch.rand(tuple(shape), generator=generator, dtype=torch.float64) + 0.5
    leaf.requires_grad_()
    further = [torch.ones(tuple(other), dtype=torch.float64) for other in others]
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


class _Linear(Follower):
    """Runs a module so, on inputs of one length.

    Args:
        module: a private copy in float64.
        length: samples of the input, to which all others are compared.

    Attributes:
        layers, modules, extent, coarsest: see ``Run``.
    """

    def __init__(self, module: nn.Module, length: int) -> None:
        super().__init__(module)
        self.layers: dict[str, Tensor] = {}
        self.modules: dict[str, Any] = {}
        self.extent = 0.0
        self.coarsest = math.inf
        self._generator = torch.Generator().manual_seed(0)
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
        """Run what stands for a function, where something does."""
        kwargs = kwargs or {}
        if not any(tensor.requires_grad for tensor in tensors_in((args, kwargs))):
            return function(*args, **kwargs)
        name = function_name(function)
        call = Call(name, args, kwargs, self._positive)
        result = self._replaced(function, call)
        strided = name == "getitem" and _has_step(args[1])
        if name in ALONG_TIME or name == "unfold" or strided:
            label, _ = self.layer(name)
            self.layers[label] = tensors_in(result)[0]
            self._measure_extent(call, self.layers[label])
        for tensor in tensors_in(result):
            if name in ALONG_TIME | {"linear", "matmul"} and tensor.requires_grad:
                tensor.register_hook(_to_zeros_and_ones)
        return result

    def _replaced(self, function: Callable[..., Any], call: Call) -> Any:
        name, x, args, kwargs = call.name, call.x, call.args, call.kwargs
        if name in _RECURRENT:
            raise Endless(f"{self.place(name)}: is recurrent, so it hears all that came before")
        if name in _ATTENTION:
            raise Endless(f"{self.place(name)}: attends to every time")
        if name in TO_VALUES and isinstance(x, Tensor):
            return function(x.detach())  # torch warns of a number whose gradient is lost
        if name in _UNARY and isinstance(x, Tensor) and x.requires_grad and not x.is_complex():
            return x if is_in_place(function) else x.clone()
        if name in _BINARY or (name in ("max", "min") and _two_tensors(args)):
            total = _sum_of((args, kwargs))
            return x.copy_(total) if is_in_place(function) and isinstance(x, Tensor) else total
        if name in COUNTERPARTS:
            return COUNTERPARTS[name](call)
        args, kwargs = convert((args, kwargs), _as_double)
        return function(*args, **kwargs)

    def _positive(self, weight: Tensor) -> Tensor:
        """A constant of this shape, drawn from [0.5, 1), over the inputs that one output sums."""
        drawn = torch.rand(weight.shape, generator=self._generator, dtype=torch.float64)
        return (0.5 + 0.5 * drawn) / max(1, math.prod(weight.shape[1:]))

    def _measure_extent(self, call: Call, result: Tensor) -> None:
        """Add how far this layer can look, in samples of the input, to what came before."""
        size = max(1, result.shape[-1])
        incoming = call.x.shape[-1] if isinstance(call.x, Tensor) else size
        if "transpose" in call.name:
            incoming = max(incoming, size)
        self.coarsest = min(self.coarsest, size)
        self.extent += span(call) * self._length / max(1, incoming)


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
    return (size > FLOOR * size.max()).to(gradient.dtype)


def _has_step(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, slice) and (part.step or 1) > 1 for part in parts)
