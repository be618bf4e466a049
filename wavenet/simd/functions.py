"""exp, tanh and the gate, 16 values at a time.

exp(x) = 2**n e**r, n = round(x / ln 2), |r| <= ln(2) / 2, and e**r = 1 + r + r^2 P(r) with the
polynomial of Cephes' expf (Moshier 1989, relative error 2e-8). Adding 1.5 * 2**23 rounds to the
nearest whole number and leaves n in the lowest bits.

The gate needs one division, with p = exp(2 a) - 1 and s = exp(-b):

    tanh(a) sigmoid(b) = p / ((p + 2) (1 + s))

p is built from e**r - 1, so that nothing cancels near a = 0 and the relative error stays small.

tanh(x) = x P(x^2) / Q(x^2) on [-8, 8], of degree 4 both: the minimax approximation of the relative
error, by Lawson's iteration; 7e-9 before rounding, 3e-7 in float32. From 8 on it is 1 - 6e-8.
"""

from __future__ import annotations

from wavenet.simd.compiling import inlined
from wavenet.simd.registers import (
    add_exponent,
    fill,
    fma,
    maximum,
    minimum,
    where_less,
)

_INVERSE_LN2 = 1.44269504088896341
_LN2_HIGH = 0.693359375  # n * this is exact
_LN2_LOW = -2.12194440e-4
_ROUNDING = 12582912.0  # 1.5 * 2**23
_SMALLEST = -87.0  # exp of less is no normal number
_LARGEST = 87.0
_FLAT = 9.0  # from here on tanh is 1 in float32: 1 - tanh(9) = 3e-8
_TANH_END = 8.0


@inlined
def exp_parts(x):
    """n, in the lowest bits of a float, and e**r - 1."""
    rounding = fill(_ROUNDING)
    shifted = fma(x, fill(_INVERSE_LN2), rounding)
    n = shifted - rounding
    r = fma(n, fill(-_LN2_HIGH), x)
    r = fma(n, fill(-_LN2_LOW), r)
    p = fma(r, fill(1.9875691500e-4), fill(1.3981999507e-3))
    p = fma(p, r, fill(8.3334519073e-3))
    p = fma(p, r, fill(4.1665795894e-2))
    p = fma(p, r, fill(1.6666665459e-1))
    p = fma(p, r, fill(5.0000001201e-1))
    return shifted, fma(p, r * r, r)


@inlined
def _clipped(x, low, high):
    """Clip x; maximum and minimum return their second argument if either is NaN: x stays NaN."""
    return maximum(fill(low), minimum(fill(high), x))


@inlined
def exp(x):
    """e**x; 0 below -87, and as e**87 above 87."""
    shifted, less_one = exp_parts(_clipped(x, _SMALLEST, _LARGEST))
    y = add_exponent(fill(1.0) + less_one, shifted)
    return where_less(x, fill(_SMALLEST), fill(0.0), y)


@inlined
def tanh_parts(x):
    """Two numbers whose quotient is tanh(x); the second is from 1 to 241."""
    x = _clipped(x, -_TANH_END, _TANH_END)
    square = x * x
    p = fma(square, fill(1.5230401828603135e-08), fill(2.189464976254385e-05))
    p = fma(p, square, fill(0.003571597393602133))
    p = fma(p, square, fill(0.1344449669122696))
    p = fma(p, square, fill(1.0))
    q = fma(square, fill(8.522439998159825e-07), fill(0.00034112908178940415))
    q = fma(q, square, fill(0.02616444043815136))
    q = fma(q, square, fill(0.4677782356739044))
    q = fma(q, square, fill(1.0))
    return x * p, q


@inlined
def tanh(x):
    """tanh(x)."""
    over, under = tanh_parts(x)
    return over / under


@inlined
def gate(a, b):
    """tanh(a) sigmoid(b)."""
    a = _clipped(a, -_FLAT, _FLAT)
    shifted, less_one = exp_parts(a + a)
    power = add_exponent(fill(1.0), shifted)
    p = fma(power, less_one, power - fill(1.0))
    b = _clipped(b, _SMALLEST, _LARGEST)
    shifted, less_one = exp_parts(fill(0.0) - b)
    s = add_exponent(fill(1.0) + less_one, shifted)
    return p / ((p + fill(2.0)) * (fill(1.0) + s))
