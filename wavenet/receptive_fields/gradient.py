"""The receptive field of any module by measurement: where the gradient of one output is not zero.

Plain back-propagation shows too little. An inactive ReLU, a closed gate, a maximum taken elsewhere
and a zero weight each hide taps that exist. In a long chain the gradient at the field's edge
underflows. So a copy of the network runs that keeps the geometry alone (``linear``,
``linearized_ops``):

- activations are the identity; products, quotients and differences of two signals are their sum;
- maxima are means, and a normalisation is its input plus the mean of what it normalises over;
- a convolution is the mean over its windows (``window_sums``), so it costs what one channel costs;
- constant masks stay: a causal attention does not depend on masked positions;
- after every layer the gradient is set back to 0 and 1, so nothing underflows or cancels.

Such a network is linear with positive coefficients, so its gradient is nonzero exactly where a path
exists. The input is made longer than the field. The measurement is independent of the formulas in
``rules``: each verifies the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from wavenet.receptive_fields.linear import Run
from wavenet.receptive_fields.linearized_ops import FLOOR
from wavenet.receptive_fields.module_tracker import spatial_axes

_MIDDLE = Fraction(1, 2)

MOST_OUTPUTS = 512
"""Neighbouring outputs that are measured where the rate was raised and they differ."""

MOST_PHASES = 16
"""Outputs of one period that are compared with the formula, evenly spread."""


@dataclass(frozen=True)
class Support:
    """Support of the gradient of some neighbouring outputs along one dimension.

    Attributes:
        outputs: positions n of the outputs.
        first: position of the first input of each, or None where there is none.
        last: position of the last.
    """

    outputs: tuple[int, ...]
    first: tuple[int | None, ...]
    last: tuple[int | None, ...]


def supports(
    run: Run,
    output: Tensor,
    axes: Sequence[int | None],
    counts: Sequence[int],
    *,
    spread: int | None = None,
    middle: Fraction = _MIDDLE,
    until_whole: bool = False,
) -> list[Support]:
    """Back-propagate from outputs in the middle, and find the inputs with a gradient.

    Args:
        run: see ``run_linear``.
        output: one tensor of it.
        axes: the axis of the output for each dimension of the input, None where it is gone.
        counts: how many neighbouring outputs to measure in each dimension.
        spread: largest number of outputs to measure, evenly spaced.
        middle: centre of these outputs, as a fraction of all.
        until_whole: whether one that depends on the first input and on the last is the last that is
            measured: no other can depend on more.

    Returns:
        One ``Support`` per dimension.
    """
    inputs = spatial_axes(tuple(run.x.shape))
    centre = {a: int(output.shape[a] * middle) for a in axes if a is not None}
    found = []
    for axis, input_axis, count in zip(axes, inputs, counts, strict=True):
        positions = (
            [0] if axis is None else probed_positions(output.shape[axis], count, spread, middle)
        )
        ends = []
        for n in positions:
            at = centre if axis is None else centre | {axis: n}
            index = tuple(at.get(a, slice(None)) for a in range(output.ndim))
            ends.append(_input_range(run, output[index].sum(), input_axis))
            if until_whole and ends[-1] == (0, run.x.shape[input_axis] - 1):
                break
        first, last = zip(*ends, strict=True)
        found.append(Support(tuple(positions[: len(ends)]), first, last))
    return found


def probed_positions(
    size: int, count: int, spread: int | None = None, middle: Fraction = _MIDDLE
) -> list[int]:
    """Return neighbouring positions around the middle, or an evenly spaced subset of them.

    Args:
        size: number of positions.
        count: neighbouring positions to take, or all if there are fewer.
        spread: largest number of positions to return, evenly spaced.
        middle: centre of these positions, as a fraction of ``size``.
    """
    count = min(count, size)
    begin = min(max(0, int(size * middle) - count // 2), size - count)
    step = 1 if spread is None else max(1, math.ceil(count / spread))
    return list(range(begin, begin + count, step))


def _input_range(run: Run, value: Tensor, axis: int) -> tuple[int | None, int | None]:
    """First and last position along an axis of the input at which a gradient is not zero."""
    (gradient,) = torch.autograd.grad(value, run.x, retain_graph=True, allow_unused=True)
    if gradient is None:
        return None, None
    size = gradient.abs().amax([a for a in range(gradient.ndim) if a != axis])
    nonzero = (size > FLOOR * size.max()).nonzero().flatten().tolist()
    return (nonzero[0], nonzero[-1]) if nonzero else (None, None)
