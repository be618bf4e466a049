"""Arguments and results of rules, the table of rules, and helpers that several rules share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from wavenet.receptive_fields.module_tracker import tensors_in, words
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window, joined


@dataclass(frozen=True)
class TensorField:
    """The receptive field of the values of one tensor.

    Attributes:
        reaches: one per dimension of the input; a text gives the reason for an unbounded field.
        mixed: axes along which entries may have different fields, so that only the hull over all
            of them is known: none of these may be sliced.
    """

    reaches: tuple[Reach | str, ...]
    mixed: frozenset[int] = frozenset()


class Maskable(str):
    """A reason for an unbounded dimension that may be bounded on one side by a mask in the code.

    The effect of a mask depends on its values, which a run on shapes does not have: it is measured.
    """

    __slots__ = ()


@dataclass
class Call:
    """One call of a torch function with at least one tensor that depends on the input."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    place: str
    field_of: Callable[[Tensor], TensorField | None]
    layer: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or by name."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    @property
    def x(self) -> Tensor:
        """The first argument, which must be a tensor."""
        x = self.get(0, "input", self.kwargs.get("self"))
        if not isinstance(x, Tensor):
            raise CannotTrace(f"{self.place}: {self.name} of an argument that is not a tensor")
        return x

    @property
    def field(self) -> TensorField:
        """The receptive field of the first argument."""
        field = self.field_of(self.x)
        if field is None:
            raise CannotTrace(f"{self.place}: {self.name} with a weight that depends on the input")
        return field

    def sole_field(self) -> TensorField:
        """The receptive field of the first argument, if all other arguments are constants.

        Raises:
            CannotTrace: otherwise.
        """
        field = self.field
        for tensor in tensors_in((self.args, self.kwargs)):
            if tensor is not self.x and self.field_of(tensor) is not None:
                raise CannotTrace(
                    f"{self.place}: {self.name} with a weight that depends on the input"
                )
        return field

    def unbounded(self, why: str) -> str:
        """The reason for an unbounded dimension, with the place of the call."""
        text = f"{self.place}: {why}"
        return Maskable(text) if isinstance(why, Maskable) else text


Rule = Callable[[Call], "TensorField | list[TensorField]"]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for functions of these names."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


POINTWISE = words(
    """abs absolute acos acosh add addcdiv addcmul alias alpha_dropout angle arctan asin asinh
    atan atan2 and celu ceil clamp clamp_max clamp_min clip clone complex conj contiguous
    copysign cos cosh cpu cuda detach div divide double dropout dropout1d dropout2d
    dropout3d elu eq erf erfc exp exp2 expm1 feature_alpha_dropout feature_dropout float
    float_power floor floordiv floor_divide fmod frac ge gelu gt half hardshrink hardsigmoid
    hardswish hardtanh heaviside hypot imag int invert is_nonzero isfinite isinf isnan le
    leaky_relu lerp lgamma log log10 log1p log2 logaddexp logical_and logical_not logical_or
    logical_xor logit logsigmoid log_sigmoid long lt masked_fill maximum minimum mish mod
    mul multiply nan_to_num ne neg negative nextafter or polar pos positive pow prelu
    rad2deg real reciprocal relu relu6 remainder requires_grad round rrelu rsqrt rsub selu
    sgn short sigmoid sign silu sin sinc sinh softplus softshrink softsign sqrt square sub
    subtract tan tanh tanhshrink threshold to true_divide truediv trunc type type_as where
    xlogy xor bool bfloat16 fake_quantize_per_tensor_affine resolve_conj resolve_neg
    __get__:data __get__:real __get__:imag"""
)


def pointwise(call: Call) -> TensorField:
    """Join the fields of the values at the same position; shapes broadcast from the right."""
    shape = call.result.shape
    parts = []
    for tensor in tensors_in((call.args, call.kwargs)):
        field = call.field_of(tensor)
        if field is not None:
            parts.append((aligned(call, field, tensor, len(shape), shape), tensor))
    return union(call, [part for part, _ in parts])


def aligned(
    call: Call, field: TensorField, tensor: Tensor, ndim: int, shape: Sequence[int]
) -> TensorField:
    """Renumber the axes as in the result; what is broadcast along time becomes unbounded."""
    offset = ndim - tensor.ndim
    reaches: list[Reach | str] = []
    for reach in field.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            axis = reach.axis
            if tensor.shape[axis] != shape[axis + offset]:
                reach = call.unbounded("one position is broadcast to all the others")
            else:
                reach = reach.moved_to(axis + offset)
        reaches.append(reach)
    return TensorField(tuple(reaches), frozenset(axis + offset for axis in field.mixed))


def moved(field: TensorField, new_axis: Callable[[int], int]) -> TensorField:
    """Renumber the axes."""
    return TensorField(
        tuple(
            reach.moved_to(new_axis(reach.axis))
            if isinstance(reach, Reach) and reach.axis is not None
            else reach
            for reach in field.reaches
        ),
        frozenset(new_axis(axis) for axis in field.mixed),
    )


def union(call: Call, parts: Sequence[TensorField]) -> TensorField:
    """The hull of the fields of several tensors of one shape."""
    reaches: list[Reach | str] = []
    for column in zip(*(part.reaches for part in parts), strict=True):
        unbounded = [reach for reach in column if isinstance(reach, str)]
        finite = [reach for reach in column if isinstance(reach, Reach)]
        if unbounded:
            certain = [reach for reach in unbounded if not isinstance(reach, Maskable)]
            reaches.append((certain or unbounded)[0])
            continue
        axes = {reach.axis for reach in finite}
        if len(axes) > 1 and None in axes:
            reaches.append(call.unbounded("one position is broadcast to all the others"))
        elif len({reach.stride > 0 for reach in finite if reach.axis is not None}) > 1:
            reaches.append(call.unbounded("a signal is joined with one that runs backwards"))
        else:
            reaches.append(placed(call, partial(joined, finite)))
    return TensorField(tuple(reaches), frozenset().union(*(part.mixed for part in parts)))


def placed(call: Call, function: Callable[[], Reach]) -> Reach:
    """Run the arithmetic; add the place to its errors."""
    try:
        return function()
    except CannotTrace as error:
        raise CannotTrace(f"{call.place}: {error}") from error


def through_windows(
    call: Call, field: TensorField, windows: dict[int, Window], mixed: Any = None
) -> TensorField:
    """Pass every reach along an axis of ``windows`` through that window."""
    if any(w.stride == 0 or w.step < 1 or w.count < 1 for w in windows.values()):
        raise CannotTrace(f"{call.place}: {call.name} with a stride, dilation or kernel of zero")
    images = len([r for r in field.reaches if not isinstance(r, str)]) > 1
    reaches: list[Reach | str] = []
    for reach in field.reaches:
        if isinstance(reach, Reach) and reach.axis in windows:
            window = windows[reach.axis]
            if reach.folded is not None:
                raise CannotTrace(f"{call.place}: {call.name} along a flattened axis")
            if images and window.has_gaps:
                raise CannotTrace(
                    f"{call.place}: some of its pixels depend on no input: the kernel leaves gaps"
                )
            inner: Reach = reach
            reach = placed(call, partial(inner.through, window))
        reaches.append(reach)
    for axis in windows:
        if axis in field.mixed and not windows[axis].is_shift:
            raise CannotTrace(f"{call.place}: {call.name} along an axis of different signals")
    return TensorField(tuple(reaches), field.mixed if mixed is None else frozenset(mixed))


def whole(call: Call, field: TensorField, axes: set[int], why: str) -> TensorField:
    """Make every entry depend on the whole of these axes: along time the field is unbounded."""
    reaches = tuple(
        call.unbounded(why) if isinstance(reach, Reach) and reach.axis in axes else reach
        for reach in field.reaches
    )
    return TensorField(reaches, field.mixed - axes)


def axes_of(dim: Any, ndim: int) -> set[int]:
    """The axes that a ``dim`` names, as torch takes it: one, several, or None for all."""
    if dim is None:
        return set(range(ndim))
    dims = dim if isinstance(dim, tuple | list) else [dim]
    return {d % ndim for d in dims} if dims else set(range(ndim))


def per_axis(value: Any, n: int) -> list[Any]:
    """A setting for each of n axes, as torch takes it: one number, or one for each."""
    if isinstance(value, tuple | list):
        values = list(value)
        return values * n if len(values) == 1 else values
    return [value] * n


def to_all(call: Call, field: TensorField) -> TensorField | list[TensorField]:
    """The same for every tensor of the result."""
    n = len(tensors_in(call.result))
    return [field] * n if n > 1 else field


def one_or_all(values: list[int]) -> Any:
    """One number for one dimension, a tuple for several."""
    return values[0] if len(values) == 1 else tuple(values)
