"""Counterpart of a module: a linear network with positive coefficients, in the same geometry.

Each torch function that the module calls passes through ``LinearTracker``, which replaces it: an
activation by the identity, a product by the sum of its signals, others by ``linearized_ops``. After
every layer the gradient is set back to 0 and 1, so nothing underflows or cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.nn.causal import Causal
from wavenet.receptive_fields.counterparts_over_time import (
    DEPENDS_ON_INPUT,
    of_signal,
    with_mask,
)
from wavenet.receptive_fields.linearized_ops import (
    COUNTERPARTS,
    Call,
    is_triangular,
    span,
    with_binary_gradient,
)
from wavenet.receptive_fields.module_tracker import (
    ALONG_TIME,
    CONSTANTS,
    TO_VALUES,
    ModuleTracker,
    constant_like,
    convert,
    function_name,
    is_in_place,
    tensors_in,
    words,
)

_SMALL = 65536
"""Numbers of a sum whose gradient is set back: a loop over time doubles it at every step."""

_UNARY = words(
    """abs absolute alpha_dropout arctan asinh atan celu clamp clamp_max clamp_min clip cos
    cosh detach double dropout dropout1d dropout2d dropout3d elu erf expm1
    feature_alpha_dropout float gelu half hardshrink hardsigmoid hardswish hardtanh
    leaky_relu lgamma log log10 log1p log2 logit logsigmoid log_sigmoid mish nan_to_num neg
    negative pow prelu reciprocal relu relu6 round rrelu rsqrt selu sigmoid sign silu sin
    sinc sinh softplus softshrink softsign sqrt square tan tanh tanhshrink threshold trunc
    floor ceil frac float_power bfloat16 type_as to cpu cuda __get__:data
    fake_quantize_per_tensor_affine"""
)
"""Functions that are replaced by the identity."""

_BINARY = words(
    """add sub rsub subtract mul multiply div divide true_divide truediv where maximum minimum
    fmod remainder lerp addcmul addcdiv hypot atan2 copysign logaddexp xlogy floordiv"""
)
"""Functions that are replaced by the sum of the signals."""

_PRODUCTS = words("mul multiply")

_EXACT = words(
    """view reshape flatten unflatten view_as reshape_as ravel transpose swapaxes swapdims t
    __get__:T __get__:mT permute movedim moveaxis unsqueeze squeeze expand expand_as
    broadcast_to repeat tile getitem setitem narrow select chunk split tensor_split
    split_with_sizes unbind flip roll unfold cat concat concatenate stack hstack vstack pad
    contiguous repeat_interleave pixel_shuffle pixel_unshuffle index_select gather tril triu
    zeros_like ones_like new_zeros new_ones new_full full_like empty_like new_empty copy
    size dim ndimension numel nelement stride is_floating_point is_complex is_contiguous
    element_size get_device storage_offset untyped_storage register_hook retain_grad"""
)
"""Functions that move numbers or ask for shapes, and compute nothing."""

_PICKING = words(
    """getitem setitem narrow select unbind chunk split tensor_split split_with_sizes roll
    index_select gather take take_along_dim tril triu"""
)
"""Functions that take positions, which code may compute from the length of the input."""


class NoShapes(Exception):
    """Raised if the module does not run on shapes alone."""


class LinearTracker(ModuleTracker):
    """Runs a module so, on inputs of one length.

    Args:
        module: a private copy.
        length: samples of the input, to which all others are compared.
        device: ``cpu``, or ``meta`` to run on shapes.
        keep: see ``linear.run_linear``.

    Attributes:
        kept, extent, coarsest, picks: see ``linear.Run``.
    """

    def __init__(
        self, module: nn.Module, length: int, device: torch.device, keep: Collection[str]
    ) -> None:
        super().__init__(module)
        self.kept: dict[str, Tensor] = {}
        self.extent = 0.0
        self.coarsest = math.inf
        self.picks = False
        self._keep = frozenset(keep)
        self._device = device
        self._generator = torch.Generator().manual_seed(0)
        self._length = length

    def finished(self, path: str, output: Any) -> None:
        """Keep the outputs of modules that were asked for."""
        tensors = tensors_in(output)
        if path in self._keep and tensors:
            self.kept[path] = tensors[0]

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the counterpart of a function, or the function itself."""
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        if any(tensor.is_meta for tensor in given):
            args, kwargs = convert((args, kwargs), lambda t: t if t.is_meta else t.to("meta"))
        name = function_name(function)
        if not any(tensor.requires_grad for tensor in given):
            result = function(*args, **kwargs)
            return _marked(result) if any(of_signal(tensor) for tensor in given) else result
        constant = constant_like(name, args, of_signal)
        if constant is not None:
            return constant
        call = Call(name, args, kwargs, self._positive)
        result = self._replaced(function, call)
        self.picks |= name in _PICKING and not isinstance(self.running, Causal)
        strided = name == "getitem" and _has_step(args[1])
        if name in ALONG_TIME or name == "unfold" or strided:
            label, _ = self.layer(name)
            output = tensors_in(result)[0]
            self._measure_extent(call, output)
            if label in self._keep:
                self.kept[label] = output
            if name in ALONG_TIME and name not in COUNTERPARTS:
                with_binary_gradient(output)
        return result if name in CONSTANTS else _marked(result)

    def _replaced(self, function: Callable[..., Any], call: Call) -> Any:
        name, x, args, kwargs = call.name, call.x, call.args, call.kwargs
        in_place = is_in_place(function) and isinstance(x, Tensor)
        if name in TO_VALUES and isinstance(x, Tensor):
            if x.is_meta:
                raise NoShapes(f"{self.place(name)} asks for values")
            return function(x.detach())  # torch warns of a number whose gradient is lost
        if name in _UNARY and isinstance(x, Tensor) and x.requires_grad and not x.is_complex():
            return x if in_place else x.clone()
        chooses = name == "where" and not any(of_signal(t) for t in tensors_in(args) if _is_mask(t))
        pair = name in ("max", "min") and _two_tensors(args)
        if (name in _BINARY or pair) and not chooses:
            total = _combined(name, (args, kwargs))
            return x.copy_(total) if in_place else total
        if name in COUNTERPARTS:
            result = COUNTERPARTS[name](call)
            return x.copy_(result) if in_place and name != "setitem" else result
        if name in _EXACT or name.startswith("__get__") or in_place:
            return function(*args, **kwargs)
        return self._in_double(function, args, kwargs)

    def _in_double(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run functions that subtract and round in float64: interpolation, Fourier transforms."""
        narrow = {t.dtype for t in tensors_in((args, kwargs)) if t.requires_grad}
        args, kwargs = convert((args, kwargs), _as_double)
        result = function(*args, **kwargs)
        if torch.float64 in narrow or torch.complex128 in narrow:
            return result
        return convert(result, _as_single)

    def _positive(self, weight: Tensor) -> Tensor:
        """A constant of this shape, drawn from [0.5, 1), over the inputs that one output sums."""
        dtype = weight.dtype if weight.is_floating_point() else torch.float32
        if self._device.type == "meta":
            return torch.empty(weight.shape, dtype=dtype, device=self._device)
        drawn = torch.rand(weight.shape, generator=self._generator, dtype=dtype)
        return (0.5 + 0.5 * drawn) / max(1, math.prod(weight.shape[1:]))

    def _measure_extent(self, call: Call, result: Tensor) -> None:
        """Add how far this layer can look, in samples of the input, to what came before."""
        size = max(1, result.shape[-1])
        incoming = call.x.shape[-1] if isinstance(call.x, Tensor) else size
        if "transpose" in call.name:
            incoming = max(incoming, size)
        self.coarsest = min(self.coarsest, size)
        self.extent += span(call) * self._length / max(1, incoming)


def _marked(result: Any) -> Any:
    """Mark what depends on the input without a gradient, such as a comparison."""
    for tensor in tensors_in(result):
        if not tensor.requires_grad:
            setattr(tensor, DEPENDS_ON_INPUT, True)
    return result


def _is_mask(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool


def _two_tensors(args: tuple[Any, ...]) -> bool:
    return len(args) > 1 and isinstance(args[1], Tensor)


def _combined(name: str, arguments: Any) -> Tensor:
    """The sum of the signals among the arguments, in the shape that all of them broadcast to."""
    tensors = tensors_in(arguments)
    signals = [tensor for tensor in tensors if tensor.requires_grad]
    constants = [tensor for tensor in tensors if not of_signal(tensor)]
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    first = signals[0].expand(shape)
    total = first.clone() if len(signals) == 1 else first + signals[1]
    for signal in signals[2:]:
        total = total + signal
    if len(signals) > 1 and total.numel() <= _SMALL:
        with_binary_gradient(total)
    if name in _PRODUCTS:
        for constant in constants:
            if is_triangular(constant):
                total = total * (constant != 0)
        return total
    return with_mask(total, constants)


def _as_double(tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and tensor.dtype != torch.float64:
        return tensor.double()
    return tensor.to(torch.complex128) if tensor.is_complex() else tensor


def _as_single(tensor: Tensor) -> Tensor:
    single = {torch.float64: torch.float32, torch.complex128: torch.complex64}.get(tensor.dtype)
    return tensor if single is None else tensor.to(single)


def _has_step(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, slice) and (part.step or 1) > 1 for part in parts)
