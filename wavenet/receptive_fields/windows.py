"""Inputs that an output depends on along one dimension: exact integer arithmetic with periods.

Nearly every layer that looks along time has one form. Output n depends on the inputs j with

    divisor j = stride n + first + step i,    some i = 0 .. count - 1                  (``Window``)

A convolution has divisor 1, stride S, first -P, step d, count k. A transposed one has stride 1 and
divisor S, for j = (n + P - d i) / S wherever that is whole. Holding each sample u times is
j = floor(n / u), so divisor u and the remainders 0 .. u - 1 for ``count``; linear interpolation,
adaptive pooling, slices, flips and padding fit as well (see ``rules``).

``Reach`` describes a whole network: output n depends on input samples ``lo(n) .. hi(n)``, where

    lo(n + P) = lo(n) + advance,    hi(n + P) = hi(n) + advance                    (P the period).

The stride of the network is advance / P input samples per output sample, a fraction. For a strided
network P is 1; where the rate is raised, the outputs between two inputs differ, and P counts them.
The reach after the next layer is the least ``lo`` and the largest ``hi`` over its taps, so the
result is the exact hull, whatever the phases. This generalises Araujo, Norris and Sim (2019),
who treat integer strides. Signals are infinite here: borders do not affect the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

_NEVER = 2**60
"""``lo`` of an output that depends on no input (and ``-_NEVER`` its ``hi``)."""

_MOST_TAPS = 20_000_000
"""Largest number of phases times taps of one layer."""


class CannotTrace(Exception):
    """Raised for an operation that the formulas do not cover; the message names it."""


@dataclass(frozen=True)
class Window:
    """Output n depends on inputs j with ``divisor j = stride n + first + step i``, i < count."""

    stride: int = 1
    first: int = 0
    count: int = 1
    step: int = 1
    divisor: int = 1

    @classmethod
    def convolution(cls, kernel_size: int, stride: int, padding: int, dilation: int) -> Window:
        """``j = S n - P + d i``."""
        return cls(stride, -padding, kernel_size, dilation)

    @classmethod
    def transposed(cls, kernel_size: int, stride: int, padding: int, dilation: int) -> Window:
        """``S j = n + P - d i``, counted from the last tap on."""
        return cls(1, padding - dilation * (kernel_size - 1), kernel_size, dilation, stride)

    @classmethod
    def nearest(cls, scale: Fraction) -> Window:
        """``j = floor(n scale)``, scale in inputs per output."""
        p = scale.denominator
        return cls(scale.numerator, -(p - 1), p, 1, p)

    @classmethod
    def nearest_exact(cls, scale: Fraction) -> Window:
        """``j = floor((n + 1/2) scale)``."""
        q, p = scale.numerator, scale.denominator
        return cls(2 * q, q - (2 * p - 1), 2 * p, 1, 2 * p)

    @classmethod
    def linear(cls, scale: Fraction) -> Window:
        """Both neighbours of ``(n + 1/2) scale - 1/2``; one where it is whole."""
        q, p = scale.numerator, scale.denominator
        return cls(2 * q, q - p - (2 * p - 1), 4 * p - 1, 1, 2 * p)

    @classmethod
    def linear_aligned(cls, scale: Fraction) -> Window:
        """Both neighbours of ``n scale``; one where it is whole."""
        q, p = scale.numerator, scale.denominator
        return cls(q, -(p - 1), 2 * p - 1, 1, p)

    @classmethod
    def adaptive(cls, n_in: int, n_out: int) -> Window:
        """``floor(n in / out) <= j < (n + 1) in / out``."""
        return cls(n_in, -(n_out - 1), n_in + n_out - 1, 1, n_out)

    @property
    def is_shift(self) -> bool:
        """True if each output is one input, moved: padding, slicing, flipping."""
        return self.count == 1 and abs(self.stride) == 1 and self.divisor == 1

    @property
    def has_gaps(self) -> bool:
        """True if some outputs depend on no input: a transposed convolution with gaps."""
        if self.divisor == 1:
            return False
        met = {(self.first + self.step * i) % self.divisor for i in range(self.count)}
        lattice = math.gcd(self.stride, self.divisor)
        return any(-n % self.divisor not in met for n in range(0, self.divisor, lattice))


@dataclass(frozen=True, eq=False)
class Reach:
    """Output n along ``axis`` depends on input samples ``lo(n) .. hi(n)`` of one dimension.

    Attributes:
        axis: of the tensor; None where a single position was picked and the axis is gone.
        lo: ``[P]``, for outputs 0 .. P - 1.
        hi: ``[P]``.
        advance: input samples per P outputs; negative where the signal runs backwards.
        folded: (major, size, minor) while the axis is flattened with others around it.
        own: own time of a single position that was picked, in input samples.
        unbounded_before: reason why there is no first input; ``lo`` is then meaningless.
        unbounded_after: reason why there is no last input; ``hi`` is then meaningless.
    """

    axis: int | None
    lo: IntArray
    hi: IntArray
    advance: int
    folded: tuple[int, int, int] | None = None
    own: int = 0
    unbounded_before: str | None = None
    unbounded_after: str | None = None

    @classmethod
    def identity(cls, axis: int) -> Reach:
        """Output n is input n."""
        return cls(axis, np.zeros(1, np.int64), np.zeros(1, np.int64), 1)

    @property
    def period(self) -> int:
        """Outputs after which the pattern repeats."""
        return len(self.lo)

    @property
    def stride(self) -> Fraction:
        """Input samples per output sample."""
        return Fraction(self.advance, self.period)

    def at(self, n: IntArray) -> tuple[IntArray, IntArray]:
        """``lo(n)`` and ``hi(n)``, in the shape of n."""
        turns, phase = np.divmod(n, self.period)
        moved = turns * self.advance
        return self.lo[phase] + moved, self.hi[phase] + moved

    def through(self, window: Window) -> Reach:
        """Reach of the outputs of a layer whose inputs have this reach."""
        whole = window.divisor * self.period
        period = whole // math.gcd(window.stride, whole)
        advance = window.stride * period // whole * self.advance
        if period * window.count > _MOST_TAPS:
            raise CannotTrace(f"the pattern has too long a period, {period} outputs")
        n = np.arange(period, dtype=np.int64)[:, None]
        taps = np.arange(window.count, dtype=np.int64)[None]
        j, rest = np.divmod(window.stride * n + window.first + window.step * taps, window.divisor)
        lo, hi = self.at(j)
        lo = np.where(rest == 0, lo, _NEVER).min(axis=1)
        hi = np.where(rest == 0, hi, -_NEVER).max(axis=1)
        return replace(self, lo=lo, hi=hi, advance=advance)

    def accumulated(self, why: str) -> Reach:
        """Reach of an output n that depends on the values 0 .. n of a layer's input.

        Args:
            why: reason why it is unbounded.
        """
        n, before = np.ogrid[: self.period, : self.period]
        if n.size * before.size > _MOST_TAPS:
            raise CannotTrace(f"the pattern has too long a period, {self.period} outputs")
        lo, hi = self.at(np.asarray(n - before, np.int64))
        both = replace(self, lo=lo.min(axis=1), hi=hi.max(axis=1))
        if self.advance < 0:
            return replace(both, unbounded_after=self.unbounded_after or why)
        return replace(both, unbounded_before=self.unbounded_before or why)

    def moved_to(self, axis: int | None) -> Reach:
        """Return this reach along another axis."""
        return replace(self, axis=axis)

    def picked(self, n: int) -> Reach:
        """Return the reach of position n alone, without an axis."""
        lo, hi = self.at(np.array([n], np.int64))
        own = n * self.advance // self.period
        return replace(self, axis=None, lo=lo, hi=hi, advance=0, folded=None, own=own)

    def same_as(self, other: Reach) -> bool:
        """Return true if both are equal for all outputs."""
        if (self.axis, self.stride) != (other.axis, other.stride):
            return False
        if (self.unbounded_before, self.unbounded_after) != (
            other.unbounded_before,
            other.unbounded_after,
        ):
            return False
        n = np.arange(math.lcm(self.period, other.period), dtype=np.int64)
        return all(bool((a == b).all()) for a, b in zip(self.at(n), other.at(n), strict=True))

    def summary(self) -> tuple[Any, Any, Any, int | None]:
        """``(samples, look_back, look_ahead, padding)``, the largest over the phases.

        The own time of output n is input ``floor(n stride)``. ``padding`` is how far before input 0
        the field of output 0 begins, negative if it begins later. For a signal that runs backwards
        only the number of samples is given: it has no time of its own. Without a first or a last
        input, the numbers that follow from it are infinite, and there is no padding.

        Raises:
            CannotTrace: if no output depends on the input.
        """
        n = np.arange(self.period, dtype=np.int64)
        own = n * self.advance // self.period + self.own
        connected = self.lo <= self.hi
        if not connected.any():
            raise CannotTrace("the output does not depend on the input")
        samples: Any = int((self.hi - self.lo)[connected].max()) + 1
        if self.unbounded_before is not None or self.unbounded_after is not None:
            samples = math.inf
        if self.advance < 0:
            return samples, None, None, None
        back = int((own - self.lo)[connected].max())
        ahead = int((self.hi - own)[connected].max())
        padding = int((own - self.lo)[connected][0])
        return (
            samples,
            max(0, back) if self.unbounded_before is None else math.inf,
            max(0, ahead) if self.unbounded_after is None else math.inf,
            padding if self.unbounded_before is None else None,
        )


def joined(reaches: Sequence[Reach]) -> Reach:
    """The hull of several reaches along one axis.

    Raises:
        CannotTrace: if they have different strides or different axes.
    """
    first = reaches[0]
    for other in reaches[1:]:
        if first is other:
            continue
        if first.axis != other.axis or first.folded != other.folded:
            raise CannotTrace("joins signals whose time axes differ")
        if first.stride != other.stride:
            raise CannotTrace(
                f"joins signals of different strides, {first.stride} and {other.stride} input "
                "samples per sample"
            )
        n = np.arange(math.lcm(first.period, other.period), dtype=np.int64)
        lo, hi = first.at(n)
        other_lo, other_hi = other.at(n)
        advance = int(first.stride * len(n))
        lo, hi = np.minimum(lo, other_lo), np.maximum(hi, other_hi)
        first = replace(
            first,
            lo=lo,
            hi=hi,
            advance=advance,
            unbounded_before=first.unbounded_before or other.unbounded_before,
            unbounded_after=first.unbounded_after or other.unbounded_after,
        )
    return first
