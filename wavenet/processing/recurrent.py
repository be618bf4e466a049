"""LSTM and GRU layers of the compiled kernel of ``process``, one sample after the other.

16 units are computed at a time, each in a lane. A layer keeps its hidden values, the cells of an
LSTM, and the hidden values of every second sample of a chunk: three rows of ``HISTORY_ROW`` floats
from ``HISTORY`` on. Lanes without a unit have zero weights and stay zero.
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
from wavenet.simd.functions import tanh, tanh_parts
from wavenet.simd.registers import LANES, broadcast, fill, fma, load, store


@inlined
def _sigmoid_parts(x):
    """Two numbers whose quotient is (1 + tanh(x / 2)) / 2, from 2 to 482 the second."""
    over, under = tanh_parts(fill(0.5) * x)
    return over + under, under + under


@inlined
def _lstm(sums, cell):
    """New cells and hidden values; a division takes longest, so each is one of products."""
    let_in, keep, new, show = sums
    i, under_i = _sigmoid_parts(let_in)
    f, under_f = _sigmoid_parts(keep)
    g, under_g = tanh_parts(new)
    o, under_o = _sigmoid_parts(show)
    under_new = under_i * under_g
    c = fma(f * cell, under_new, i * g * under_f) / (under_f * under_new)
    over, under = tanh_parts(c)
    return c, o * over / (under_o * under)


@inlined
def _gru(sums, hidden):
    """New hidden values: update = sigmoid(u), n = tanh(a + sigmoid(r) b), n + update (h - n)."""
    reset, update, of_input, of_hidden = sums
    r, under_r = _sigmoid_parts(reset)
    u, under_u = _sigmoid_parts(update)
    n = tanh(fma(r / under_r, of_hidden, of_input))
    return fma(u / under_u, hidden - n, n)


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
def _run_sample(op, data, weights, inputs, hidden, fresh, is_lstm):
    """Compute one sample from the old hidden values: new cells, and new hidden values.

    inputs: place of the sample, and the distance from one channel to the next.
    hidden, fresh: places of the old and of the new hidden values.
    is_lstm: a constant; false for a GRU.
    """
    source, row = inputs
    size, cell = op[HISTORY_ROW], op[HISTORY] + op[HISTORY_ROW]
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
        if is_lstm:
            c, h = _lstm(sums, load(data, cell + unit))
            store(data, cell + unit, c)
        else:
            h = _gru(sums, load(data, hidden + unit))
        store(data, fresh + unit, h)
        bias += 4 * LANES


@inlined
def run_recurrence(op, data, weights, places, n, is_lstm):
    """Run LSTM or GRU on a chunk of n samples."""
    source, row = places[op[SOURCE] * PLACE + START], places[op[SOURCE] * PLACE + ROW]
    out, out_row = places[op[TARGET] * PLACE + START], places[op[TARGET] * PLACE + ROW]
    size, units = op[HISTORY_ROW], op[WIDTH]
    hidden, fresh = op[HISTORY], op[HISTORY] + 2 * size
    for t in range(n):
        _run_sample(op, data, weights, (source + t, row), hidden, fresh, is_lstm)
        hidden, fresh = fresh, hidden
        to = out + t
        for unit in range(units):
            data[to] = data[hidden + unit]
            to += out_row
    if n % 2:
        for unit in range(0, size, LANES):
            store(data, fresh + unit, load(data, hidden + unit))
