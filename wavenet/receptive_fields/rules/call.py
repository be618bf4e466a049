"""What a rule gets and gives, the table of rules, and what several rules need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from wavenet.receptive_fields.module_tracker import tensors_in, words
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window, joined


@dataclass(frozen=True)
class Heard:
    """What the values of one tensor hear.

    Attributes:
        reaches: one per dimension of the input; a text says why it is heard without end.
        mixed: axes along which entries may hear different things, so that only the hull over all of
            them is known: none of these may be sliced.
    """

    reaches: tuple[Reach | str, ...]
    mixed: frozenset[int] = frozenset()


class Maskable(str):
    """A reason why a dimension has no end, on one side alone if the code masks what it multiplies.

    What a mask does is in its values, which a run on shapes does not see: it is measured.
    """

    __slots__ = ()


@dataclass
class Call:
    """One call of a torch function with at least one tensor that hears the input."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    place: str
    heard_of: Callable[[Tensor], Heard | None]
    layer: list[tuple[Any, Any]] = field(default_factory=list)

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
            raise CannotTrace(f"{self.place}: {self.name} of something else than a tensor")
        return x

    @property
    def heard(self) -> Heard:
        """What the first argument hears."""
        heard = self.heard_of(self.x)
        if heard is None:
            raise CannotTrace(f"{self.place}: {self.name} with a weight that depends on the input")
        return heard

    def alone(self) -> Heard:
        """What the first argument hears, if no other argument hears anything.

        Raises:
            CannotTrace: otherwise.
        """
        heard = self.heard
        for tensor in tensors_in((self.args, self.kwargs)):
            if tensor is not self.x and self.heard_of(tensor) is not None:
                raise CannotTrace(
                    f"{self.place}: {self.name} with a weight that depends on the input"
                )
        return heard

    def endless(self, why: str) -> str:
        """The word that a dimension is heard without end."""
        text = f"{self.place}: {why}"
        return Maskable(text) if isinstance(why, Maskable) else text


Rule = Callable[[Call], "Heard | list[Heard]"]
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


def pointwise(call: Call) -> Heard:
    """Each output hears what the values at its own place hear; tensors are aligned at the right."""
    shape = call.result.shape
    parts = []
    for tensor in tensors_in((call.args, call.kwargs)):
        heard = call.heard_of(tensor)
        if heard is not None:
            parts.append((aligned(call, heard, tensor, len(shape), shape), tensor))
    return union(call, [part for part, _ in parts])


def aligned(call: Call, heard: Heard, tensor: Tensor, ndim: int, shape: Sequence[int]) -> Heard:
    """The axes counted in the result, with what is broadcast along time made endless."""
    offset = ndim - tensor.ndim
    reaches: list[Reach | str] = []
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            axis = reach.axis
            if tensor.shape[axis] != shape[axis + offset]:
                reach = call.endless("one position is spread over all the others")
            else:
                reach = reach.moved_to(axis + offset)
        reaches.append(reach)
    return Heard(tuple(reaches), frozenset(axis + offset for axis in heard.mixed))


def moved(heard: Heard, new_axis: Callable[[int], int]) -> Heard:
    """The axes numbered anew."""
    return Heard(
        tuple(
            reach.moved_to(new_axis(reach.axis))
            if isinstance(reach, Reach) and reach.axis is not None
            else reach
            for reach in heard.reaches
        ),
        frozenset(new_axis(axis) for axis in heard.mixed),
    )


def union(call: Call, parts: Sequence[Heard]) -> Heard:
    """The hull of what several tensors of one shape hear."""
    reaches: list[Reach | str] = []
    for column in zip(*(part.reaches for part in parts), strict=True):
        endless = [reach for reach in column if isinstance(reach, str)]
        finite = [reach for reach in column if isinstance(reach, Reach)]
        if endless:
            certain = [reach for reach in endless if not isinstance(reach, Maskable)]
            reaches.append((certain or endless)[0])
            continue
        axes = {reach.axis for reach in finite}
        if len(axes) > 1 and None in axes:
            reaches.append(call.endless("one position is spread over all the others"))
        elif len({reach.stride > 0 for reach in finite if reach.axis is not None}) > 1:
            reaches.append(call.endless("a signal is joined with one that runs backwards"))
        else:
            reaches.append(placed(call, partial(joined, finite)))
    return Heard(tuple(reaches), frozenset().union(*(part.mixed for part in parts)))


def placed(call: Call, function: Callable[[], Reach]) -> Reach:
    """Run the arithmetic; what it cannot do is said with the place."""
    try:
        return function()
    except CannotTrace as error:
        raise CannotTrace(f"{call.place}: {error}") from error


def seen_through(call: Call, heard: Heard, windows: dict[int, Window], mixed: Any = None) -> Heard:
    """Every reach along an axis of ``windows`` goes through that window."""
    if any(w.stride == 0 or w.step < 1 or w.count < 1 for w in windows.values()):
        raise CannotTrace(f"{call.place}: {call.name} with a stride, dilation or kernel of zero")
    images = len([r for r in heard.reaches if not isinstance(r, str)]) > 1
    reaches: list[Reach | str] = []
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis in windows:
            window = windows[reach.axis]
            if reach.folded is not None:
                raise CannotTrace(f"{call.place}: {call.name} along a flattened axis")
            if images and window.may_hear_nothing:
                raise CannotTrace(
                    f"{call.place}: some of its pixels hear nothing: the kernel leaves gaps"
                )
            inner: Reach = reach
            reach = placed(call, partial(inner.through, window))
        reaches.append(reach)
    for axis in windows:
        if axis in heard.mixed and not windows[axis].is_shift:
            raise CannotTrace(f"{call.place}: {call.name} along an axis of different signals")
    return Heard(tuple(reaches), heard.mixed if mixed is None else frozenset(mixed))


def whole(call: Call, heard: Heard, axes: set[int], why: str) -> Heard:
    """Every entry hears the whole of these axes: time among them is heard without end."""
    reaches = tuple(
        call.endless(why) if isinstance(reach, Reach) and reach.axis in axes else reach
        for reach in heard.reaches
    )
    return Heard(reaches, heard.mixed - axes)


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


def to_all(call: Call, heard: Heard) -> Heard | list[Heard]:
    """The same for every tensor of the result."""
    n = len(tensors_in(call.result))
    return [heard] * n if n > 1 else heard


def one_or_all(values: list[int]) -> Any:
    """One number for one dimension, a tuple for several."""
    return values[0] if len(values) == 1 else tuple(values)
