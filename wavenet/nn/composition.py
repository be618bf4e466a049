"""Rate, step, delay and reach of causal blocks one after another."""

from __future__ import annotations

import math
from fractions import Fraction

from wavenet.nn.causal import Causal, behind_rates, common_period


def farthest_reach(blocks: list[Causal]) -> int:
    """``past`` of causal blocks one after another, in samples of the first one's input.

    Follows every output of one period back to the earliest input it depends on.
    """
    step, rate = chained_rates(blocks)
    period = common_period(step, behind_rates(blocks))

    def oldest(n: int) -> int:
        for block in reversed(blocks):
            n = block.oldest_input(n)
        return n

    return max(math.floor(n / rate) - oldest(n) for n in range(math.ceil(period * rate)))


def chained_rates(blocks: list[Causal]) -> tuple[int, Fraction]:
    """``step`` and ``rate`` of causal blocks one after another."""
    step, up, down = _chained_rates(blocks)
    return step, Fraction(up, down)


def chained_delay(blocks: list[Causal]) -> Fraction:
    """``delay`` of causal blocks one after another, in samples of the first one's input."""
    return sum((block.delay / rate for rate, block in behind_rates(blocks)), Fraction(0))


def chained_step(blocks: list[Causal]) -> int:
    """``step`` of causal blocks one after another."""
    return _chained_rates(blocks)[0]


def _chained_rates(blocks: list[Causal]) -> tuple[int, int, int]:
    """``step``, and ``rate`` as two integers: torch.compile knows no fractions."""
    step, up, down = 1, 1, 1
    for block in blocks:
        rate = block.rate
        if rate is Causal.rate and block.step == 1 and down == 1:
            continue
        if block.step != 1 or down != 1:
            # A call of `step` samples leaves step * rate here: a multiple of the block's own step.
            whole = down * block.step
            step *= whole // math.gcd(step * up, whole)
        up, down = up * rate.numerator, down * rate.denominator
    return step, up, down
