"""Activations of the compiled kernel of ``process``, 16 samples at a time."""

from __future__ import annotations

from wavenet.nn.activations import (
    FAST_TANH_BELOW,
    FAST_TANH_CUBE,
    FAST_TANH_LINEAR,
    FAST_TANH_SLOPE,
    FAST_TANH_SQUARE,
)
from wavenet.nn.graph_activations import (
    CELU,
    CLAMP,
    ELU,
    FAST_TANH,
    GELU,
    GELU_ERF,
    HARDSIGMOID,
    HARDSWISH,
    LEAKY_HARDTANH,
    LEAKY_RELU,
    MISH,
    PRELU,
    RELU,
    SELU,
    SIGMOID,
    SILU,
    SNAKE,
    SOFTSIGMOID,
    SOFTSIGN,
    TANH,
)
from wavenet.simd.compiling import inlined
from wavenet.simd.functions import exp, tanh
from wavenet.simd.registers import fill, fma, maximum, minimum, where_less

FUSED = (TANH, FAST_TANH, SIGMOID, RELU, LEAKY_RELU)
"""Activations that a convolution applies before it stores its result; ReLU has slope 0."""

_GELU_SLOPE = 0.7978845608028654  # sqrt(2 / pi)
_GELU_CUBIC = 0.044715
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_ROUNDING = 12582912.0  # 1.5 * 2**23: adding it rounds to the nearest whole number
_INVERSE_PI = 0.3183098861837907
_PI_HIGH = 3.140625  # n * this is exact
_PI_LOW = 9.67653589793e-4


@inlined
def _sigmoid(x):
    return fill(1.0) / (fill(1.0) + exp(fill(0.0) - x))


@inlined
def _fast_tanh(x):
    size, square = maximum(x, fill(0.0) - x), x * x
    linear = fma(fill(FAST_TANH_LINEAR), size, fill(FAST_TANH_LINEAR))
    over = fma(fma(fill(FAST_TANH_CUBE), size, fill(FAST_TANH_SQUARE)), square, linear)
    bent = size * fma(fill(FAST_TANH_SLOPE), size, fill(1.0))
    return x * over / fma(fill(FAST_TANH_BELOW) + square, bent, fill(FAST_TANH_BELOW))


@inlined
def _gelu(x):
    """x times the normal distribution function (Abramowitz and Stegun 1964, 7.1.26, 1.5e-7)."""
    size = maximum(x, fill(0.0) - x) * fill(0.7071067811865476)
    t = fill(1.0) / fma(fill(0.3275911), size, fill(1.0))
    p = fma(t, fill(1.061405429), fill(-1.453152027))
    p = fma(p, t, fill(1.421413741))
    p = fma(p, t, fill(-0.284496736))
    p = fma(p, t, fill(0.254829592))
    tail = fill(0.5) * p * t * exp(fill(0.0) - size * size)
    return x * where_less(x, fill(0.0), tail, fill(1.0) - tail)


@inlined
def _snake(x, alpha):
    """x + sin(alpha x)^2 / alpha: the square has period pi, and a Taylor series within half."""
    z = alpha * x
    n = fma(z, fill(_INVERSE_PI), fill(_ROUNDING)) - fill(_ROUNDING)
    r = fma(n, fill(-_PI_LOW), fma(n, fill(-_PI_HIGH), z))
    square = r * r
    p = fma(square, fill(-1 / 39916800), fill(1 / 362880))
    p = fma(p, square, fill(-1 / 5040))
    p = fma(p, square, fill(1 / 120))
    p = fma(p, square, fill(-1 / 6))
    sine = fma(p * square, r, r)
    return x + sine * sine / (alpha + fill(1e-9))


@inlined
def activate(kind, x, s0, s1, s2, s3):
    zero, one = fill(0.0), fill(1.0)
    if kind == TANH:
        return tanh(x)
    if kind == SIGMOID:
        return _sigmoid(x)
    if kind == RELU:
        return maximum(x, zero)
    if kind == LEAKY_RELU or kind == PRELU:  # noqa: SIM109  (compiled)
        return where_less(x, zero, s0 * x, x)
    if kind == ELU:
        return where_less(x, zero, s0 * (exp(minimum(x, zero)) - one), x)
    if kind == SELU:
        below = fill(_SELU_ALPHA) * (exp(minimum(x, zero)) - one)
        return fill(_SELU_SCALE) * where_less(x, zero, below, x)
    if kind == CELU:
        return where_less(x, zero, s0 * (exp(minimum(x, zero) / s0) - one), x)
    if kind == HARDSIGMOID:
        return maximum(minimum(x + fill(3.0), fill(6.0)), zero) / fill(6.0)
    if kind == MISH:
        e = exp(minimum(x, fill(20.0)))
        w = e * (e + fill(2.0))
        return x * (w / (w + fill(2.0)))
    if kind == GELU_ERF:
        return _gelu(x)
    if kind == SNAKE:
        return _snake(x, s0)
    if kind == SILU:
        return x * _sigmoid(x)
    if kind == SOFTSIGN:
        return x / (one + maximum(x, zero - x))
    if kind == SOFTSIGMOID:
        return fma(fill(0.5), x / (one + maximum(x, zero - x)), fill(0.5))
    if kind == FAST_TANH:
        return _fast_tanh(x)
    if kind == LEAKY_HARDTANH:
        inner = where_less(x, s0, fma(x - s0, s2, s0), x)
        return where_less(s1, x, fma(x - s1, s3, s1), inner)
    if kind == CLAMP:
        return maximum(minimum(x, s1), s0)
    if kind == HARDSWISH:
        return x * maximum(minimum(x + fill(3.0), fill(6.0)), zero) / fill(6.0)
    if kind == GELU:
        inner = fill(_GELU_SLOPE) * fma(fill(_GELU_CUBIC) * x * x, x, x)
        return x * _sigmoid(inner + inner)  # (1 + tanh(z)) / 2 is sigmoid(2 z)
    return x


@inlined
def activate_in_registers(kind, x, slope):
    """Apply one of ``FUSED``: few, as each use of this is code of its own."""
    if kind == TANH:
        return tanh(x)
    if kind == FAST_TANH:
        return _fast_tanh(x)
    if kind == SIGMOID:
        return _sigmoid(x)
    return where_less(x, fill(0.0), slope * x, x)
