"""The sampling loop of 16 rows as one program: draw, encode, all layers, again and again.

16 rows are what a matrix unit takes at once. Every program reads all weights at every sample, from
the second level cache that all share; what goes from layer to layer stays in registers. Rings, the
window of conditioning and the params are in global memory, as the eager engine's do, and odd widths
are masked there; the weights are filled up with zeros to powers of 2.

With two samples a step the layers run at every second sample. The encoded sample before and the
layers' last skip sum are in global memory too.

What one thread writes another may read, so a barrier is between, and between reading a ring's
slot and writing it. No program waits for another.
"""

from __future__ import annotations

import triton
import triton.language as tl

from wavenet.generation.engines.triton.draws import category, on_grid
from wavenet.generation.engines.triton.prediction import asinh, column, excite, lagged

# mypy: disable-error-code="no-untyped-def"


@triton.jit
def _columns_of(pointer, stride, width, row, alive, WIDTH: tl.constexpr):
    """``[ROWS, WIDTH]`` of a matrix whose rows are ``width`` long; zeros beyond."""
    c = tl.arange(0, WIDTH)
    mask = alive[:, None] & (c[None] < width)
    return tl.load(pointer + row[:, None] * stride + c[None], mask=mask, other=0.0)


@triton.jit
def _matrix(pointer, stride, N_ROWS: tl.constexpr, N_COLUMNS: tl.constexpr):
    rows, columns = tl.arange(0, N_ROWS), tl.arange(0, N_COLUMNS)
    return tl.load(pointer + rows[:, None] * stride + columns[None])


@triton.jit
def _dot(x, weights, PRECISION: tl.constexpr):
    """x, rounded as the weights are, times the weights; sums are float32."""
    x = x.to(weights.dtype)
    if PRECISION == "widened":  # for the interpreter, which cannot multiply bfloat16: the same sums
        return tl.dot(x.to(tl.float32), weights.to(tl.float32), input_precision="ieee")
    else:  # noqa: RET505 - the compiler looks at one of the two
        return tl.dot(x, weights, input_precision=PRECISION)


@triton.jit
def _head_block(
    source, matrix, bias, row, begin, width, S: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """``[ROWS, N]``, columns ``begin ..`` of a product with the matrix ``[S, width]``."""
    n, k = begin + tl.arange(0, N), tl.arange(0, K)
    y = tl.zeros([row.shape[0], N], tl.float32) + tl.load(bias + n)[None]
    for at in range(0, S, K):
        x = tl.load(source + row[:, None] * S + at + k[None])
        weights = tl.load(matrix + (at + k)[:, None] * width + n[None])
        y += _dot(x, weights, PRECISION)
    return y


@triton.jit
def _add_entries(y, entries, matrix, row, alive, INPUTS: tl.constexpr, WIDTH: tl.constexpr):
    """y ``[ROWS, WIDTH]``, and the kept encoded samples times a matrix ``[INPUTS, WIDTH]``."""
    c = tl.arange(0, WIDTH)
    for k in range(INPUTS):
        value = tl.load(entries + row * INPUTS + k, mask=alive, other=0.0)
        y += value[:, None] * tl.load(matrix + k * WIDTH + c)[None]
    return y


@triton.jit
def _keep_entry(value, k, entries, scales, row, alive, INPUTS: tl.constexpr):
    """Keep channel k of the encoded samples, scaled as the predictor scales it."""
    tl.store(entries + row * INPUTS + k, value * tl.load(scales + k), mask=alive)


@triton.jit(do_not_specialize=["rows", "n_samples", "ring_time", "position", "places"])
def advance(
    # what changes
    rings, params, history, excitation, entries, kept, scratch, out,
    # what is given: of each sample and row, and the window of conditioning
    uniforms, quantiles, encoded, terms, columns, begins, shares,
    # weights and tables
    entry, entry_bias, taps, residual, residual_bias, skip, skip_bias,
    first, first_bias, last, last_bias, second, second_bias, scales,
    ring_starts, pasts, dilations, closed, values, sounds,
    temperature, top_p, rows, n_samples, ring_time, position, places,
    ROWS: tl.constexpr, LAYERS: tl.constexpr, TAPS: tl.constexpr,
    STEP: tl.constexpr, INPUTS: tl.constexpr,
    R: tl.constexpr, H: tl.constexpr, S: tl.constexpr, P: tl.constexpr,  # channels
    RP: tl.constexpr, HP: tl.constexpr, SP: tl.constexpr, PP: tl.constexpr,  # filled up
    KIND: tl.constexpr, CATEGORIES: tl.constexpr, BLOCK: tl.constexpr, NUCLEUS: tl.constexpr,
    LOW: tl.constexpr, HIGH: tl.constexpr,  # of log-scales
    HOP: tl.constexpr, SHARED_TERMS: tl.constexpr, FORCED: tl.constexpr,
    ORDER: tl.constexpr, PITCH_TAPS: tl.constexpr, MIN_LAG: tl.constexpr, MAX_LAG: tl.constexpr,
    REACH: tl.constexpr, COLUMNS: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Samples ``0 .. n_samples - 1`` of a launch, for the rows of one program.

    Args:
        rings: ``[sum of past, B, R]``. params: ``[B, P]``. history: ``[B, ORDER]``.
        excitation: ``[B, REACH]``. scratch: ``[2, B filled up, SP]``.
        entries: the encoded sample before ``[B, INPUTS]``. kept: the skip sum of the last step
            ``[B, S]``. Both are for STEP = 2.
        out: samples ``[T, B]``, or where FORCED params ``[T, B, P]``.
        uniforms, quantiles, encoded: ``[T, B]``: of the category, of the value, and the given
            samples where FORCED.
        terms: ``[places, L, B, 2 H]``, B = 1 if SHARED_TERMS. columns: ``[places, B, COLUMNS]``.
        begins: ``[HOP]``. shares: ``[HOP, 2]``; see ``ConditioningWindow``.
        entry: ``[STEP, INPUTS, RP]``, the newest sample's first. taps: ``[L, TAPS, 2, RP, HP]``.
        residual: ``[L, HP, RP]``. skip: ``[L, HP, SP]``. first: ``[SP, SP]``. last: ``[SP, PP]``.
        second: ``[INPUTS, SP]``, of a sample within a step. Biases: of their columns.
        scales: ``[INPUTS]``, of the entries; those of the newest sample are in entry.
        ring_starts, pasts, dilations: ``[L]``, in steps. closed, values, sounds: ``[CATEGORIES]``.
        ring_time: of the first sample, modulo STEP times a multiple of all pasts.
        position: of the first sample in the time of the frames, modulo HOP * places. Both are
            small numbers, however long it runs.
        places: of the window.
        KIND: 0 classes, 1 a mixture, 2 a single density.
    """
    tile = tl.program_id(0)
    local = tile * ROWS + tl.arange(0, ROWS)
    alive = local < rows
    row = local.to(tl.int64)
    r = tl.arange(0, RP)
    scratch_size = tl.num_programs(0).to(tl.int64) * ROWS * SP
    ring_stride = rows.to(tl.int64) * R
    inside = alive[:, None] & (r[None] < R)
    t = tl.full([], 0, tl.int32)
    while t < n_samples:
        step = (ring_time + t) // STEP
        n_layers = LAYERS
        if STEP > 1:
            completes = (ring_time + t + 1) % STEP == 0
            n_layers = tl.where(completes, LAYERS, 0)

        # Interpolation between frames.
        near_place, far_place = 0, 0
        near_share, far_share = 1.0, 0.0
        if HOP > 0:
            phase = (position + t) % HOP
            frame = (position + t) // HOP + tl.load(begins + phase).to(tl.int32) + places
            near_place, far_place = frame % places, (frame + 1) % places
            near_share = tl.load(shares + 2 * phase)
            far_share = tl.load(shares + 2 * phase + 1)

        # Draw.
        if FORCED:
            sound = tl.load(encoded + t.to(tl.int64) * rows + row, mask=alive, other=0.0)
        else:
            at = t.to(tl.int64) * rows + row
            mine = params + tl.where(alive, row, 0) * P
            k = tl.zeros([ROWS], tl.int32)
            if KIND < 2:
                u = tl.load(uniforms + at, mask=alive, other=0.5)
                k = category(mine, closed, u, temperature, top_p, CATEGORIES, BLOCK, NUCLEUS)
            if KIND == 0:
                value = tl.load(values + k)
                sound = tl.load(sounds + k)
            else:
                mean = tl.load(mine + P - 2 * CATEGORIES + k)
                log_scale = tl.load(mine + P - CATEGORIES + k)
                quantile = tl.load(quantiles + at, mask=alive, other=0.0)
                value = on_grid(mean, log_scale, quantile, temperature, LOW, HIGH)
                sound = value
            tl.store(out + at, value, mask=alive)

        # Project the input.
        x = tl.zeros([ROWS, RP], tl.float32) + tl.load(entry_bias + r)[None]
        if STEP > 1:
            if completes:
                x = _add_entries(x, entries, entry + INPUTS * RP, row, alive, INPUTS, RP)
            tl.debug_barrier()
        location, gain = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS], tl.float32)
        log_gain = tl.zeros([ROWS], tl.float32)
        if ORDER > 0:
            near = (near_place * rows + row) * COLUMNS
            far = (far_place * rows + row) * COLUMNS
            e, ahead, log_gain = excite(
                sound, t, history + row * ORDER, columns, near, far, near_share, far_share, alive,
                ORDER,
            )  # fmt: skip
            gain = tl.exp(log_gain)
            location = ahead * gain
            x += asinh(e)[:, None] * tl.load(entry + r)[None]
            x += asinh(ahead)[:, None] * tl.load(entry + RP + r)[None]
            if STEP > 1:
                _keep_entry(asinh(e), 0, entries, scales, row, alive, INPUTS)
                _keep_entry(asinh(ahead), 1, entries, scales, row, alive, INPUTS)
            if PITCH_TAPS > 0:
                past = excitation + row * REACH
                lag = column(columns, ORDER + 1, near, far, near_share, far_share, alive)
                lag = tl.minimum(tl.maximum(lag, -1.0), 1.0)
                lag = (MIN_LAG + MAX_LAG) / 2 + (MAX_LAG - MIN_LAG) / 2 * lag
                whole = tl.minimum(tl.floor(lag), MAX_LAG - 1.0)
                share = lag - whole
                begin = REACH + 1 - whole.to(tl.int32) - PITCH_TAPS // 2
                earlier = lagged(e, t, past, begin, -1, alive, REACH)
                for j in range(PITCH_TAPS):
                    here = lagged(e, t, past, begin, j, alive, REACH)
                    tap = asinh(here + share * (earlier - here))
                    x += tap[:, None] * tl.load(entry + (2 + j) * RP + r)[None]
                    if STEP > 1:
                        _keep_entry(tap, 2 + j, entries, scales, row, alive, INPUTS)
                    earlier = here
                tl.debug_barrier()
                tl.store(past + t % REACH, e, mask=alive)
            tl.debug_barrier()
            tl.store(history + row * ORDER + t % ORDER, sound, mask=alive)
        else:
            x += sound[:, None] * tl.load(entry + r)[None]
            if STEP > 1:
                _keep_entry(sound, 0, entries, scales, row, alive, INPUTS)

        # All layers; within a step none, and the last step's skip sum instead.
        s = tl.arange(0, SP)
        skips = tl.zeros([ROWS, SP], tl.float32) + tl.load(skip_bias + s)[None]
        if STEP > 1:
            tl.debug_barrier()
            if not completes:
                skips = _columns_of(kept, S, S, row, alive, SP) + tl.load(second_bias + s)[None]
                skips = _add_entries(skips, entries, second, row, alive, INPUTS, SP)
        for layer in range(n_layers):
            term_row = row
            if SHARED_TERMS:
                term_row = row * 0
                term_stride = 2 * H
            else:
                term_stride = rows.to(tl.int64) * 2 * H
            z = terms + (near_place * LAYERS + layer) * term_stride
            tanh_in = near_share * _columns_of(z, 2 * H, H, term_row, alive, HP)
            gate_in = near_share * _columns_of(z + H, 2 * H, H, term_row, alive, HP)
            if HOP > 0:
                z = terms + (far_place * LAYERS + layer) * term_stride
                tanh_in += far_share * _columns_of(z, 2 * H, H, term_row, alive, HP)
                gate_in += far_share * _columns_of(z + H, 2 * H, H, term_row, alive, HP)
            weights = taps + layer * (TAPS * 2 * RP * HP)
            if TAPS > 1:
                length = tl.load(pasts + layer).to(tl.int32)
                dilation = tl.load(dilations + layer).to(tl.int32)
                ring = rings + tl.load(ring_starts + layer) * ring_stride
                for tap in tl.static_range(TAPS - 1):
                    slot = (step + tap * dilation) % length
                    old = _columns_of(ring + slot * ring_stride, R, R, row, alive, RP)
                    tanh_in += _dot(old, _matrix(weights, HP, RP, HP), PRECISION)
                    gate_in += _dot(old, _matrix(weights + RP * HP, HP, RP, HP), PRECISION)
                    weights += 2 * RP * HP
                tl.debug_barrier()
                to = ring + (step % length) * ring_stride + row[:, None] * R + r[None]
                tl.store(to, x, mask=inside)
            tanh_in += _dot(x, _matrix(weights, HP, RP, HP), PRECISION)
            gate_in += _dot(x, _matrix(weights + RP * HP, HP, RP, HP), PRECISION)
            # The gate's input is halved, what it lets through is doubled: see the eager engine.
            gated = (4 * tl.sigmoid(2 * tanh_in) - 2) * tl.sigmoid(2 * gate_in)
            skips += _dot(gated, _matrix(skip + layer * HP * SP, SP, HP, SP), PRECISION)
            x += _dot(gated, _matrix(residual + layer * HP * RP, RP, HP, RP), PRECISION)
            x += tl.load(residual_bias + layer * RP + r)[None]

        if STEP > 1:
            now_kept = completes & alive[:, None] & (s[None] < S)
            tl.store(kept + row[:, None] * S + s[None], skips, mask=now_kept)

        # The head, block by block through memory: it may be wider than registers are.
        tl.debug_barrier()
        tl.store(scratch + row[:, None] * SP + s[None], tl.maximum(skips, 0.0))
        tl.debug_barrier()
        for begin in range(0, SP, N):
            y = _head_block(scratch, first, first_bias, row, begin, SP, SP, N, K, PRECISION)
            to = scratch + scratch_size + row[:, None] * SP + begin + tl.arange(0, N)[None]
            tl.store(to, tl.maximum(y, 0.0))
        tl.debug_barrier()
        for begin in range(0, PP, N):
            y = _head_block(
                scratch + scratch_size, last, last_bias, row, begin, PP, SP, N, K, PRECISION
            )  # fmt: skip
            c = begin + tl.arange(0, N)
            if ORDER > 0:
                moved = location[:, None] + gain[:, None] * y
                y = tl.where((c[None] >= P - 2 * CATEGORIES) & (c[None] < P - CATEGORIES), moved, y)
                y = tl.where(c[None] >= P - CATEGORIES, y + log_gain[:, None], y)
            mask = alive[:, None] & (c[None] < P)
            tl.store(params + row[:, None] * P + c[None], y, mask=mask)
            if FORCED:
                to = out + (t.to(tl.int64) * rows + row)[:, None] * P + c[None]
                tl.store(to, y, mask=mask)
        tl.debug_barrier()
        t += 1
