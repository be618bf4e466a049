"""Loops that show the limits of a core: read memory repeatedly, multiply and add within registers.

``read`` loads an array, nothing more: four sums of 16 floats each hide the latency of an addition,
so that only the memory is waited for. More sums, several streams or a prefetch make it no faster on
the machines that were tried. ``multiply_add`` touches no memory: 6 or 12 sums of 16 floats, as
either fits the registers of AVX2 and either keeps those of AVX-512 busy.
"""

from __future__ import annotations

from typing import Any

from wavenet.simd.compiling import cached, sources_fingerprint
from wavenet.simd.registers import LANES, fill, fma, load, sum_of

MULTIPLY_ADDS = {6: 6 * LANES, 12: 12 * LANES}
"""Multiply-adds of one repetition of ``multiply_add[sums]``."""


def _make_read() -> Any:
    fingerprint = sources_fingerprint()

    def read(times, array):
        """Load all floats of an array so many times; its end only in whole registers."""
        _ = fingerprint
        a, b, c, d = fill(0.0), fill(0.0), fill(0.0), fill(0.0)
        whole = len(array) // (4 * LANES) * (4 * LANES)
        for _ in range(times):
            for i in range(0, whole, 4 * LANES):
                a = a + load(array, i)
                b = b + load(array, i + LANES)
                c = c + load(array, i + 2 * LANES)
                d = d + load(array, i + 3 * LANES)
            for i in range(whole, len(array) - LANES + 1, LANES):
                a = a + load(array, i)
        return sum_of(a + b + c + d)

    return cached(read)


def _make_multiply_add_6() -> Any:
    fingerprint = sources_fingerprint()

    def multiply_add_6(times, factor, summand):
        """6 sums, each multiplied by a factor and added to so many times."""
        _ = fingerprint
        x, y = fill(factor), fill(summand)
        a, b, c, d, e, f = y, y + y, fma(y, y, y), x, x + x, fma(x, x, x)  # no two alike
        for _ in range(times):
            a, b, c = fma(a, x, y), fma(b, x, y), fma(c, x, y)
            d, e, f = fma(d, x, y), fma(e, x, y), fma(f, x, y)
        return sum_of(a + b + c + d + e + f)

    return cached(multiply_add_6)


def _make_multiply_add_12() -> Any:
    fingerprint = sources_fingerprint()

    def multiply_add_12(times, factor, summand):
        """Run ``multiply_add_6`` with 12 sums."""
        _ = fingerprint
        x, y = fill(factor), fill(summand)
        a, b, c, d, e, f = y, y + y, fma(y, y, y), x, x + x, fma(x, x, x)
        g, h, i, j, k, m = a + a + a, b + c, c + c, d + a, d + b, f + f
        for _ in range(times):
            a, b, c = fma(a, x, y), fma(b, x, y), fma(c, x, y)
            d, e, f = fma(d, x, y), fma(e, x, y), fma(f, x, y)
            g, h, i = fma(g, x, y), fma(h, x, y), fma(i, x, y)
            j, k, m = fma(j, x, y), fma(k, x, y), fma(m, x, y)
        return sum_of(a + b + c + d + e + f + g + h + i + j + k + m)

    return cached(multiply_add_12)


read = _make_read()
multiply_add = {6: _make_multiply_add_6(), 12: _make_multiply_add_12()}
