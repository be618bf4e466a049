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
from wavenet.simd.registers import LANES, broadcast, fill, fma, load, square_root, store


@inlined
def _pointwise(op, data, weights, buffers, n):
    source, row = buffers[op[SOURCE], START], buffers[op[SOURCE], ROW]
    out, out_row = buffers[op[TARGET], START], buffers[op[TARGET], ROW]
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
def _normalize(op, data, weights, buffers, n):
    source, row = buffers[op[SOURCE], START], buffers[op[SOURCE], ROW]
    out, out_row = buffers[op[TARGET], START], buffers[op[TARGET], ROW]
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
            if op[KIND] == LAYER:
                run_layer(op, data, weights, buffers, positions, length)
            elif op[KIND] == CONV:
                convolve(op, data, weights, buffers, positions, length)
            elif op[KIND] == DECIMATE or op[KIND] == INTERLEAVE:
                _move(op, data, buffers, length)
            elif op[KIND] == NORMALIZE:
                _normalize(op, data, weights, buffers, length)
            else:
                _pointwise(op, data, weights, buffers, length)

    return cached(run)


run = _make_run()
