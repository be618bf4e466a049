"""A module run as a linear network with positive coefficients, in its own geometry.

Each torch function that the module calls passes through ``_Linear``, which runs what stands for it:
nothing for an activation, the sum of its signals for a product, and for the rest ``counterparts``.
Behind every layer the gradient is set back to 0 and 1, so nothing underflows or cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
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
from wavenet.receptive_fields.memory import Tally, limit_bytes, shortage
from wavenet.receptive_fields.module_tracker import (
    ALONG_TIME,
    CONSTANTS,
    TO_VALUES,
    ModuleTracker,
    convert,
    describe_error,
    function_name,
    is_in_place,
    named_outputs,
    private_copy,
    tensors_in,
    words,
)

_BACKWARD_FACTOR = 4
"""By how much, at most, the backward pass is taken to raise the bytes of a run."""

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
"""The identity stands for these."""

_BINARY = words(
    """add sub rsub subtract mul multiply div divide true_divide truediv where maximum minimum
    fmod remainder lerp addcmul addcdiv hypot atan2 copysign logaddexp xlogy floordiv"""
)
"""The sum of the signals stands for these."""

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


class CannotMeasure(ValueError):
    """The module does not run, or nothing it returns has a gradient; the message says which."""


class NoShapes(Exception):
    """The module does not run on shapes alone."""


@dataclass
class Run:
    """One run of the linear network, and what was noted on the way.

    Attributes:
        x: its input, a leaf that requires a gradient.
        outputs: those with a gradient, by name.
        kept: outputs of the layers and modules that were asked for, by name or path.
        extent: no fewer samples of the input than all layers together look along.
        coarsest: the fewest samples that a layer gives.
        picks: whether some function took positions of a signal along any axis.
        n_bytes: the most that were alive at once.
    """

    x: Tensor
    outputs: dict[str, Tensor]
    kept: dict[str, Tensor]
    extent: float
    coarsest: float
    picks: bool
    n_bytes: int = 0


def run_linear(
    module: nn.Module,
    shape: Sequence[int],
    others: Sequence[Sequence[int]] = (),
    *,
    keep: Collection[str] = (),
) -> Run:
    """Run the module as a positive linear network on an input of this shape.

    Args:
        module: any module; it is copied, and runs in evaluation mode.
        shape: of the input.
        others: of further inputs, which are constant.
        keep: names of layers and paths of modules whose outputs are kept; all others are dropped.

    Raises:
        CannotMeasure: if the module does not accept the shape, or leaves torch.
        TooLarge: if the run needs more memory than ``limit_bytes``.
    """
    try:
        with Tally(limit_bytes()) as tally:
            run = _run(module, shape, others, torch.device("cpu"), keep)
        return replace(run, n_bytes=tally.peak)
    except Exception as error:
        short = shortage(error)
        if short is not None:
            raise short from error
        if isinstance(error, CannotMeasure):
            raise
        raise CannotMeasure(describe_error(error)) from error


@dataclass(frozen=True)
class Shapes:
    """Results of a run on the meta device: shapes, and the bytes of a run with values.

    Attributes:
        outputs: shapes, by name.
        n_bytes: that running needs; where that is not far from the limit, with one measurement.
        extent, coarsest, picks: see ``Run``.
    """

    outputs: dict[str, tuple[int, ...]]
    n_bytes: int
    extent: float
    coarsest: float
    picks: bool

    @classmethod
    def of(cls, run: Run, n_bytes: int) -> Shapes:
        """Return the shapes of a run."""
        sizes = {name: tuple(output.shape) for name, output in run.outputs.items()}
        return cls(sizes, n_bytes, run.extent, run.coarsest, run.picks)


def run_on_shapes(
    module: nn.Module, shape: Sequence[int], others: Sequence[Sequence[int]] = ()
) -> Shapes | None:
    """Run the same on shapes alone; None where the module's code asks for values.

    The code may also refuse this shape: only ``run_linear`` says so, and why.
    """
    tally = Tally()
    run: Run | None = None
    with suppress(Exception), tally:
        run = _run(module, shape, others, torch.device("meta"), ())
        near = limit_bytes() / _BACKWARD_FACTOR < tally.peak < limit_bytes()
        for output in run.outputs.values() if near else ():
            middle = tuple(size // 2 for size in output.shape)
            torch.autograd.grad(output[middle], run.x, retain_graph=True, allow_unused=True)
    return None if run is None else Shapes.of(run, tally.peak)


def _run(
    module: nn.Module,
    shape: Sequence[int],
    others: Sequence[Sequence[int]],
    device: torch.device,
    keep: Collection[str],
) -> Run:
    copied = private_copy(module).cpu()
    dtype = _precision(copied)
    linear = _Linear(copied, shape[-1], device, keep)
    if device.type == "meta":
        leaf = torch.empty(tuple(shape), dtype=dtype, device=device)
    else:
        generator = torch.Generator().manual_seed(1)
        leaf = torch.rand(tuple(shape), generator=generator, dtype=dtype) + 0.5
    leaf.requires_grad_()
    further = [torch.ones(tuple(other), dtype=dtype) for other in others]
    start = leaf * 1  # a leaf that requires a gradient may not be changed in place
    with linear, torch.enable_grad():
        output = copied(start, *further)
    outputs = {name: t for name, t in named_outputs(output) if t.requires_grad}
    if not outputs:
        raise CannotMeasure("no output has a gradient with respect to the input")
    return Run(leaf, outputs, linear.kept, linear.extent, linear.coarsest, linear.picks)


def _precision(module: nn.Module) -> torch.dtype:
    """float32, unless all of the module is float64; another precision is brought to float32.

    Sums of positive numbers are zero where all of them are, in float32 as well. Where more digits
    are needed, float64 is taken for one function (``_Linear._in_double``).
    """
    found = {p.dtype for p in module.parameters() if p.is_floating_point()}
    dtype = torch.float64 if found == {torch.float64} else torch.float32
    if found - {dtype}:
        module.to(dtype)
    return dtype


class _Linear(ModuleTracker):
    """Runs a module so, on inputs of one length.

    Args:
        module: a private copy.
        length: samples of the input, to which all others are compared.
        device: ``cpu``, or ``meta`` to run on shapes.
        keep: see ``run_linear``.

    Attributes:
        kept, extent, coarsest, picks: see ``Run``.
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
        """Run what stands for a function, where something does."""
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        if any(tensor.is_meta for tensor in given):
            args, kwargs = convert((args, kwargs), lambda t: t if t.is_meta else t.to("meta"))
        name = function_name(function)
        if not any(tensor.requires_grad for tensor in given):
            result = function(*args, **kwargs)
            return _marked(result) if any(of_signal(tensor) for tensor in given) else result
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
        return convert(result, lambda t: t.float() if t.dtype == torch.float64 else t)

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
    return tensor


def _has_step(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, slice) and (part.step or 1) > 1 for part in parts)
