"""Convolutions, pooling, padding and changes of rate."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from wavenet.receptive_fields.module_tracker import tensors_in
from wavenet.receptive_fields.rules.call import (
    Call,
    TensorField,
    moved,
    one_or_all,
    per_axis,
    rule,
    through_windows,
    to_all,
    whole,
)
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window


@rule("conv1d", "conv2d", "conv3d")
def _convolution(call: Call) -> TensorField:
    field, weight = call.sole_field(), call.get(1, "weight")
    n = weight.ndim - 2
    first = call.x.ndim - n
    sizes = list(weight.shape[2:])
    strides = per_axis(call.get(3, "stride", 1), n)
    dilations = per_axis(call.get(5, "dilation", 1), n)
    padding = call.get(4, "padding", 0)
    if isinstance(padding, str):  # torch puts the odd sample of "same" behind
        spans = [d * (k - 1) for k, d in zip(sizes, dilations, strict=True)]
        paddings = [span // 2 if padding == "same" else 0 for span in spans]
    else:
        paddings = per_axis(padding, n)
    windows = {
        first + i: Window.convolution(sizes[i], strides[i], paddings[i], dilations[i])
        for i in range(n)
    }
    call.layer.append((one_or_all(sizes), one_or_all(dilations)))
    return _over_channels(call, field, windows, first - 1, call.get(6, "groups", 1))


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed(call: Call) -> TensorField:
    field, weight = call.sole_field(), call.get(1, "weight")
    n = weight.ndim - 2
    first = call.x.ndim - n
    sizes = list(weight.shape[2:])
    strides = per_axis(call.get(3, "stride", 1), n)
    paddings = per_axis(call.get(4, "padding", 0), n)
    dilations = per_axis(call.get(7, "dilation", 1), n)
    windows = {
        first + i: Window.transposed(sizes[i], strides[i], paddings[i], dilations[i])
        for i in range(n)
    }
    call.layer.append((one_or_all(sizes), one_or_all(dilations)))
    return _over_channels(call, field, windows, first - 1, call.get(6, "groups", 1))


def _over_channels(
    call: Call, field: TensorField, windows: dict[int, Window], channels: int, groups: int
) -> TensorField:
    """Windows along time and a sum over the channels (of each group)."""
    mixed = field.mixed if groups > 1 else field.mixed - {channels}
    field = whole(call, field, {channels}, "sums over all of the time as if it were channels")
    return through_windows(call, field, windows, mixed)


@rule(
    *(f"{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
    *(f"max_pool{n}d_with_indices" for n in (1, 2, 3)),
)
def _pool(call: Call) -> TensorField | list[TensorField]:
    n = int(call.name[call.name.index("pool") + 4])
    sizes = per_axis(call.get(1, "kernel_size"), n)
    given = call.get(2, "stride")
    strides = sizes if given is None or given == [] else per_axis(given, n)
    paddings = per_axis(call.get(3, "padding", 0), n)
    dilations = [1] * n
    if call.name.startswith("max"):
        dilations = per_axis(call.get(4, "dilation", 1), n)
    first = call.x.ndim - n
    windows = {
        first + i: Window.convolution(sizes[i], strides[i], paddings[i], dilations[i])
        for i in range(n)
    }
    call.layer.append((one_or_all(sizes), one_or_all(dilations)))
    return to_all(call, through_windows(call, call.sole_field(), windows))


@rule("lp_pool1d", "lp_pool2d", "lp_pool3d")
def _power_pool(call: Call) -> TensorField:
    n = int(call.name[7])
    sizes = per_axis(call.get(2, "kernel_size"), n)
    given = call.get(3, "stride")
    strides = sizes if given is None else per_axis(given, n)
    first = call.x.ndim - n
    windows = {first + i: Window.convolution(sizes[i], strides[i], 0, 1) for i in range(n)}
    call.layer.append((one_or_all(sizes), one_or_all([1] * n)))
    return through_windows(call, call.sole_field(), windows)


@rule(*(f"adaptive_{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)))
def _adaptive_pool(call: Call) -> TensorField | list[TensorField]:
    n = int(call.name[-2])
    first = call.x.ndim - n
    out = tensors_in(call.result)[0].shape
    sizes = [(call.x.shape[first + i], out[first + i]) for i in range(n)]
    windows = {first + i: Window.adaptive(*sizes[i]) for i in range(n) if sizes[i][1] > 1}
    kernels = [Window.adaptive(*pair) for pair in sizes]
    call.layer.append(
        (one_or_all([-(-w.stride // w.divisor) for w in kernels]), one_or_all([1] * n))
    )
    field = call.sole_field()
    single = {first + i for i in range(n) if sizes[i][1] == 1 and sizes[i][0] > 1}
    field = whole(call, field, single, "pools over the whole length")
    return to_all(call, through_windows(call, field, windows))


@rule("pad")
def _pad(call: Call) -> TensorField:
    field, pads = call.sole_field(), list(call.get(1, "pad"))
    windows, mixed = {}, set(field.mixed)
    reach_axes = {r.axis for r in field.reaches if isinstance(r, Reach)}
    for i in range(len(pads) // 2):
        axis = call.x.ndim - 1 - i
        if axis in reach_axes:
            windows[axis] = Window(1, -pads[2 * i])
        elif pads[2 * i] or pads[2 * i + 1]:
            mixed.add(axis)
    return through_windows(call, field, windows, mixed)


@rule("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def _interpolate(call: Call) -> TensorField:
    field, x, y = call.sole_field(), call.x, call.result
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
    factors = [None] * n if factors is None else per_axis(factors, n)
    windows = {}
    for i, factor in enumerate(factors):
        n_in, n_out = x.shape[2 + i], y.shape[2 + i]
        windows[2 + i] = _resampling(call, mode, aligned, factor, n_in, n_out)
    call.layer.append((None, one_or_all([1] * n)))
    return through_windows(call, field, windows)


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
def _pixel_shuffle(call: Call) -> TensorField:
    field, factor, ndim = call.sole_field(), call.get(1, "upscale_factor"), call.x.ndim
    if ndim - 3 in field.mixed:
        raise CannotTrace(f"{call.place}: pixel_shuffle of channels with different fields")
    window = Window.nearest(Fraction(1, factor))
    call.layer.append((None, one_or_all([1, 1])))
    return through_windows(call, field, {ndim - 2: window, ndim - 1: window})


@rule("pixel_unshuffle")
def _pixel_unshuffle(call: Call) -> TensorField:
    field, factor, ndim = call.sole_field(), call.get(1, "downscale_factor"), call.x.ndim
    window = Window.convolution(factor, factor, 0, 1)
    call.layer.append((one_or_all([factor, factor]), one_or_all([1, 1])))
    mixed = field.mixed | {ndim - 3}
    return through_windows(call, field, {ndim - 2: window, ndim - 1: window}, mixed)


@rule("repeat_interleave")
def _repeat_interleave(call: Call) -> TensorField:
    field, times, dim = call.sole_field(), call.get(1, "repeats"), call.get(2, "dim")
    if not isinstance(times, int) or dim is None:
        raise CannotTrace(f"{call.place}: repeat_interleave with other than one number and a dim")
    axis = dim % call.x.ndim
    call.layer.append((None, 1))
    if axis in field.mixed:
        return field
    return through_windows(call, field, {axis: Window.nearest(Fraction(1, times))})


@rule("stft")
def _stft(call: Call) -> TensorField:
    """Frames of ``n_fft`` samples, ``hop_length`` apart, centred unless told otherwise."""
    field, n_fft = call.sole_field(), call.get(1, "n_fft")
    hop = call.get(2, "hop_length") or n_fft // 4
    centre = call.get(5, "center", True)
    width = call.get(3, "win_length") or n_fft
    axis = call.x.ndim - 1
    front = (n_fft - width) // 2
    padding = (n_fft // 2 if centre else 0) - front
    call.layer.append((width, 1))
    field = through_windows(call, field, {axis: Window.convolution(width, hop, padding, 1)})
    return moved(field, lambda a: a + 1 if a == axis else a)
