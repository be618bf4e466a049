"""Compiled kernel of ``process``: runs a graph on one chunk of one row.

All data is in one array of floats. A buffer has ``channels`` rows of the samples of the chunk. A
convolution with more than one tap has a history: rows in which the chunk is appended to the
``past`` samples before it; when a row is full, these are moved to its front. Rows are padded, so
that the kernel may compute up to 31 samples too many. ``convolution`` has the operations that take
most of the time, ``recurrent`` the layers that go from sample to sample.
"""

from __future__ import annotations

import functools
from typing import Any

from numba import carray, types

from wavenet.nn import graph, graph_activations
from wavenet.nn.graph import (
    ADD,
    CONV,
    DECIMATE,
    GATE,
    GRU,
    INTERLEAVE,
    LSTM,
    MULTIPLY,
    NORMALIZE,
    SUBTRACT,
)
from wavenet.nn.graph_activations import PRELU, SNAKE
from wavenet.processing.activations import activate
from wavenet.processing.convolution import convolve, run_layer
from wavenet.processing.recurrent import run_recurrence
from wavenet.processing.table import (
    CAPACITY,
    DATA,
    FACTOR,
    INPUT,
    KIND,
    LAYER,
    N_COLUMNS,
    N_DATA,
    N_INPUTS,
    N_OUTPUTS,
    N_STEPS,
    N_WEIGHTS,
    OUT,
    OUTPUT,
    PHASE,
    PLACE,
    PLACES,
    POSITIONS,
    RATE_DOWN,
    RATE_UP,
    ROW,
    SETTINGS,
    SOURCE,
    START,
    TABLE,
    TARGET,
    WEIGHTS,
)
from wavenet.simd.compiling import cached, inlined, sources_fingerprint
from wavenet.simd.functions import gate
from wavenet.simd.memory import read, read_some, write, write_some
from wavenet.simd.registers import (
    LANES,
    broadcast,
    fill,
    floats_at,
    fma,
    integers_at,
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
        elif op[KIND] == LSTM:
            run_recurrence(op, data, weights, places, length, True)
        elif op[KIND] == GRU:
            run_recurrence(op, data, weights, places, length, False)
        elif op[KIND] == DECIMATE or op[KIND] == INTERLEAVE:
            _move(op, data, places, length)
        elif op[KIND] == NORMALIZE:
            _normalize(op, data, weights, places, length)
        else:
            _pointwise(op, data, weights, places, length)


@inlined
def _take(data, at, address, n):
    """Copy n floats from an address into data."""
    for t in range(0, n - LANES + 1, LANES):
        store(data, at + t, read(address + FLOAT_BYTES * t))
    left = n % LANES
    if left:
        store(data, at + n - left, read_some(address + FLOAT_BYTES * (n - left), left))


@inlined
def _give(data, at, address, n):
    """Copy n floats of data to an address."""
    for t in range(0, n - LANES + 1, LANES):
        write(address + FLOAT_BYTES * t, load(data, at + t))
    left = n % LANES
    if left:
        write_some(address + FLOAT_BYTES * (n - left), load(data, at + n - left), left)


def _make_run() -> Any:
    fingerprint = sources_fingerprint(__file__, graph.__file__, graph_activations.__file__)

    def run(head, given, made, n, given_row, made_row):
        """Run a graph on n samples of one row.

        head: address of the numbers of ``table.HEAD_COLUMNS``.
        given, made: addresses of the input and of the first output, which is written.
        given_row, made_row: floats from one channel to the next.
        """
        _ = fingerprint
        head = integers_at(head)
        table = carray(integers_at(head[TABLE]), (head[N_STEPS], N_COLUMNS))
        places = integers_at(head[PLACES])
        weights = carray(floats_at(head[WEIGHTS]), (head[N_WEIGHTS],))
        data = carray(floats_at(head[DATA]), (head[N_DATA],))
        positions = integers_at(head[POSITIONS])
        first, last = head[INPUT] * PLACE, head[OUTPUT] * PLACE
        up, down = places[last + RATE_UP], places[last + RATE_DOWN]
        for begin in range(0, n, head[CAPACITY]):
            size = min(head[CAPACITY], n - begin)
            at, start = given + FLOAT_BYTES * begin, places[first + START]
            for _channel in range(head[N_INPUTS]):
                _take(data, start, at, size)
                start += places[first + ROW]
                at += FLOAT_BYTES * given_row
            _run_steps(table, places, weights, data, positions, size)
            at, start = made + FLOAT_BYTES * (begin * up // down), places[last + START]
            for _channel in range(head[N_OUTPUTS]):
                _give(data, start, at, size * up // down)
                start += places[last + ROW]
                at += FLOAT_BYTES * made_row

    return cached(run)


run = _make_run()


@functools.cache
def compiled() -> Any:
    """Return ``run`` as compiled code that Python calls without looking at the arguments' types."""
    return run.compile((types.int64,) * 6)
