"""Convolutions of the compiled kernel of ``process``, with what follows them fused.

A convolution computes ``OUTPUTS`` channels by 16 samples at a time (by 32 where registers hold 16
floats), adds a projection of a second signal, and applies an activation before it stores. A layer
of at most ``OUTPUTS`` channels is computed as a whole: its values never leave the registers between
the convolution and the projections of its output.
"""

from __future__ import annotations

from wavenet.processing.activations import activate_in_registers
from wavenet.processing.table import (
    ACCUMULATE,
    ACTIVATION,
    BIAS,
    DILATION,
    HEAD,
    HEAD_ACCUMULATE,
    HISTORY,
    HISTORY_ROW,
    IN,
    MIX,
    MIX_IN,
    MIX_WEIGHT,
    OUT,
    OUTPUTS,
    PLACE,
    POSITION,
    RESIDUAL,
    RESIDUAL_BIAS,
    ROW,
    SETTINGS,
    SOURCE,
    START,
    TAPS,
    TARGET,
    WEIGHT,
    WIDTH,
)
from wavenet.simd.compiling import inlined
from wavenet.simd.registers import LANES, broadcast, fma, has_512_bits, load, store


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
def _first_tap(op, data, places, positions, n):
    """Append the chunk to the history, if any; return the index of the oldest tap, and its row."""
    first, row = places[op[SOURCE] * PLACE + START], places[op[SOURCE] * PLACE + ROW]
    if op[HISTORY] >= 0:
        return _remember(op, data, first, row, positions, n), op[HISTORY_ROW]
    return first, row


@inlined
def _four(weights, at):
    """Load 4 numbers, each into a register of its own."""
    return (
        broadcast(weights, at),
        broadcast(weights, at + 1),
        broadcast(weights, at + 2),
        broadcast(weights, at + 3),
    )


@inlined
def _sums(op, data, weights, packed, source, mixed, sums, width):
    """Add ``width`` output channels by 16 samples of the convolution and the projection to sums.

    packed: indices of the weights of both, and of the biases; source and mixed: start and row.
    width: a constant up to ``OUTPUTS``; the sums behind it stay as they are.
    """
    (w, m, _), (first, row), (second, mix_row) = packed, source, mixed
    taps, step = op[TAPS], op[DILATION]
    for _ in range(op[IN]):
        at = first
        for _tap in range(taps):
            sums = _plus(sums, weights, w, load(data, at), width)
            w += OUTPUTS
            at += step
        first += row
    for _ in range(op[MIX_IN]):
        sums = _plus(sums, weights, m, load(data, second), width)
        m += OUTPUTS
        second += mix_row
    return sums


@inlined
def _plus(sums, weights, w, x, width):
    """Add the products of x and ``width`` weights to sums."""
    a0, a1, a2, a3 = sums
    a0 = fma(broadcast(weights, w), x, a0)
    if width > 1:
        a1 = fma(broadcast(weights, w + 1), x, a1)
    if width > 2:
        a2 = fma(broadcast(weights, w + 2), x, a2)
    if width > 3:
        a3 = fma(broadcast(weights, w + 3), x, a3)
    return a0, a1, a2, a3


@inlined
def _wide_sums(op, data, weights, packed, source, mixed, sums, width):
    """Add as ``_sums`` does, for 16 samples and the next 16: two sets of sums."""
    (w, m, _), (first, row), (second, mix_row) = packed, source, mixed
    sums, more = sums
    taps, step = op[TAPS], op[DILATION]
    for _ in range(op[IN]):
        at = first
        for _tap in range(taps):
            sums = _plus(sums, weights, w, load(data, at), width)
            more = _plus(more, weights, w, load(data, at + LANES), width)
            w += OUTPUTS
            at += step
        first += row
    for _ in range(op[MIX_IN]):
        sums = _plus(sums, weights, m, load(data, second), width)
        more = _plus(more, weights, m, load(data, second + LANES), width)
        m += OUTPUTS
        second += mix_row
    return sums, more


@inlined
def _activated(op, weights, sums, width):
    """Apply the activation to the first ``width`` channels, a constant."""
    a0, a1, a2, a3 = sums
    kind, slope = op[ACTIVATION], broadcast(weights, op[SETTINGS])
    if kind:
        a0 = activate_in_registers(kind, a0, slope)
        if width > 1:
            a1 = activate_in_registers(kind, a1, slope)
        if width > 2:
            a2 = activate_in_registers(kind, a2, slope)
        if width > 3:
            a3 = activate_in_registers(kind, a3, slope)
    return a0, a1, a2, a3


@inlined
def _loaded(data, at, row):
    return load(data, at), load(data, at + row), load(data, at + 2 * row), load(data, at + 3 * row)


@inlined
def _stored(data, at, row, values):
    a0, a1, a2, a3 = values
    store(data, at, a0)
    store(data, at + row, a1)
    store(data, at + 2 * row, a2)
    store(data, at + 3 * row, a3)


@inlined
def _added(sums, others):
    (a0, a1, a2, a3), (b0, b1, b2, b3) = sums, others
    return a0 + b0, a1 + b1, a2 + b2, a3 + b3


@inlined
def conv_tile(op, data, weights, packed, source, mixed, target):
    """Compute 4 output channels by 16 samples."""
    out, row = target
    sums = _four(weights, packed[2])
    if op[ACCUMULATE]:
        sums = _added(sums, _loaded(data, out, row))
    sums = _sums(op, data, weights, packed, source, mixed, sums, OUTPUTS)
    _stored(data, out, row, _activated(op, weights, sums, OUTPUTS))


@inlined
def wide_conv_tile(op, data, weights, packed, source, mixed, target):
    """Compute 4 output channels by 32 samples."""
    out, row = target
    sums = _four(weights, packed[2])
    more = sums
    if op[ACCUMULATE]:
        sums = _added(sums, _loaded(data, out, row))
        more = _added(more, _loaded(data, out + LANES, row))
    sums = _wide_sums(op, data, weights, packed, source, mixed, (sums, more), OUTPUTS)
    sums, more = sums
    _stored(data, out, row, _activated(op, weights, sums, OUTPUTS))
    _stored(data, out + LANES, row, _activated(op, weights, more, OUTPUTS))


@inlined
def convolve(op, data, weights, places, positions, n):
    """Run CONV on a chunk of n samples."""
    first, row = _first_tap(op, data, places, positions, n)
    second, mix_row = places[op[MIX] * PLACE + START], places[op[MIX] * PLACE + ROW]
    out, out_row = places[op[TARGET] * PLACE + START], places[op[TARGET] * PLACE + ROW]
    per_tile, per_mix = op[IN] * op[TAPS], op[MIX_IN]
    for channel in range(0, op[OUT], OUTPUTS):
        w, m = op[WEIGHT] + channel * per_tile, op[MIX_WEIGHT] + channel * per_mix
        packed = w, m, op[BIAS] + channel
        start = out + channel * out_row
        if has_512_bits():
            for t in range(0, n, 2 * LANES):
                source, mixed = (first + t, row), (second + t, mix_row)
                wide_conv_tile(op, data, weights, packed, source, mixed, (start + t, out_row))
        else:
            for t in range(0, n, LANES):
                source, mixed = (first + t, row), (second + t, mix_row)
                conv_tile(op, data, weights, packed, source, mixed, (start + t, out_row))


@inlined
def _to_head(data, at, accumulate, a):
    store(data, at, a + load(data, at) if accumulate else a)


@inlined
def _finish_layer(op, data, weights, sums, target, head, width):
    """Apply a layer's activation, add its result to the head and its projection to the target."""
    (out, row), (top, head_row) = target, head
    accumulate = op[HEAD_ACCUMULATE]
    a0, a1, a2, a3 = _activated(op, weights, sums, width)
    _to_head(data, top, accumulate, a0)
    if width > 1:
        _to_head(data, top + head_row, accumulate, a1)
    if width > 2:
        _to_head(data, top + 2 * head_row, accumulate, a2)
    if width > 3:
        _to_head(data, top + 3 * head_row, accumulate, a3)
    w, b = op[RESIDUAL], op[RESIDUAL_BIAS]
    for channel in range(op[IN]):
        y = load(data, out) + broadcast(weights, b + channel)
        if width > 3:
            y = fma(broadcast(weights, w + 3), a3, y)
        if width > 2:
            y = fma(broadcast(weights, w + 2), a2, y)
        if width > 1:
            y = fma(broadcast(weights, w + 1), a1, y)
        store(data, out, fma(broadcast(weights, w), a0, y))
        w += OUTPUTS
        out += row


@inlined
def _run_layer(op, data, weights, places, ends, n, width):
    """Compute a layer of ``width`` channels, a constant."""
    (source, row), (second, mix_row), (out, out_row), (top, head_row) = ends
    packed = op[WEIGHT], op[MIX_WEIGHT], op[BIAS]
    if has_512_bits():
        for t in range(0, n, 2 * LANES):
            sums = _four(weights, op[BIAS])
            here, mixed = (source + t, row), (second + t, mix_row)
            both = _wide_sums(op, data, weights, packed, here, mixed, (sums, sums), width)
            sums, more = both
            to, head = (out + t, out_row), (top + t, head_row)
            _finish_layer(op, data, weights, sums, to, head, width)
            to, head = (out + t + LANES, out_row), (top + t + LANES, head_row)
            _finish_layer(op, data, weights, more, to, head, width)
    else:
        for t in range(0, n, LANES):
            sums = _four(weights, op[BIAS])
            here, mixed = (source + t, row), (second + t, mix_row)
            sums = _sums(op, data, weights, packed, here, mixed, sums, width)
            to, head = (out + t, out_row), (top + t, head_row)
            _finish_layer(op, data, weights, sums, to, head, width)


@inlined
def run_layer(op, data, weights, places, positions, n):
    """Run LAYER on a chunk of n samples."""
    source = _first_tap(op, data, places, positions, n)
    mixed = places[op[MIX] * PLACE + START], places[op[MIX] * PLACE + ROW]
    target = places[op[TARGET] * PLACE + START], places[op[TARGET] * PLACE + ROW]
    head = places[op[HEAD] * PLACE + START], places[op[HEAD] * PLACE + ROW]
    ends = source, mixed, target, head
    if op[WIDTH] == 4:
        _run_layer(op, data, weights, places, ends, n, 4)
    elif op[WIDTH] == 3:
        _run_layer(op, data, weights, places, ends, n, 3)
    elif op[WIDTH] == 2:
        _run_layer(op, data, weights, places, ends, n, 2)
    else:
        _run_layer(op, data, weights, places, ends, n, 1)
