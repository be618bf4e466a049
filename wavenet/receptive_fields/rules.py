"""What each torch function does to the reach of its input: one small rule per kind of function.

A rule gets a ``Call`` and returns what the results hear (``Heard``). Three outcomes are possible,
and never a guess: the exact reach; the word that a dimension is heard without end, with the place
where that happens; or ``CannotTrace`` for what no rule covers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from wavenet.receptive_fields.follower import tensors_in, words
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
        return f"{self.place}: {why}"


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
            parts.append((_aligned(call, heard, tensor, len(shape), shape), tensor))
    return union(call, [part for part, _ in parts])


def _aligned(call: Call, heard: Heard, tensor: Tensor, ndim: int, shape: Sequence[int]) -> Heard:
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


def union(call: Call, parts: Sequence[Heard]) -> Heard:
    """The hull of what several tensors of one shape hear."""
    reaches: list[Reach | str] = []
    for column in zip(*(part.reaches for part in parts), strict=True):
        endless = [reach for reach in column if isinstance(reach, str)]
        finite = [reach for reach in column if isinstance(reach, Reach)]
        if endless:
            reaches.append(endless[0])
            continue
        axes = {reach.axis for reach in finite}
        if len(axes) > 1 and None in axes:
            reaches.append(call.endless("one position is spread over all the others"))
        elif len({reach.stride > 0 for reach in finite if reach.axis is not None}) > 1:
            reaches.append(call.endless("a signal is joined with one that runs backwards"))
        else:
            reaches.append(_placed(call, partial(joined, finite)))
    return Heard(tuple(reaches), frozenset().union(*(part.mixed for part in parts)))


def _placed(call: Call, function: Callable[[], Reach]) -> Reach:
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
            reach = _placed(call, partial(inner.through, window))
        reaches.append(reach)
    for axis in windows:
        if axis in heard.mixed and not windows[axis].is_shift:
            raise CannotTrace(f"{call.place}: {call.name} along an axis of different signals")
    return Heard(tuple(reaches), heard.mixed if mixed is None else frozenset(mixed))


def _whole(call: Call, heard: Heard, axes: set[int], why: str) -> Heard:
    """Every entry hears the whole of these axes: time among them is heard without end."""
    reaches = tuple(
        call.endless(why) if isinstance(reach, Reach) and reach.axis in axes else reach
        for reach in heard.reaches
    )
    return Heard(reaches, heard.mixed - axes)


def _axes_of(dim: Any, ndim: int) -> set[int]:
    if dim is None:
        return set(range(ndim))
    dims = dim if isinstance(dim, tuple | list) else [dim]
    return {d % ndim for d in dims} if dims else set(range(ndim))


def _per_axis(value: Any, n: int) -> list[Any]:
    """A setting for each of n axes, as torch takes it: one number, or one for each."""
    if isinstance(value, tuple | list):
        values = list(value)
        return values * n if len(values) == 1 else values
    return [value] * n


# --- convolutions, pooling, padding, changes of rate -------------------------------------------


@rule("conv1d", "conv2d", "conv3d")
def _convolution(call: Call) -> Heard:
    heard, weight = call.alone(), call.get(1, "weight")
    n = weight.ndim - 2
    first = call.x.ndim - n
    sizes = list(weight.shape[2:])
    strides = _per_axis(call.get(3, "stride", 1), n)
    dilations = _per_axis(call.get(5, "dilation", 1), n)
    padding = call.get(4, "padding", 0)
    if isinstance(padding, str):  # torch puts the odd sample of "same" behind
        spans = [d * (k - 1) for k, d in zip(sizes, dilations, strict=True)]
        paddings = [span // 2 if padding == "same" else 0 for span in spans]
    else:
        paddings = _per_axis(padding, n)
    windows = {
        first + i: Window.convolution(sizes[i], strides[i], paddings[i], dilations[i])
        for i in range(n)
    }
    call.layer.append((_tuple(sizes), _tuple(dilations)))
    return _over_channels(call, heard, windows, first - 1, call.get(6, "groups", 1))


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed(call: Call) -> Heard:
    heard, weight = call.alone(), call.get(1, "weight")
    n = weight.ndim - 2
    first = call.x.ndim - n
    sizes = list(weight.shape[2:])
    strides = _per_axis(call.get(3, "stride", 1), n)
    paddings = _per_axis(call.get(4, "padding", 0), n)
    dilations = _per_axis(call.get(7, "dilation", 1), n)
    windows = {
        first + i: Window.transposed(sizes[i], strides[i], paddings[i], dilations[i])
        for i in range(n)
    }
    call.layer.append((_tuple(sizes), _tuple(dilations)))
    return _over_channels(call, heard, windows, first - 1, call.get(6, "groups", 1))


def _over_channels(
    call: Call, heard: Heard, windows: dict[int, Window], channels: int, groups: int
) -> Heard:
    """Windows along time and a sum over the channels (of each group)."""
    mixed = heard.mixed if groups > 1 else heard.mixed - {channels}
    heard = _whole(call, heard, {channels}, "sums over all of the time as if it were channels")
    return seen_through(call, heard, windows, mixed)


@rule(
    *(f"{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
    *(f"max_pool{n}d_with_indices" for n in (1, 2, 3)),
)
def _pool(call: Call) -> Heard | list[Heard]:
    n = int(call.name[call.name.index("pool") + 4])
    sizes = _per_axis(call.get(1, "kernel_size"), n)
    given = call.get(2, "stride")
    strides = sizes if given is None or given == [] else _per_axis(given, n)
    paddings = _per_axis(call.get(3, "padding", 0), n)
    dilations = [1] * n
    if call.name.startswith("max"):
        dilations = _per_axis(call.get(4, "dilation", 1), n)
    first = call.x.ndim - n
    windows = {
        first + i: Window.convolution(sizes[i], strides[i], paddings[i], dilations[i])
        for i in range(n)
    }
    call.layer.append((_tuple(sizes), _tuple(dilations)))
    return _every(call, seen_through(call, call.alone(), windows))


@rule("lp_pool1d", "lp_pool2d", "lp_pool3d")
def _power_pool(call: Call) -> Heard:
    n = int(call.name[7])
    sizes = _per_axis(call.get(2, "kernel_size"), n)
    given = call.get(3, "stride")
    strides = sizes if given is None else _per_axis(given, n)
    first = call.x.ndim - n
    windows = {first + i: Window.convolution(sizes[i], strides[i], 0, 1) for i in range(n)}
    call.layer.append((_tuple(sizes), _tuple([1] * n)))
    return seen_through(call, call.alone(), windows)


@rule(*(f"adaptive_{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)))
def _adaptive_pool(call: Call) -> Heard | list[Heard]:
    n = int(call.name[-2])
    first = call.x.ndim - n
    out = tensors_in(call.result)[0].shape
    sizes = [(call.x.shape[first + i], out[first + i]) for i in range(n)]
    windows = {first + i: Window.adaptive(*sizes[i]) for i in range(n) if sizes[i][1] > 1}
    kernels = [Window.adaptive(*pair) for pair in sizes]
    call.layer.append((_tuple([-(-w.stride // w.divisor) for w in kernels]), _tuple([1] * n)))
    heard = call.alone()
    single = {first + i for i in range(n) if sizes[i][1] == 1 and sizes[i][0] > 1}
    heard = _whole(call, heard, single, "pools over the whole length")
    return _every(call, seen_through(call, heard, windows))


@rule("pad")
def _pad(call: Call) -> Heard:
    heard, pads = call.alone(), list(call.get(1, "pad"))
    windows, mixed = {}, set(heard.mixed)
    reach_axes = {r.axis for r in heard.reaches if isinstance(r, Reach)}
    for i in range(len(pads) // 2):
        axis = call.x.ndim - 1 - i
        if axis in reach_axes:
            windows[axis] = Window(1, -pads[2 * i])
        elif pads[2 * i] or pads[2 * i + 1]:
            mixed.add(axis)
    return seen_through(call, heard, windows, mixed)


@rule("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def _interpolate(call: Call) -> Heard:
    heard, x, y = call.alone(), call.x, call.result
    mode = call.get(3, "mode", "nearest")
    aligned = bool(call.get(4, "align_corners"))
    if call.name == "upsample_bilinear":
        mode, aligned = "bilinear", True
    factors = call.get(2, "scale_factor")
    if call.kwargs.get("recompute_scale_factor") or call.kwargs.get("antialias"):
        factors = None
    if call.kwargs.get("antialias"):
        raise CannotTrace(f"{call.place}: interpolation with antialias")
    n = x.ndim - 2
    factors = [None] * n if factors is None else _per_axis(factors, n)
    windows = {}
    for i, factor in enumerate(factors):
        n_in, n_out = x.shape[2 + i], y.shape[2 + i]
        windows[2 + i] = _resampling(call, mode, aligned, factor, n_in, n_out)
    call.layer.append((None, _tuple([1] * n)))
    return seen_through(call, heard, windows)


def _resampling(
    call: Call, mode: str, aligned: bool, factor: float | None, n_in: int, n_out: int
) -> Window:
    """The window of one axis: torch takes the given factor, or else the ratio of the sizes."""
    scale = Fraction(n_in, n_out)
    if factor is not None:
        scale = 1 / Fraction(factor).limit_denominator(10_000)
    if mode == "nearest":
        n = np.arange(n_out)
        rounded = np.float32(n_in / n_out) if factor is None else np.float32(1.0 / factor)
        torchs = np.floor(n.astype(np.float32) * rounded).astype(np.int64)
        if not np.array_equal(torchs, n * scale.numerator // scale.denominator):
            raise CannotTrace(f"{call.place}: scale {scale} is rounded, and not by one rule")
        return Window.nearest(scale)
    if mode == "nearest-exact":
        return Window.nearest_exact(scale)
    if mode == "area":
        return Window.adaptive(n_in, n_out)
    if mode in ("linear", "bilinear", "trilinear"):
        if not aligned:
            return Window.linear(scale)
        if n_out > 1:
            return Window.linear_aligned(Fraction(n_in - 1, n_out - 1))
    raise CannotTrace(f"{call.place}: interpolation with mode {mode!r}")


@rule("pixel_shuffle")
def _pixel_shuffle(call: Call) -> Heard:
    heard, factor, ndim = call.alone(), call.get(1, "upscale_factor"), call.x.ndim
    if ndim - 3 in heard.mixed:
        raise CannotTrace(f"{call.place}: pixel_shuffle of channels that hear different things")
    window = Window.nearest(Fraction(1, factor))
    call.layer.append((None, _tuple([1, 1])))
    return seen_through(call, heard, {ndim - 2: window, ndim - 1: window})


@rule("pixel_unshuffle")
def _pixel_unshuffle(call: Call) -> Heard:
    heard, factor, ndim = call.alone(), call.get(1, "downscale_factor"), call.x.ndim
    window = Window.convolution(factor, factor, 0, 1)
    call.layer.append((_tuple([factor, factor]), _tuple([1, 1])))
    mixed = heard.mixed | {ndim - 3}
    return seen_through(call, heard, {ndim - 2: window, ndim - 1: window}, mixed)


@rule("repeat_interleave")
def _repeat_interleave(call: Call) -> Heard:
    heard, times, dim = call.alone(), call.get(1, "repeats"), call.get(2, "dim")
    if not isinstance(times, int) or dim is None:
        raise CannotTrace(f"{call.place}: repeat_interleave with other than one number and a dim")
    axis = dim % call.x.ndim
    call.layer.append((None, 1))
    if axis in heard.mixed:
        return heard
    return seen_through(call, heard, {axis: Window.nearest(Fraction(1, times))})


@rule("stft")
def _stft(call: Call) -> Heard:
    """Frames of ``n_fft`` samples, ``hop_length`` apart, centred unless told otherwise."""
    heard, n_fft = call.alone(), call.get(1, "n_fft")
    hop = call.get(2, "hop_length") or n_fft // 4
    centre = call.get(5, "center", True)
    width = call.get(3, "win_length") or n_fft
    axis = call.x.ndim - 1
    front = (n_fft - width) // 2
    padding = (n_fft // 2 if centre else 0) - front
    call.layer.append((width, 1))
    heard = seen_through(call, heard, {axis: Window.convolution(width, hop, padding, 1)})
    return _moved(heard, lambda a: a + 1 if a == axis else a)


# --- normalisation, reductions, everything that takes the whole ---------------------------------


@rule("batch_norm")
def _batch_norm(call: Call) -> Heard:
    heard = call.alone()
    if not call.get(5, "training", False):
        return heard
    axes = {axis for axis in range(call.x.ndim) if axis != 1}
    return _whole(call, heard, axes, "normalises over time with the statistics of its input")


@rule("layer_norm", "rms_norm")
def _layer_norm(call: Call) -> Heard:
    shape = call.get(1, "normalized_shape")
    n = 1 if isinstance(shape, int) else len(shape)
    axes = set(range(call.x.ndim - n, call.x.ndim))
    return _whole(call, call.alone(), axes, "normalises over time")


@rule("group_norm")
def _group_norm(call: Call) -> Heard:
    return _whole(call, call.alone(), set(range(1, call.x.ndim)), "normalises over time")


@rule("instance_norm")
def _instance_norm(call: Call) -> Heard:
    if not call.get(5, "use_input_stats", True):
        return call.alone()
    return _whole(call, call.alone(), set(range(2, call.x.ndim)), "normalises over time")


@rule("local_response_norm", "channel_shuffle", "native_channel_shuffle")
def _among_channels(call: Call) -> Heard:
    """Channels alone are mixed or reordered."""
    return call.alone()


@rule("normalize", "softmax", "log_softmax", "softmin", "gumbel_softmax", "_softmax", "renorm")
def _softmax(call: Call) -> Heard:
    position = 2 if call.name == "normalize" else 1
    dim = call.get(position, "dim", 1 if call.name == "normalize" else None)
    if dim is None:
        raise CannotTrace(f"{call.place}: {call.name} without a dim")
    return _whole(
        call, call.alone(), _axes_of(dim, call.x.ndim), f"{call.name} runs over the whole length"
    )


@rule("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "sort", "argsort", "msort")
def _along_all(call: Call) -> Heard | list[Heard]:
    default = 0 if call.name == "msort" else -1
    axes = _axes_of(call.get(1, "dim", default), call.x.ndim)
    if any(axis in call.heard.mixed for axis in axes):
        raise CannotTrace(f"{call.place}: {call.name} over signals that hear different things")
    return _every(call, _whole(call, call.alone(), axes, f"{call.name} runs over all of the time"))


@rule(
    *words(
        """fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn hfft ihfft fft_fft fft_ifft
    fft_rfft fft_irfft fft_hfft fft_ihfft"""
    )
)
def _fourier(call: Call) -> Heard:
    """Every frequency hears all samples of the axis."""
    several = call.name.rstrip("n2") != call.name
    dim = call.get(2, "dim", (-2, -1) if several else -1)
    heard = call.alone()
    axes = _axes_of(dim, call.x.ndim)
    return _whole(call, heard, axes, "is a Fourier transform over the whole length")


@rule(
    *words(
        """mean sum amax amin max min prod std var norm logsumexp all any argmax argmin median
    nanmean nansum count_nonzero aminmax std_mean var_mean vector_norm linalg_vector_norm
    quantile mode topk"""
    )
)
def _reduce(call: Call) -> Heard | list[Heard]:
    positions = {"norm": 2, "quantile": 2, "linalg_vector_norm": 2, "vector_norm": 2, "topk": 2}
    position = positions.get(call.name, 1)
    dim = call.get(position, "dim", call.kwargs.get("axis"))
    if call.name == "topk" and dim is None:
        dim = -1
    if isinstance(dim, Tensor):  # max(a, b)
        return pointwise(call)
    heard, ndim = call.alone(), call.x.ndim
    results = tensors_in(call.result)
    if isinstance(dim, bool):  # std(unbiased)
        dim = None
    axes = _axes_of(dim, ndim)
    heard = _whole(call, heard, axes, f"takes the {call.name} over the whole length")
    if results[0].ndim < ndim:
        heard = _moved(heard, lambda a: a - sum(axis < a for axis in axes))
    return [heard] * len(results) if len(results) > 1 else heard


@rule(*words("""gru lstm rnn_tanh rnn_relu gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell"""))
def _recurrent(call: Call) -> Heard | list[Heard]:
    return _every(call, _endless(call, "is recurrent, so it hears all that came before"))


@rule(
    *[
        "multi_head_attention_forward",
        "scaled_dot_product_attention",
        "_native_multi_head_attention",
        "_transformer_encoder_layer_fwd",
    ]
)
def _attention(call: Call) -> Heard | list[Heard]:
    return _every(call, _endless(call, "attends to every time"))


def _endless(call: Call, why: str) -> Heard:
    """Every dimension that any argument hears is heard without end."""
    n = 0
    for tensor in tensors_in((call.args, call.kwargs)):
        heard = call.heard_of(tensor)
        n = n if heard is None else len(heard.reaches)
    return Heard((call.endless(why),) * n)


# --- products ------------------------------------------------------------------------------------


@rule("linear")
def _linear(call: Call) -> Heard:
    heard = call.alone()
    axis = call.x.ndim - 1
    return _whole(call, heard, {axis}, "is fully connected along time")


@rule("matmul", "bmm", "mm", "mv", "baddbmm", "addmm", "rmatmul", "tensordot", "bilinear", "outer")
def _matmul(call: Call) -> Heard:
    if call.name not in ("matmul", "bmm", "mm", "mv"):
        raise CannotTrace(f"{call.place}: {call.name} of the signal")
    a, b = call.get(0, "input"), call.get(1, "other", call.kwargs.get("mat2"))
    hears_a, hears_b = call.heard_of(a), call.heard_of(b)
    if b.ndim == 1 or a.ndim == 1:
        raise CannotTrace(f"{call.place}: {call.name} with a vector")
    ndim = call.result.ndim
    parts = []
    for heard, tensor, contracted in ((hears_a, a, a.ndim - 1), (hears_b, b, b.ndim - 2)):
        if heard is not None:
            heard = _whole(call, heard, {contracted}, "multiplies matrices over all of the time")
            parts.append(_aligned_batch(heard, tensor, ndim))
    if len(parts) == 2:
        for reach_a, reach_b in zip(parts[0].reaches, parts[1].reaches, strict=True):
            axes = {r.axis for r in (reach_a, reach_b) if isinstance(r, Reach)}
            if len(axes) == 2 or axes & {ndim - 2, ndim - 1}:
                return _endless(call, "multiplies every time with every other (attention)")
    return union(call, parts)


def _aligned_batch(heard: Heard, tensor: Tensor, ndim: int) -> Heard:
    return _moved(heard, lambda axis: axis + ndim - tensor.ndim)


@rule("einsum")
def _einsum(call: Call) -> Heard:
    equation, operands = call.args[0], tensors_in(call.args[1:])
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        raise CannotTrace(f"{call.place}: einsum without a plain equation")
    sources, target = equation.replace(" ", "").split("->")
    parts, letters = [], []
    for source, tensor in zip(sources.split(","), operands, strict=True):
        heard = call.heard_of(tensor)
        if heard is None:
            continue
        gone = {axis for axis, letter in enumerate(source) if letter not in target}
        heard = _whole(call, heard, gone, "einsum sums over all of the time")
        axes = [r.axis if isinstance(r, Reach) else None for r in heard.reaches]
        letters.append(["" if axis is None else source[axis] for axis in axes])
        places = [target.find(letter) for letter in source]
        parts.append(_moved(heard, places.__getitem__))
    for column in zip(*letters, strict=True):
        if len(set(column) - {""}) > 1:
            return _endless(call, "multiplies every time with every other (attention)")
    return union(call, parts)


@rule("embedding", "one_hot", "view_as_real")
def _embedding(call: Call) -> Heard:
    """A new axis at the end."""
    return call.alone()


@rule("glu")
def _glu(call: Call) -> Heard:
    axis = call.get(1, "dim", -1) % call.x.ndim
    if any(isinstance(r, Reach) and r.axis == axis for r in call.heard.reaches):
        raise CannotTrace(f"{call.place}: glu halves the time")
    return call.alone()


# --- slices and shapes ------------------------------------------------------------------------


@rule("getitem")
def _getitem(call: Call) -> Heard:
    x, index = call.x, call.args[1]
    index = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(i, Tensor | list | bool) for i in index):
        raise CannotTrace(f"{call.place}: picks samples by a list or a mask")
    n_given = sum(i is not None and i is not Ellipsis for i in index)
    filler = [slice(None)] * (x.ndim - n_given)
    if any(i is Ellipsis for i in index):
        at = next(i for i, item in enumerate(index) if item is Ellipsis)
        index[at : at + 1] = filler
    else:
        index += filler
    cuts, new_axis, axis, out = {}, {}, 0, 0
    for item in index:
        if item is None:
            out += 1
            continue
        cuts[axis] = item
        new_axis[axis] = out
        axis += 1
        out += isinstance(item, slice)
    return _cut(call, call.heard, cuts, new_axis)


def _cut(call: Call, heard: Heard, cuts: dict[int, Any], new_axis: dict[int, int]) -> Heard:
    """Slices (and single positions) along some axes, whose axes are then numbered anew."""
    shape = call.x.shape
    reaches: list[Reach | str] = []
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            cut, axis = cuts.get(reach.axis, slice(None)), reach.axis
            if reach.folded is not None and cut != slice(None):
                raise CannotTrace(f"{call.place}: slices a flattened axis")
            if isinstance(cut, slice):
                start, _, step = cut.indices(shape[axis])
                if (start, step) != (0, 1):
                    window = Window(step, start)
                    inner: Reach = reach
                    reach = _placed(call, partial(inner.through, window))
                    if step > 1:
                        call.layer.append((1, 1))
                reach = reach.moved_to(new_axis[axis])
            else:
                reach = reach.picked(int(cut) % shape[axis])
        reaches.append(reach)
    for axis in heard.mixed:
        cut = cuts.get(axis, slice(None))
        if not isinstance(cut, slice) or cut.indices(shape[axis]) != (0, shape[axis], 1):
            raise CannotTrace(f"{call.place}: slices an axis whose entries hear different things")
    return Heard(tuple(reaches), frozenset(new_axis[axis] for axis in heard.mixed))


def _same_axes(ndim: int) -> dict[int, int]:
    return {axis: axis for axis in range(ndim)}


@rule("narrow")
def _narrow(call: Call) -> Heard:
    axis, start, n = call.get(1, "dim") % call.x.ndim, call.get(2, "start"), call.get(3, "length")
    start = start % call.x.shape[axis] if start < 0 else start
    cut = {axis: slice(start, start + n)}
    return _cut(call, call.heard, cut, _same_axes(call.x.ndim))


@rule("select")
def _select(call: Call) -> Heard:
    axis, position = call.get(1, "dim") % call.x.ndim, call.get(2, "index")
    new_axis = {a: a - (a > axis) for a in range(call.x.ndim)}
    return _cut(call, call.heard, {axis: position}, new_axis)


@rule("chunk", "split", "tensor_split", "split_with_sizes", "hsplit", "vsplit", "unsafe_chunk")
def _chunk(call: Call) -> list[Heard]:
    if call.name in ("hsplit", "vsplit"):
        raise CannotTrace(f"{call.place}: {call.name}")
    axis = call.get(2, "dim", 0) % call.x.ndim
    found, start = [], 0
    for part in call.result:
        stop = start + part.shape[axis]
        cut = {axis: slice(start, stop)}
        found.append(_cut(call, call.heard, cut, _same_axes(call.x.ndim)))
        start = stop
    return found


@rule("unbind")
def _unbind(call: Call) -> list[Heard]:
    axis = call.get(1, "dim", 0) % call.x.ndim
    new_axis = {a: a - (a > axis) for a in range(call.x.ndim)}
    return [_cut(call, call.heard, {axis: i}, new_axis) for i in range(len(call.result))]


@rule("flip", "fliplr", "flipud")
def _flip(call: Call) -> Heard:
    dims = call.args[1:] if len(call.args) > 2 else call.get(1, "dims")
    dims = {"fliplr": 1, "flipud": 0}.get(call.name, dims)
    axes = _axes_of(dims, call.x.ndim)
    heard = call.heard
    reach_axes = {r.axis for r in heard.reaches if isinstance(r, Reach)}
    windows = {a: Window(-1, call.x.shape[a] - 1) for a in axes if a in reach_axes}
    return seen_through(call, heard, windows)


@rule("roll")
def _roll(call: Call) -> Heard:
    shifts, dims = call.get(1, "shifts"), call.get(2, "dims")
    if dims is None or dims == ():
        raise CannotTrace(f"{call.place}: roll without dims")
    shifts = shifts if isinstance(shifts, tuple | list) else [shifts]
    dims = dims if isinstance(dims, tuple | list) else [dims]
    heard = call.heard
    reach_axes = {r.axis for r in heard.reaches if isinstance(r, Reach)}
    windows = {
        d % call.x.ndim: Window(1, -s)
        for s, d in zip(shifts, dims, strict=True)
        if d % call.x.ndim in reach_axes
    }
    return seen_through(call, heard, windows)


@rule("cat", "concat", "concatenate")
def _cat(call: Call) -> Heard:
    tensors = list(call.get(0, "tensors"))
    axis = call.get(1, "dim", call.kwargs.get("axis", 0)) % call.result.ndim
    parts, start = [], 0
    for tensor in tensors:
        heard = call.heard_of(tensor)
        if heard is not None:
            parts.append((heard, start))
        start += tensor.shape[axis] if tensor.ndim == call.result.ndim else 0
    along = [
        any(isinstance(r, Reach) and r.axis == axis for r in heard.reaches) for heard, _ in parts
    ]
    if not any(along):
        merged = union(call, [heard for heard, _ in parts])
        one = len(parts) == len(tensors) and all(alike(parts[0][0], h) for h, _ in parts)
        return merged if one else Heard(merged.reaches, merged.mixed | {axis})
    if len(parts) > 1:
        raise CannotTrace(f"{call.place}: joins pieces of the signal end to end")
    heard, start = parts[0]
    return seen_through(call, heard, {axis: Window(1, -start)})


def alike(a: Heard, b: Heard) -> bool:
    """Whether both hear the same."""
    return a.mixed == b.mixed and all(
        x.same_as(y) if isinstance(x, Reach) and isinstance(y, Reach) else x == y
        for x, y in zip(a.reaches, b.reaches, strict=True)
    )


@rule("stack")
def _stack(call: Call) -> Heard:
    tensors = list(call.get(0, "tensors"))
    axis = call.get(1, "dim", 0) % call.result.ndim
    found = [call.heard_of(tensor) for tensor in tensors]
    parts = [_moved(heard, lambda a: a + (a >= axis)) for heard in found if heard is not None]
    merged = union(call, parts)
    one = len(parts) == len(tensors) and all(alike(parts[0], part) for part in parts)
    return merged if one else Heard(merged.reaches, merged.mixed | {axis})


def _moved(heard: Heard, new_axis: Callable[[int], int]) -> Heard:
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


@rule("transpose", "swapaxes", "swapdims", "t", "__get__:T", "__get__:mT", "adjoint")
def _transpose(call: Call) -> Heard:
    ndim = call.x.ndim
    if call.name in ("__get__:mT", "adjoint"):
        a, b = ndim - 2, ndim - 1
    elif call.name in ("t", "__get__:T"):
        a, b = 0, ndim - 1
        if ndim > 2:
            raise CannotTrace(f"{call.place}: T of more than two axes")
    else:
        a = call.get(1, "dim0", call.kwargs.get("axis0")) % ndim
        b = call.get(2, "dim1", call.kwargs.get("axis1")) % ndim
    return _moved(call.heard, lambda axis: {a: b, b: a}.get(axis, axis))


@rule("permute")
def _permute(call: Call) -> Heard:
    dims = call.args[1:] if len(call.args) > 2 else call.get(1, "dims")
    order = [d % call.x.ndim for d in (dims if isinstance(dims, tuple | list) else [dims])]
    return _moved(call.heard, order.index)


@rule("movedim", "moveaxis")
def _movedim(call: Call) -> Heard:
    source, target = call.get(1, "source"), call.get(2, "destination")
    if not isinstance(source, int):
        raise CannotTrace(f"{call.place}: movedim of several axes")
    order = [axis for axis in range(call.x.ndim) if axis != source % call.x.ndim]
    order.insert(target % call.x.ndim, source % call.x.ndim)
    return _moved(call.heard, order.index)


@rule("unsqueeze")
def _unsqueeze(call: Call) -> Heard:
    at = call.get(1, "dim") % (call.x.ndim + 1)
    return _moved(call.heard, lambda axis: axis + (axis >= at))


@rule("squeeze")
def _squeeze(call: Call) -> Heard:
    dim = call.get(1, "dim")
    gone = {axis for axis in _axes_of(dim, call.x.ndim) if call.x.shape[axis] == 1}
    reaches = [r.axis for r in call.heard.reaches if isinstance(r, Reach)]
    heard = call.heard
    if gone & set(reaches):  # one position is all there is: it is picked
        heard = Heard(
            tuple(
                r.picked(0) if isinstance(r, Reach) and r.axis in gone else r for r in heard.reaches
            ),
            heard.mixed,
        )
    kept = Heard(heard.reaches, heard.mixed - gone)
    return _moved(kept, lambda axis: axis - sum(a < axis for a in gone))


@rule("expand", "expand_as", "broadcast_to")
def _expand(call: Call) -> Heard:
    return _aligned(call, call.heard, call.x, call.result.ndim, call.result.shape)


@rule("repeat", "tile")
def _repeat(call: Call) -> Heard:
    heard = _moved(call.heard, lambda axis: axis + call.result.ndim - call.x.ndim)
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            size = call.x.shape[reach.axis - call.result.ndim + call.x.ndim]
            if call.result.shape[reach.axis] != size:
                raise CannotTrace(f"{call.place}: repeats the signal end to end")
    return heard


@rule("unfold")
def _unfold(call: Call) -> Heard:
    """Windows of ``size`` samples, ``step`` apart, each along a new last axis."""
    heard = call.alone()
    if call.x.ndim == call.result.ndim:  # F.unfold, blocks of an image as channels
        raise CannotTrace(f"{call.place}: unfold of an image")
    axis = call.get(1, "dimension") % call.x.ndim
    size, step = call.get(2, "size"), call.get(3, "step")
    call.layer.append((size, 1))
    mixed = heard.mixed | {call.x.ndim}
    return seen_through(call, heard, {axis: Window.convolution(size, step, 0, 1)}, mixed)


@rule("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as", "ravel")
def _view(call: Call) -> Heard:
    """Axes that keep their size keep their signal; splitting and merging time follow a window."""
    heard, before, after = call.heard, tuple(call.x.shape), tuple(call.result.shape)
    groups = _matched(before, after)
    reaches: list[Reach | str] = []
    mixed: set[int] = set()
    for axis in heard.mixed:
        old, new = next(group for group in groups if axis in group[0])
        mixed |= set(new)
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis is not None:
            old, new = next(group for group in groups if reach.axis in group[0])
            image, tainted = _reshaped(call, reach, old, new, heard.mixed)
            mixed = (mixed | tainted) - {image.axis if image.axis is not None else -1}
            reaches.append(image)
        else:
            reaches.append(reach)
    return Heard(tuple(reaches), frozenset(mixed))


def _reshaped(
    call: Call, reach: Reach, old: list[int], new: list[int], mixed: frozenset[int]
) -> tuple[Reach, set[int]]:
    before, after = call.x.shape, call.result.shape
    axis = reach.axis
    assert axis is not None
    wide_old = [a for a in old if before[a] > 1 or a == axis]
    wide_new = [a for a in new if after[a] > 1]
    if before[axis] == 1:
        raise CannotTrace(f"{call.place}: {call.name} of a signal of one sample; give more")
    if reach.folded is not None:
        major, size, _ = reach.folded
        done = 1
        for a in wide_new:
            if done == major and after[a] == size and wide_old == [axis]:
                return Reach(a, reach.lo, reach.hi, reach.advance), set()
            done *= after[a]
        raise CannotTrace(f"{call.place}: {call.name} of a flattened axis")
    if wide_old == [axis] and len(wide_new) == 1:
        return reach.moved_to(wide_new[0]), set()
    at = wide_old.index(axis)
    if len(wide_new) == 1:
        major = math.prod(before[a] for a in wide_old[:at])
        minor = math.prod(before[a] for a in wide_old[at + 1 :])
        if major > 1:
            folded = (major, before[axis], minor)
            return Reach(wide_new[0], reach.lo, reach.hi, reach.advance, folded), set()
        if any(a in mixed for a in wide_old):
            raise CannotTrace(f"{call.place}: {call.name} interleaves different signals")
        return reach.moved_to(wide_new[0]).through(Window.nearest(Fraction(1, minor))), set()
    if wide_old == [axis]:
        block = math.prod(after[a] for a in wide_new[1:])
        image = reach.moved_to(wide_new[0]).through(Window.convolution(block, block, 0, 1))
        return image, set(wide_new[1:])
    raise CannotTrace(f"{call.place}: {call.name} cuts the time axis and others anew")


def _matched(before: Sequence[int], after: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes whose products of sizes agree."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        old, new = [], []
        if i < len(before):
            old.append(i)
            i += 1
        if j < len(after):
            new.append(j)
            j += 1
        n_old = math.prod(before[a] for a in old)
        n_new = math.prod(after[a] for a in new)
        while n_old != n_new:
            if n_old < n_new:
                n_old *= before[i]
                old.append(i)
                i += 1
            else:
                n_new *= after[j]
                new.append(j)
                j += 1
        groups.append((old, new))
    return groups


def _every(call: Call, heard: Heard) -> Heard | list[Heard]:
    """The same for every tensor of the result."""
    n = len(tensors_in(call.result))
    return [heard] * n if n > 1 else heard


def _tuple(values: list[int]) -> Any:
    """One number for one dimension, a tuple for several."""
    return values[0] if len(values) == 1 else tuple(values)
