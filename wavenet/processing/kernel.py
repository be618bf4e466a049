"""Compiled kernel of ``process``: runs a graph on one chunk of one row.

All data is in one array of floats. A buffer has ``channels`` rows of the samples of the chunk. A
convolution with more than one tap has a history: rows in which the chunk is appended to the
``past`` samples before it; when a row is full, these are moved to its front. Rows are padded, so
that the kernel may compute up to 31 samples too many.
"""

from __future__ import annotations

from typing import Any

from wavenet.nn import graph, graph_activations
from wavenet.nn.activations import (
    FAST_TANH_BELOW,
    FAST_TANH_CUBE,
    FAST_TANH_LINEAR,
    FAST_TANH_SLOPE,
    FAST_TANH_SQUARE,
)
from wavenet.nn.graph import ADD, CONV, DECIMATE, GATE, INTERLEAVE, MULTIPLY, NORMALIZE, SUBTRACT
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
from wavenet.simd.compiling import cached, inlined, sources_fingerprint
from wavenet.simd.functions import exp, exp_parts, gate
from wavenet.simd.registers import (
    add_exponent,
    fill,
    fma,
    load,
    maximum,
    minimum,
    square_root,
    store,
    where_less,
)

LANES = 16
OUTPUTS = 4
"""The kernel computes the outputs of a convolution 4 channels by 32 samples at a time."""

# Columns of the table of operations.
(
    KIND,
    SOURCE,  # buffer
    TARGET,  # buffer
    IN,  # channels
    OUT,  # channels, rounded up to OUTPUTS for CONV
    TAPS,
    DILATION,
    WEIGHT,  # index of the packed weights
    BIAS,  # index of the bias
    HISTORY,  # index of the history, or -1
    HISTORY_ROW,  # its row length
    POSITION,  # which position counts it
    ACCUMULATE,
    FACTOR,
    PHASE,
    SETTINGS,  # index of four settings, of one per channel, or of those of NORMALIZE
) = range(16)
N_COLUMNS = 16

# Columns of the table of buffers.
START, ROW, RATE_UP, RATE_DOWN = range(4)

_GELU_SLOPE = 0.7978845608028654  # sqrt(2 / pi)
_GELU_CUBIC = 0.044715
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_ROUNDING = 12582912.0  # 1.5 * 2**23: adding it rounds to the nearest whole number
_INVERSE_PI = 0.3183098861837907
_PI_HIGH = 3.140625  # n * this is exact
_PI_LOW = 9.67653589793e-4


@inlined
def _tanh(x):
    x = maximum(minimum(x, fill(9.0)), fill(-9.0))
    shifted, less_one = exp_parts(x + x)
    power = add_exponent(fill(1.0), shifted)
    p = fma(power, less_one, power - fill(1.0))
    return p / (p + fill(2.0))


@inlined
def _sigmoid(x):
    return fill(1.0) / (fill(1.0) + exp(fill(0.0) - x))


@inlined
def _conv_tile(op, data, weights, w, b, source, target):
    """4 output channels by 32 samples, all in registers; source and target: start and row."""
    (first, row), (out, out_row) = source, target
    n_in, taps, step = op[IN], op[TAPS], op[DILATION]
    a0 = fill(weights[b])
    a1 = fill(weights[b + 1])
    a2 = fill(weights[b + 2])
    a3 = fill(weights[b + 3])
    c0, c1, c2, c3 = a0, a1, a2, a3
    if op[ACCUMULATE]:
        a0 = a0 + load(data, out)
        a1 = a1 + load(data, out + out_row)
        a2 = a2 + load(data, out + 2 * out_row)
        a3 = a3 + load(data, out + 3 * out_row)
        c0 = c0 + load(data, out + LANES)
        c1 = c1 + load(data, out + out_row + LANES)
        c2 = c2 + load(data, out + 2 * out_row + LANES)
        c3 = c3 + load(data, out + 3 * out_row + LANES)
    for _ in range(n_in):
        at = first
        for _tap in range(taps):
            x0 = load(data, at)
            x1 = load(data, at + LANES)
            w0 = fill(weights[w])
            w1 = fill(weights[w + 1])
            w2 = fill(weights[w + 2])
            w3 = fill(weights[w + 3])
            a0 = fma(w0, x0, a0)
            a1 = fma(w1, x0, a1)
            a2 = fma(w2, x0, a2)
            a3 = fma(w3, x0, a3)
            c0 = fma(w0, x1, c0)
            c1 = fma(w1, x1, c1)
            c2 = fma(w2, x1, c2)
            c3 = fma(w3, x1, c3)
            w += OUTPUTS
            at += step
        first += row
    store(data, out, a0)
    store(data, out + out_row, a1)
    store(data, out + 2 * out_row, a2)
    store(data, out + 3 * out_row, a3)
    store(data, out + LANES, c0)
    store(data, out + out_row + LANES, c1)
    store(data, out + 2 * out_row + LANES, c2)
    store(data, out + 3 * out_row + LANES, c3)


@inlined
def _remember(op, data, source, source_row, positions, n):
    """Append the chunk to the history; return the index of the oldest tap of its first sample."""
    past = (op[TAPS] - 1) * op[DILATION]
    history, row = op[HISTORY], op[HISTORY_ROW]
    position = positions[op[POSITION]]
    if position + past + n + 2 * LANES > row:
        for channel in range(op[IN]):
            to = history + channel * row  # far enough from what is copied for whole registers
            for i in range(0, past, LANES):
                store(data, to + i, load(data, to + position + i))
        position = 0
    for channel in range(op[IN]):
        to = history + channel * row + position + past
        start = source + channel * source_row
        for i in range(0, n, LANES):
            store(data, to + i, load(data, start + i))
    positions[op[POSITION]] = position + n
    return history + position


@inlined
def _conv(op, data, weights, buffers, positions, n):
    first = buffers[op[SOURCE], START]
    row = buffers[op[SOURCE], ROW]
    if op[HISTORY] >= 0:
        first = _remember(op, data, first, row, positions, n)
        row = op[HISTORY_ROW]
    out, out_row = buffers[op[TARGET], START], buffers[op[TARGET], ROW]
    per_tile = op[IN] * op[TAPS] * OUTPUTS
    for channel in range(0, op[OUT], OUTPUTS):
        for t in range(0, n, 2 * LANES):
            w, b = op[WEIGHT] + channel // OUTPUTS * per_tile, op[BIAS] + channel
            target = out + channel * out_row + t, out_row
            _conv_tile(op, data, weights, w, b, (first + t, row), target)


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
def _activate(kind, x, s0, s1, s2, s3):
    zero, one = fill(0.0), fill(1.0)
    if kind == TANH:
        return _tanh(x)
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
        return fill(0.5) * x * (one + _tanh(inner))
    return x


@inlined
def _pointwise(op, data, weights, buffers, n):
    source, row = buffers[op[SOURCE], START], buffers[op[SOURCE], ROW]
    out, out_row = buffers[op[TARGET], START], buffers[op[TARGET], ROW]
    half = op[OUT] * row  # of GATE: from the first half of the channels to the second
    kind = op[KIND]
    settings = op[SETTINGS]
    s0, s1 = fill(weights[settings]), fill(weights[settings + 1])
    s2, s3 = fill(weights[settings + 2]), fill(weights[settings + 3])
    for channel in range(op[OUT]):
        if kind == PRELU or kind == SNAKE:  # noqa: SIM109  (compiled)
            s0 = fill(weights[settings + channel])
        start, to = source + channel * row, out + channel * out_row
        for t in range(0, n, LANES):
            x = load(data, start + t)
            if kind == GATE:
                y = gate(x, load(data, start + half + t))
            elif kind == ADD:
                y = load(data, to + t) + x
            elif kind == SUBTRACT:
                y = load(data, to + t) - x
            elif kind == MULTIPLY:
                y = load(data, to + t) * x
            else:
                y = _activate(kind, x, s0, s1, s2, s3)
            store(data, to + t, y)


@inlined
def _normalize(op, data, weights, buffers, n):
    source, row = buffers[op[SOURCE], START], buffers[op[SOURCE], ROW]
    out, out_row = buffers[op[TARGET], START], buffers[op[TARGET], ROW]
    channels, settings = op[OUT], op[SETTINGS]
    share, centred = fill(1.0 / channels), fill(weights[settings + 1])
    for t in range(0, n, LANES):
        total = fill(0.0)
        for channel in range(channels):
            total = total + load(data, source + channel * row + t)
        mean = total * share * centred
        squares = fill(0.0)
        for channel in range(channels):
            x = load(data, source + channel * row + t) - mean
            squares = fma(x, x, squares)
        scale = fill(1.0) / square_root(fma(squares, share, fill(weights[settings])))
        for channel in range(channels):
            x = load(data, source + channel * row + t) - mean
            w = fill(weights[settings + 2 + channel])
            b = fill(weights[settings + 2 + channels + channel])
            store(data, out + channel * out_row + t, fma(x * scale, w, b))


@inlined
def _move(op, data, buffers, n):
    """DECIMATE and INTERLEAVE."""
    source, row = buffers[op[SOURCE], START], buffers[op[SOURCE], ROW]
    out, out_row = buffers[op[TARGET], START], buffers[op[TARGET], ROW]
    factor = op[FACTOR]
    for channel in range(op[OUT]):
        start, to = source + channel * row, out + channel * out_row
        if op[KIND] == DECIMATE:
            for t in range(n // factor):
                data[to + t] = data[start + t * factor]
        else:
            for t in range(n):
                data[to + t * factor + op[PHASE]] = data[start + t]


def _make_run() -> Any:
    fingerprint = sources_fingerprint(__file__, graph.__file__, graph_activations.__file__)

    def run(table, buffers, weights, data, positions, n):
        """Run all operations on a chunk of n samples of the input."""
        _ = fingerprint
        for i in range(len(table)):
            op = table[i]
            source = op[SOURCE]
            length = n * buffers[source, RATE_UP] // buffers[source, RATE_DOWN]
            if op[KIND] == CONV:
                _conv(op, data, weights, buffers, positions, length)
            elif op[KIND] == DECIMATE or op[KIND] == INTERLEAVE:
                _move(op, data, buffers, length)
            elif op[KIND] == NORMALIZE:
                _normalize(op, data, weights, buffers, length)
            else:
                _pointwise(op, data, weights, buffers, length)

    return cached(run)


run = _make_run()
