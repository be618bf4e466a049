"""LSTM layers of the compiled kernel of ``process``, one sample after the other.

16 units are computed at a time, each in a lane. A layer keeps its hidden values, its cells and, in
a sample that is being computed, the hidden values that will replace the old ones: three rows of
``HISTORY_ROW`` floats from ``HISTORY`` on. Lanes without a unit have zero weights and stay zero.
"""

from __future__ import annotations

from wavenet.processing.table import (
    BIAS,
    HISTORY,
    HISTORY_ROW,
    IN,
    PLACE,
    ROW,
    SOURCE,
    START,
    TARGET,
    WEIGHT,
    WIDTH,
)
from wavenet.simd.compiling import inlined
from wavenet.simd.functions import tanh
from wavenet.simd.registers import LANES, broadcast, fill, fma, load, store


@inlined
def _sigmoid(x):
    """(1 + tanh(x / 2)) / 2: near 0 off by a rounding of 1, which gates do not show."""
    half = fill(0.5)
    return fma(half, tanh(half * x), half)


@inlined
def _plus(sums, weights, w, x):
    """Add the products of x and the weights of four gates to sums."""
    a, b, c, d = sums
    return (
        fma(load(weights, w), x, a),
        fma(load(weights, w + LANES), x, b),
        fma(load(weights, w + 2 * LANES), x, c),
        fma(load(weights, w + 3 * LANES), x, d),
    )


@inlined
def _run_sample(op, data, weights, source, row):
    """Compute one sample, whose inputs are ``row`` apart: new cells and hidden values."""
    size, hidden = op[HISTORY_ROW], op[HISTORY]
    cell, fresh = hidden + size, hidden + 2 * size
    w, bias = op[WEIGHT], op[BIAS]
    for unit in range(0, size, LANES):
        sums = (
            load(weights, bias),
            load(weights, bias + LANES),
            load(weights, bias + 2 * LANES),
            load(weights, bias + 3 * LANES),
        )
        at = source
        for _ in range(op[IN]):
            sums = _plus(sums, weights, w, broadcast(data, at))
            w += 4 * LANES
            at += row
        for other in range(op[WIDTH]):
            sums = _plus(sums, weights, w, broadcast(data, hidden + other))
            w += 4 * LANES
        let_in, keep, new, show = sums
        kept = _sigmoid(keep) * load(data, cell + unit)
        c = fma(_sigmoid(let_in), tanh(new), kept)
        store(data, cell + unit, c)
        store(data, fresh + unit, _sigmoid(show) * tanh(c))
        bias += 4 * LANES
    for unit in range(0, size, LANES):
        store(data, hidden + unit, load(data, fresh + unit))


@inlined
def run_lstm(op, data, weights, places, n):
    """Run LSTM on a chunk of n samples."""
    source, row = places[op[SOURCE] * PLACE + START], places[op[SOURCE] * PLACE + ROW]
    out, out_row = places[op[TARGET] * PLACE + START], places[op[TARGET] * PLACE + ROW]
    for t in range(n):
        _run_sample(op, data, weights, source + t, row)
        for unit in range(op[WIDTH]):
            data[out + unit * out_row + t] = data[op[HISTORY] + unit]
