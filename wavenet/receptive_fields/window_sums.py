"""Convolutions and pooling as sums over windows: a layer's geometry at the cost of one channel.

A convolution with positive weights depends on all input channels of a group alike, and all its
output channels depend on the same. So the channels of a group are summed to one, this one is summed
over the windows, axis by axis, and the result is repeated for every output channel. A sum of k taps
is made of sums of 1, 2, 4 ... taps, in ``log2 k`` additions:

    S_2m[n] = S_m[n] + S_m[n + m d],        S_m[n] = x[n] + x[n + d] + ... + x[n + (m - 1) d].

Every step adds positive numbers and keeps nothing for the backward pass: where the gradient is zero
is exact in any precision, and no layer's input stays in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def window_sum(x: Tensor, axis: int, taps: int, dilation: int) -> Tensor:
    """Return ``y[n] = x[n] + x[n + d] + ... + x[n + (k - 1) d]`` along an axis."""
    n_out = x.shape[axis] - dilation * (taps - 1)
    total: Tensor | None = None
    done, width, power = 0, 1, x
    while True:
        if taps & width:
            part = power.narrow(axis, done * dilation, n_out)
            total = part if total is None else total + part
            done += width
        if done == taps:
            return total if total is not None else x
        shift = width * dilation
        n = power.shape[axis] - shift
        power = power.narrow(axis, 0, n) + power.narrow(axis, shift, n)
        width *= 2


def window_means(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Tensor:
    """Return the mean of zero-padded x over windows along its last axes.

    Args:
        x: ``[..., *sizes]``, as many sizes as the other arguments have entries.
        kernel: taps.
        stride: samples between windows.
        dilation: samples between taps.
        pads: zeros before and behind; a negative number cuts samples away.
    """
    n = len(kernel)
    if any(pad != (0, 0) for pad in pads):
        x = F.pad(x, [size for pad in reversed(pads) for size in pad])
    for d in range(n):
        axis = x.ndim - n + d
        if kernel[d] > 1:
            x = window_sum(x, axis, kernel[d], dilation[d]) * (1 / kernel[d])
        if stride[d] > 1:
            x = x[(slice(None),) * axis + (slice(None, None, stride[d]),)]
    return x


def zeros_between(x: Tensor, axis: int, stride: int) -> Tensor:
    """Put ``stride - 1`` zeros between neighbours along an axis."""
    if stride == 1:
        return x
    n = (x.shape[axis] - 1) * stride + 1
    padded = F.pad(x.unsqueeze(axis + 1), [0] * 2 * (x.ndim - axis - 1) + [0, stride - 1])
    return padded.flatten(axis, axis + 1).narrow(axis, 0, n)


def sum_of_groups(x: Tensor, axis: int, groups: int) -> Tensor:
    """Sum the channels of each group to one: C channels become ``groups``."""
    if x.shape[axis] == groups:
        return x
    return x.unflatten(axis, (groups, -1)).mean(axis + 1)


def repeated_groups(x: Tensor, axis: int, channels: int) -> Tensor:
    """Repeat the one channel of each group until there are so many."""
    groups = x.shape[axis]
    if channels == groups:
        return x
    shape = [*x.shape[: axis + 1], channels // groups, *x.shape[axis + 1 :]]
    return x.unsqueeze(axis + 1).expand(shape).flatten(axis, axis + 1)
