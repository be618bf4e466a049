"""The sampling loop: draw, encode, and one step of the network, for one tile of rows.

What a row needs beside the weights is in ``work``, at the offsets of ``plan``:

    signal   x, what goes from layer to layer, and behind it the sum of the skip projections
    inputs   all taps of the layer at hand, the oldest first
    gate     input of both halves of the gate
    gated    what the gate lets through
    head     between the matrices of the head
    params   of the next sample
    space    for the draw
    entries  encoded samples, the newest last: as many as a step has
    kept     the sum of the skip projections of the last step, where a step has two samples

and what the linear predictor keeps, if there is one (``prediction``).

``rings`` keeps the last ``past`` inputs of each layer: slot t mod past holds the input at time t.
The oldest tap of the input at time t is the one at t - past, so its slot is the one that t takes,
and tap i lies i dilations further on. With two samples a step, time is counted in steps here.

``terms`` holds what does not wait for the signal: bias and projected conditioning of each layer,
of the frame before, the frame of the sample and the frame behind it, which ``lift`` weighs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wavenet.generation.engines.cpu.kernels.draws import (
    category,
    on_grid,
    standard_logistic,
    standard_normal,
)
from wavenet.generation.engines.cpu.kernels.packing import LANES
from wavenet.generation.engines.cpu.kernels.plan import GAUSSIAN, LOGISTIC_MIXTURE, MU_LAW
from wavenet.generation.engines.cpu.kernels.prediction import predict, relocate
from wavenet.generation.engines.cpu.kernels.products import product
from wavenet.simd.compiling import cached, inlined, sources_fingerprint
from wavenet.simd.functions import gate
from wavenet.simd.registers import fill, fma, load, maximum, prefetch, store


@inlined
def _draw(work, row, plan, constants, uniforms, temperature, top_p):
    """Draw the next sample of a row from its parameters; return it and its encoding."""
    params = row + plan.params_at
    k = 0
    if plan.kind != GAUSSIAN:
        k = category(work, row, plan, constants, uniforms[0], temperature, top_p)
    if plan.kind == MU_LAW:
        return constants[plan.value_at + k], constants[plan.encoded_at + k]
    u = np.float64(uniforms[-1])
    quantile = standard_logistic(u) if plan.kind == LOGISTIC_MIXTURE else standard_normal(u)
    means = params if plan.kind == GAUSSIAN else params + plan.categories
    value = on_grid(work[means + k], work[means + plan.categories + k], quantile, temperature)
    return value, value


@inlined
def _encode(work, row, plan, encoded):
    """Encode a sample for the input projection, behind those before it."""
    older = (plan.samples_per_step - 1) * plan.inputs
    for k in range(older):
        work[row + plan.entries_at + k] = work[row + plan.entries_at + plan.inputs + k]
    if plan.order > 0:
        predict(work, row, plan, encoded)
    else:
        work[row + plan.encoded_from] = encoded


@inlined
def _project_input(work, row, plan, constants):
    """Begin a step: its samples as the first layer's input, and the biases of the skip sum."""
    signal, entries = row + plan.signal_at, row + plan.entries_at
    width = (plan.residual + LANES - 1) // LANES * LANES
    column, factor = plan.entry_at, fill(work[entries])
    if plan.one_hot == 1:
        column, factor = column + np.int64(work[entries]) * width, fill(1.0)
    for i in range(0, plan.residual, LANES):
        x = factor * load(constants, column + i)
        for k in range(1, plan.inputs * plan.samples_per_step):
            x = fma(fill(work[entries + k]), load(constants, column + k * width + i), x)
        store(work, signal + i, x)
    for i in range(0, plan.skip, LANES):
        store(work, signal + plan.residual + i, load(constants, plan.skip_bias_at + i))


@inlined
def _keep_skip_sum(work, row, plan):
    """Keep the skip sum for the next sample, the first of the step that follows."""
    for i in range(0, plan.skip, LANES):
        store(work, row + plan.kept_at + i, load(work, row + plan.signal_at + plan.residual + i))


@inlined
def _project_second(work, row, plan, constants):
    """The skip sum within a step: that of the last step, and the projection of the new sample."""
    width = (plan.skip + LANES - 1) // LANES * LANES
    for i in range(0, plan.skip, LANES):
        y = load(work, row + plan.kept_at + i) + load(constants, plan.second_bias_at + i)
        for k in range(plan.inputs):
            value = fill(work[row + plan.encoded_from + k])
            y = fma(value, load(constants, plan.second_at + k * width + i), y)
        store(work, row + plan.signal_at + plan.residual + i, y)


@inlined
def _gather(memory, row, plan, constants, layer, number, ring_row):
    """The inputs of a layer, one tap behind the other; and the newest into the ring.

    The bias of the projection that made x is added here. A copy may run over its end: into the
    next tap, which is copied later.
    """
    work, rings = memory[0], memory[1]
    width = (plan.residual + LANES - 1) // LANES * LANES
    inputs = row + plan.inputs_at
    ring = ring_row + layer.ring_at
    slot = layer.slot
    for _ in range(plan.kernel_size - 1):
        for i in range(0, width, LANES):
            store(work, inputs + i, load(rings, ring + slot * width + i))
        inputs += plan.residual
        slot += layer.dilation
        if slot >= layer.past:
            slot -= layer.past
    bias = plan.residual_bias_at + number * width
    signal = row + plan.signal_at
    for i in range(0, width, LANES):
        x = load(work, signal + i) + load(constants, bias + i)
        store(work, signal + i, x)
        store(work, inputs + i, x)
        if layer.past > 0:
            store(rings, ring + layer.slot * width + i, x)


@inlined
def _shares(lift, phase):
    """Frames for which there is room, the first of the two around a sample, and their weights.

    Of three frames one has no weight: the sample is between two centres.
    """
    if lift.size == 0:
        return 1, 0, np.float32(1), np.float32(0)
    first = 0 if lift[3 * phase + 2] == 0 else 1
    return 3, first, lift[3 * phase + first], lift[3 * phase + first + 1]


@inlined
def _blend(work, target, n, source, at, stride, shares):
    """Interpolate n values of two frames of ``source``, ``stride`` apart; or copy one frame's."""
    _, first, near, far = shares
    at += first * stride
    if far == 0:
        for i in range(0, n, LANES):
            store(work, target + i, fill(near) * load(source, at + i))
        return
    for i in range(0, n, LANES):
        y = fma(fill(far), load(source, at + stride + i), fill(near) * load(source, at + i))
        store(work, target + i, y)


@inlined
def _apply_gate(work, row, plan):
    half = plan.gate // 2
    z = row + plan.gate_at
    for i in range(0, half, LANES):
        store(work, row + plan.gated_at + i, gate(load(work, z + i), load(work, z + half + i)))


@inlined
def _rectify(work, source, target, n):
    for i in range(0, n, LANES):
        store(work, target + i, maximum(load(work, source + i), fill(0.0)))


@inlined
def _fetch(array, at, n):
    """Ask for n floats that are needed one layer later.

    All sums of a product wait for what they begin with, and while they wait the weights do too.
    """
    for i in range(0, n, LANES):
        prefetch(array, at + i)


@inlined
def _layers(model, plan, memory, shares, tile, n_rows):
    """All layers, once: from the signal of the first one to the skip sum."""
    weights, constants, _, layers = model
    work, rings, terms, _ = memory
    n_layers = len(layers)
    width = (plan.residual + LANES - 1) // LANES * LANES
    gate_stride = (plan.gate + LANES - 1) // LANES * LANES
    frame_stride = n_layers * gate_stride
    term_stride = shares[0] * frame_stride
    at = 0
    for number in range(n_layers):
        layer = layers[number]
        last = number == n_layers - 1
        if not last:
            following = layers[number + 1]
            oldest = following.ring_at + following.slot * width
            _fetch(constants, plan.residual_bias_at + (number + 1) * width, width)
        for r in range(n_rows):
            row, ring = r * plan.row_stride, r * plan.ring_stride
            term = r * term_stride + number * gate_stride
            if not last:
                _fetch(rings, ring + oldest, width)
                _fetch(terms, term + gate_stride, gate_stride)
                if shares[0] > 1:
                    _fetch(terms, term + gate_stride + frame_stride, gate_stride)
                    _fetch(terms, term + gate_stride + 2 * frame_stride, gate_stride)
            _gather(memory, row, plan, constants, layer, number, ring)
            _blend(work, row + plan.gate_at, plan.gate, terms, term, frame_stride, shares)
        if layer.past > 0:
            layer.slot = layer.slot + 1 if layer.slot + 1 < layer.past else 0
        columns = (plan.gate + LANES - 1) // LANES
        at = product(
            weights, at, plan.conv_steps, columns, work, tile, plan.inputs_at, plan.gate_at
        )
        for r in range(n_rows):
            _apply_gate(work, r * plan.row_stride, plan)
        skipped = plan.residual if last else 0
        columns = (plan.residual - skipped + plan.skip + LANES - 1) // LANES
        at = product(
            weights,
            at,
            plan.gated_steps,
            columns,
            work,
            tile,
            plan.gated_at,
            plan.signal_at + skipped,
        )


@inlined
def _head(weights, constants, plan, work, tile, n_rows):
    """ReLU, 1x1, ReLU, 1x1: from the skip sum to the params."""
    at = plan.head_weights_at
    for r in range(n_rows):
        row = r * plan.row_stride
        _rectify(work, row + plan.signal_at + plan.residual, row + plan.head_at, plan.skip)
        for i in range(0, plan.skip, LANES):
            store(work, row + plan.signal_at + i, load(constants, plan.first_bias_at + i))
    columns = (plan.skip + LANES - 1) // LANES
    at = product(weights, at, plan.head_steps, columns, work, tile, plan.head_at, plan.signal_at)
    for r in range(n_rows):
        row = r * plan.row_stride
        _rectify(work, row + plan.signal_at, row + plan.head_at, plan.skip)
        for i in range(0, plan.params, LANES):
            store(work, row + plan.params_at + i, load(constants, plan.last_bias_at + i))
    columns = (plan.params + LANES - 1) // LANES
    product(weights, at, plan.head_steps, columns, work, tile, plan.head_at, plan.params_at)
    if plan.order > 0:
        for r in range(n_rows):
            relocate(work, r * plan.row_stride, plan)


def _compile(fingerprint: str) -> Any:
    """The loop, under a key that changes with any of the kernels' sources."""

    def advance(model, memory, lift, chance, rows, given, span):
        """Samples ``begin .. end - 1`` of the rows of one tile.

        Args:
            model: ``(weights, constants, plans, layers)``; see ``packing`` and ``plan``; the
                layers' slots move on.
            memory: ``(work, rings, terms, columns)`` of the rows of this tile, one after the other;
                columns, of the predictor, of as many frames as terms, are empty without one.
            lift: ``[hop * 3]`` weights of the frames around; empty where terms hold one frame.
            chance: ``(temperature, top_p)``.
            rows: ``(tile, n_rows, first_row)``: offset of each row in work, more than n_rows where
                the last are idle; and the first one's place in what is given.
            given: ``(uniforms, forced, samples)``: ``[B, T, U]``; ``[B, T]``, the encoded samples
                that replace those drawn, or ``[B, 0]``; ``[B, T]`` for what is drawn, or
                ``[B, T, P]``, flat, for all params.
            span: ``(phase, since, begin, end)``: phase of sample begin within its frame, and the
                samples before it since the last complete step.
        """
        constants, plans = model[1], model[2]
        work, columns = memory[0], memory[3]
        tile, n_rows, first_row = rows
        uniforms, forced, samples = given
        phase, since, begin, end = span
        plan = plans[0]
        stride = (plan.columns + LANES - 1) // LANES * LANES
        for t in range(begin, end):
            shares = _shares(lift, phase + t - begin)
            completes = (since + t - begin + 1) % plan.samples_per_step == 0
            for r in range(n_rows):
                row = r * plan.row_stride
                if forced.shape[1] > 0:
                    encoded = forced[first_row + r, t]
                else:
                    drawn = uniforms[first_row + r, t]
                    value, encoded = _draw(work, row, plan, constants, drawn, *chance)
                    samples[first_row + r, t] = value
                if plan.order > 0:
                    target, at = row + plan.columns_at, r * shares[0] * stride
                    _blend(work, target, plan.columns, columns, at, stride, shares)
                _encode(work, row, plan, encoded)
                if completes:
                    _project_input(work, row, plan, constants)
                else:
                    _project_second(work, row, plan, constants)
            if completes:
                _layers(model, plan, memory, shares, tile, n_rows)
                if plan.samples_per_step > 1:
                    for r in range(n_rows):
                        _keep_skip_sum(work, r * plan.row_stride, plan)
            _head(model[0], constants, plan, work, tile, n_rows)
            if forced.shape[1] > 0:
                for r in range(n_rows):
                    source = r * plan.row_stride + plan.params_at
                    for i in range(plan.params):
                        samples[first_row + r, t * plan.params + i] = work[source + i]
        return fingerprint != ""

    return cached(advance)


advance = _compile(sources_fingerprint(__file__))
