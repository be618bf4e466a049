"""Compiled kernel of ``process``: runs a graph on one chunk of one row.

All data is in one array of floats. A buffer has ``channels`` rows of the samples of the chunk. A
convolution with more than one tap has a history: rows in which the chunk is appended to the
``past`` samples before it; when a row is full, these are moved to its front. Rows are padded, so
that the kernel may compute up to 31 samples too many. ``convolution`` has the operations that take
most of the time.
"""

from __future__ import annotations

from typing import Any

from wavenet.nn import graph, graph_activations
from wavenet.nn.graph import ADD, CONV, DECIMATE, GATE, INTERLEAVE, MULTIPLY, NORMALIZE, SUBTRACT
from wavenet.nn.graph_activations import PRELU, SNAKE
from wavenet.processing.activations import activate
from wavenet.processing.convolution import convolve, run_layer
from wavenet.processing.table import (
    FACTOR,
    KIND,
    LAYER,
    OUT,
    PHASE,
    PLACE,
    RATE_DOWN,
    RATE_UP,
    ROW,
    SETTINGS,
    SOURCE,
    START,
    TARGET,
)
from wavenet.simd.compiling import cached, inlined, sources_fingerprint
from wavenet.simd.functions import gate
from wavenet.simd.registers import (
    LANES,
    broadcast,
    fill,
    floats_at,
    fma,
    load,
    row_of,
    square_root,
    store,
)

FLOAT_BYTES = 4


@inlined
def _pointwise(op, data, weights, places, n):
    source, row = places[op[SOURCE] * PLACE + START], places[op[SOURCE] * PLACE + ROW]
    out, out_row = places[op[TARGET] * PLACE + START], places[op[TARGET] * PLACE + ROW]
    half = op[OUT] * row  # of GATE: from the first half of the channels to the second
    kind = op[KIND]
    settings = op[SETTINGS]
    s0, s1 = broadcast(weights, settings), broadcast(weights, settings + 1)
    s2, s3 = broadcast(weights, settings + 2), broadcast(weights, settings + 3)
    for channel in range(op[OUT]):
        if kind == PRELU or kind == SNAKE:  # noqa: SIM109  (compiled)
            s0 = broadcast(weights, settings + channel)
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
                y = activate(kind, x, s0, s1, s2, s3)
            store(data, to + t, y)


@inlined
def _normalize(op, data, weights, places, n):
    source, row = places[op[SOURCE] * PLACE + START], places[op[SOURCE] * PLACE + ROW]
    out, out_row = places[op[TARGET] * PLACE + START], places[op[TARGET] * PLACE + ROW]
    channels, settings = op[OUT], op[SETTINGS]
    share, centred = fill(1.0 / channels), broadcast(weights, settings + 1)
    for t in range(0, n, LANES):
        total = fill(0.0)
        for channel in range(channels):
            total = total + load(data, source + channel * row + t)
        mean = total * share * centred
        squares = fill(0.0)
        for channel in range(channels):
            x = load(data, source + channel * row + t) - mean
            squares = fma(x, x, squares)
        scale = fill(1.0) / square_root(fma(squares, share, broadcast(weights, settings)))
        for channel in range(channels):
            x = load(data, source + channel * row + t) - mean
            w = broadcast(weights, settings + 2 + channel)
            b = broadcast(weights, settings + 2 + channels + channel)
            store(data, out + channel * out_row + t, fma(x * scale, w, b))


@inlined
def _move(op, data, places, n):
    """DECIMATE and INTERLEAVE."""
    source, row = places[op[SOURCE] * PLACE + START], places[op[SOURCE] * PLACE + ROW]
    out, out_row = places[op[TARGET] * PLACE + START], places[op[TARGET] * PLACE + ROW]
    factor = op[FACTOR]
    for channel in range(op[OUT]):
        start, to = source + channel * row, out + channel * out_row
        if op[KIND] == DECIMATE:
            for t in range(n // factor):
                data[to + t] = data[start + t * factor]
        else:
            for t in range(n):
                data[to + t * factor + op[PHASE]] = data[start + t]


@inlined
def _run_steps(table, places, weights, data, positions, n):
    """Run all steps on a chunk of n samples of the input, which is in its buffer."""
    for i in range(len(table)):
        op = row_of(table, i)
        source = op[SOURCE] * PLACE
        length = n * places[source + RATE_UP]
        if places[source + RATE_DOWN] != 1:
            length //= places[source + RATE_DOWN]
        if op[KIND] == LAYER:
            run_layer(op, data, weights, places, positions, length)
        elif op[KIND] == CONV:
            convolve(op, data, weights, places, positions, length)
        elif op[KIND] == DECIMATE or op[KIND] == INTERLEAVE:
            _move(op, data, places, length)
        elif op[KIND] == NORMALIZE:
            _normalize(op, data, weights, places, length)
        else:
            _pointwise(op, data, weights, places, length)


def _make_run() -> Any:
    fingerprint = sources_fingerprint(__file__, graph.__file__, graph_activations.__file__)

    def run(tables, memory, n, given, made):
        """Run a graph on a chunk of n samples.

        tables: of operations and buffers; ``[2, 2]``, number and channels of the buffer of the
            input and of the first output; the weights.
        memory: floats and positions of the row.
        given, made: input and first output in the caller's memory, which is read and written: the
            address, and floats from one channel to the next.
        """
        _ = fingerprint
        (table, buffers, ends, weights), (data, positions) = tables, memory
        (given_at, given_row), (made_at, made_row) = given, made
        places = row_of(buffers, 0)
        start, row = places[ends[0, 0] * PLACE + START], places[ends[0, 0] * PLACE + ROW]
        for channel in range(ends[0, 1]):
            x = floats_at(given_at + FLOAT_BYTES * channel * given_row)
            for t in range(n):
                data[start + channel * row + t] = x[t]
        _run_steps(table, places, weights, data, positions, n)
        last = ends[1, 0] * PLACE
        start, row = places[last + START], places[last + ROW]
        n_made = n * places[last + RATE_UP] // places[last + RATE_DOWN]
        for channel in range(ends[1, 1]):
            y = floats_at(made_at + FLOAT_BYTES * channel * made_row)
            for t in range(n_made):
                y[t] = data[start + channel * row + t]

    return cached(run)


run = _make_run()
