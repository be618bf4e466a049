"""One sample of each row from the params in memory, by the rule of ``wavenet.distributions``.

A category is found by passes over blocks of logits, so that any number of classes will do. The
nucleus needs no sorting: weights are floats of at least 0, whose bits are ordered as they are, and
halving an interval of bits finds the least weight that stays (as ``engines.cpu.kernels.draws``).
Quantiles depend on the uniforms alone, and are computed before the launch.
"""

from __future__ import annotations

import triton
import triton.language as tl

# mypy: disable-error-code="no-untyped-def"


@triton.jit
def _block(logits, closed, largest, temperature, begin, N: tl.constexpr, BLOCK: tl.constexpr):
    """exp((logit - largest) / temperature) of a block of classes ``[ROWS, BLOCK]``, 0 if closed."""
    k = begin + tl.arange(0, BLOCK)
    shift = tl.load(closed + k, mask=k < N, other=-float("inf"))
    logit = tl.load(logits[:, None] + k[None], mask=k[None] < N, other=-float("inf"))
    return tl.exp((logit + shift[None] - largest[:, None]) / temperature)


@triton.jit
def _largest(logits, closed, N: tl.constexpr, BLOCK: tl.constexpr):
    largest = tl.full([logits.shape[0]], -float("inf"), tl.float32)
    for begin in range(0, N, BLOCK):
        k = begin + tl.arange(0, BLOCK)
        shift = tl.load(closed + k, mask=k < N, other=-float("inf"))
        logit = tl.load(logits[:, None] + k[None], mask=k[None] < N, other=-float("inf"))
        largest = tl.maximum(largest, tl.max(logit + shift[None], axis=1))
    return largest


@triton.jit
def _sum_from(
    logits, closed, largest, temperature, least, N: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """``[ROWS]``, the sum of all weights of at least ``least``."""
    total = tl.zeros_like(largest)
    for begin in range(0, N, BLOCK):
        weight = _block(logits, closed, largest, temperature, begin, N, BLOCK)
        total += tl.sum(tl.where(weight >= least[:, None], weight, 0.0), axis=1)
    return total


@triton.jit
def _nucleus(
    logits, closed, largest, temperature, top_p, N: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """``(least, spare)``: the least weight that stays, and how much of equals to it is needed."""
    nothing = tl.zeros_like(largest)
    limit = top_p * _sum_from(logits, closed, largest, temperature, nothing, N, BLOCK)
    low = tl.zeros([largest.shape[0]], tl.int32)
    high = tl.full(
        [largest.shape[0]], 0x3F800001, tl.int32
    )  # the bits of 1, the largest weight, and one more
    step = 0
    while step < 31:
        middle = low + (high - low) // 2
        least = middle.to(tl.float32, bitcast=True)
        total = _sum_from(logits, closed, largest, temperature, least, N, BLOCK)
        enough = (total >= limit) & (high - low > 1)
        high = tl.where((total < limit) & (high - low > 1), middle, high)
        low = tl.where(enough, middle, low)
        step += 1
    above = (low + 1).to(tl.float32, bitcast=True)
    total = _sum_from(logits, closed, largest, temperature, above, N, BLOCK)
    return low.to(tl.float32, bitcast=True), limit - total


@triton.jit
def _kept(weight, least, spare, seen):
    """The weights within the nucleus, and the sum of equals to the least one so far."""
    equal = tl.where(weight == least[:, None], weight, 0.0)
    before = seen[:, None] + tl.cumsum(equal, axis=1) - equal
    weight = tl.where(weight >= least[:, None], weight, 0.0)
    weight = tl.where((equal > 0) & (before >= spare[:, None]), 0.0, weight)
    return weight, seen + tl.sum(equal, axis=1)


@triton.jit
def category(
    logits, closed, u, temperature, top_p, N: tl.constexpr, BLOCK: tl.constexpr,
    NUCLEUS: tl.constexpr,
):  # fmt: skip
    """``[ROWS]`` indices of classes.

    Args:
        logits: pointers ``[ROWS]`` to the first logit of each row.
        closed: pointer to N numbers, 0 for a class that can be drawn, else -inf.
        u: ``[ROWS]`` in (0, 1).
    """
    largest = _largest(logits, closed, N, BLOCK)
    least, spare = tl.zeros_like(u), tl.zeros_like(u)
    if NUCLEUS:
        least, spare = _nucleus(logits, closed, largest, temperature, top_p, N, BLOCK)
    total, seen = tl.zeros_like(u), tl.zeros_like(u)
    for begin in range(0, N, BLOCK):
        weight = _block(logits, closed, largest, temperature, begin, N, BLOCK)
        if NUCLEUS:
            weight, seen = _kept(weight, least, spare, seen)
        total += tl.max(tl.cumsum(weight, axis=1), axis=1)
    target = u * total
    before, seen = tl.zeros_like(u), tl.zeros_like(u)
    index = tl.zeros([u.shape[0]], tl.int32)
    for begin in range(0, N, BLOCK):
        weight = _block(logits, closed, largest, temperature, begin, N, BLOCK)
        if NUCLEUS:
            weight, seen = _kept(weight, least, spare, seen)
        cdf = tl.cumsum(weight, axis=1)
        index += tl.sum((before[:, None] + cdf < target[:, None]).to(tl.int32), axis=1)
        before += tl.max(cdf, axis=1)
    return tl.minimum(index, N - 1)  # beyond only with params that are no numbers


@triton.jit
def on_grid(mean, log_scale, quantile, temperature, LOW: tl.constexpr, HIGH: tl.constexpr):
    """mean + temperature * scale * quantile on the nearest 16-bit sample, halves to even."""
    mean = tl.minimum(tl.maximum(mean, -64.0), 64.0)
    scale = tl.exp(tl.minimum(tl.maximum(log_scale, LOW), HIGH)) * temperature
    value = (mean + scale * quantile) * 32768.0
    value = tl.minimum(tl.maximum(value, -32768.0), 32767.0)
    # Between 2^23 and 2^24 floats are the integers, and a sum is rounded to the nearest even one.
    return ((value + 12582912.0) - 12582912.0) / 32768.0
