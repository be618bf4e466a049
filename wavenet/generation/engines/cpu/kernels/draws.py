"""One value from the parameters of a distribution, by the rule of ``wavenet.distributions``.

A category is found in two steps: the sums of 16 classes each, and inside one of these sixteens the
class. Both run in the order of the classes, so the draw is the inverse of one cumulative sum.

The nucleus needs no sorting. The weights are floats of at least 0, whose bits are ordered as they
are: halving the interval of bits finds the largest threshold above which (and at which) the
weights still reach ``top_p`` of the whole. All greater weights stay, and of the equal ones, in the
order of the classes, as many as are needed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from wavenet.distributions import MAX_LOG_SCALE, MAX_MEAN, MIN_LOG_SCALE, STEP
from wavenet.simd.compiling import inlined, instruction, outlined
from wavenet.simd.functions import exp
from wavenet.simd.registers import (
    LANES,
    fill,
    largest_of,
    load,
    maximum,
    store,
    sum_of,
    where_less,
)

_BITS_OF_ONE = 0x3F800000


@instruction
def _float_of(_: Any, bits: Any) -> Any:
    """The float32 whose bits these are."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(builder.trunc(args[0], ir.IntType(32)), ir.FloatType())

    return types.float32(bits), generate


@outlined
def category(work, row, plan, constants, u, temperature, top_p):
    """Index of a class.

    Args:
        work: holds the logits of a row from ``params_at`` on, and from ``space_at`` on room for as
            many weights, filled up to whole registers, and for one sum for each of these.
        row: where it begins there.
        plan: see ``plan``.
        constants: holds from ``mask_at`` on 0 for a class that can be drawn, else -inf.
        u: in (0, 1).
        temperature: divides the logits.
        top_p: 1 for all classes.
    """
    n, space = plan.categories, row + plan.space_at
    blocks = (n + LANES - 1) // LANES
    sums = space + blocks * LANES
    total = _weights(
        work, row + plan.params_at, blocks, space, constants, plan.mask_at, temperature
    )
    if top_p < 1:
        _keep_nucleus(work, space, blocks, np.float32(top_p) * total)
        total = _sum_blocks(work, space, blocks, sums)
    target = np.float32(u) * total
    before = np.float32(0)
    block = 0
    while block < blocks - 1 and before + work[sums + block] < target:
        before += work[sums + block]
        block += 1
    drawn = block * LANES
    for k in range(drawn, drawn + LANES):
        weight = work[space + k]
        if weight > 0:
            drawn = k
            before += weight
            if before >= target:
                break
    return min(drawn, n - 1)  # beyond only with parameters that are no numbers


@inlined
def _weights(work, logits, blocks, space, constants, mask, temperature):
    """exp((logit - largest) / temperature) of every class, the sums of sixteens, and the total."""
    largest = fill(-np.inf)
    for block in range(blocks):
        masked = load(work, logits + block * LANES) + load(constants, mask + block * LANES)
        store(work, space + block * LANES, masked)
        largest = maximum(largest, masked)
    top = fill(largest_of(largest))
    for block in range(blocks):
        x = load(work, space + block * LANES) - top
        if temperature != 1:
            x = x / fill(temperature)
        store(work, space + block * LANES, exp(x))
    return _sum_blocks(work, space, blocks, space + blocks * LANES)


@inlined
def _sum_blocks(work, space, blocks, sums):
    total = np.float32(0)
    for block in range(blocks):
        work[sums + block] = sum_of(load(work, space + block * LANES))
        total += work[sums + block]
    return total


@inlined
def _sum_from(work, space, blocks, threshold):
    """The sum of all weights of at least the threshold."""
    least, total = fill(threshold), fill(0.0)
    for block in range(blocks):
        weights = load(work, space + block * LANES)
        total = total + where_less(weights, least, fill(0.0), weights)
    return sum_of(total)


@inlined
def _keep_nucleus(work, space, blocks, limit):
    """Set to zero what is not needed to reach the limit, the smallest weights first."""
    low, high = 0, _BITS_OF_ONE + 1  # the largest weight is 1
    while high - low > 1:
        middle = (low + high) // 2
        if _sum_from(work, space, blocks, _float_of(middle)) >= limit:
            low = middle
        else:
            high = middle
    threshold = _float_of(low)
    before = _sum_from(work, space, blocks, _float_of(low + 1))
    for k in range(space, space + blocks * LANES):
        if work[k] < threshold:
            work[k] = 0
        elif work[k] == threshold:
            if before >= limit:
                work[k] = 0
            else:
                before += work[k]


@outlined
def standard_logistic(u):
    """Quantile of the logistic distribution: log(u / (1 - u))."""
    return math.log(u / (1 - u))


# Wichura 1988, algorithm AS 241, PPND16: rational functions for the middle, the tails and what
# is beyond, relative error 1e-16. Numerator, denominator; the highest power first.
_MIDDLE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457),
    (13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867),
    (5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)
_TAIL = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177),
    (1.27045825245236838258, 3.64784832476320460504, 5.7694972214606914055),
    (4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966),
    (0.14810397642748007459, 0.68976733498510000455, 1.6763848301838038494),
    (2.05319162663775882187, 1.0),
)
_BEYOND = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386),
    (0.026532189526576123093, 0.29656057182850489123, 1.7848265399172913358),
    (5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5),
    (7.868691311456132591e-4, 0.0148753612908506148525, 0.13692988092273580531),
    (0.59983220655588793769, 1.0),
)


def _joined(groups: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    return tuple(number for group in groups for number in group)


_MIDDLE_ALL, _TAIL_ALL, _BEYOND_ALL = _joined(_MIDDLE), _joined(_TAIL), _joined(_BEYOND)


@inlined
def _ratio(coefficients, x):
    above, below = 0.0, 0.0
    for i in range(8):
        above = above * x + coefficients[i]
        below = below * x + coefficients[8 + i]
    return above / below


@outlined
def standard_normal(u):
    """Quantile of the normal distribution (Wichura 1988, AS 241)."""
    q = u - 0.5
    if abs(q) <= 0.425:
        return q * _ratio(_MIDDLE_ALL, 0.180625 - q * q)
    r = math.sqrt(-math.log(u if q < 0 else 1 - u))
    x = _ratio(_TAIL_ALL, r - 1.6) if r <= 5 else _ratio(_BEYOND_ALL, r - 5)
    return -x if q < 0 else x


@outlined
def on_grid(mean, log_scale, quantile, temperature):
    """mean + temperature * scale * quantile on the nearest 16-bit sample, halves to even."""
    mean = min(max(mean, np.float32(-MAX_MEAN)), np.float32(MAX_MEAN))
    log_scale = min(max(log_scale, np.float32(MIN_LOG_SCALE)), np.float32(MAX_LOG_SCALE))
    scale = np.float32(math.exp(log_scale)) * np.float32(temperature)
    value = mean + scale * np.float32(quantile)
    i = min(max(np.rint(value / np.float32(STEP)), np.float32(-32768)), np.float32(32767))
    return np.float32(i * np.float32(STEP))
