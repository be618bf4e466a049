"""The linear predictor of a row: ``wavenet.nn.LinearPrediction``, a sample at a time.

A row of ``work`` of a model with a predictor also has

    columns      a_1 .. a_p, log g and the lag, lifted to the sample at hand
    history      the last ``order + 1`` samples, the newest last
    excitation   the last ``excitation_past + 1`` values of e, the newest last
    encoded      input of the input projection
    place        p and log g: location and log-scale of the next sample

Both memories are moved on by one place a sample: a few registers, next to nothing beside a layer.
"""

from __future__ import annotations

import math

import numpy as np

from wavenet.generation.engines.cpu.kernels.packing import LANES
from wavenet.nn.linear_prediction import EXCITATION_SCALE, PREDICTION_SCALE
from wavenet.simd.compiling import inlined, outlined
from wavenet.simd.registers import load, store

_EXCITATION, _PREDICTION = np.float32(EXCITATION_SCALE), np.float32(PREDICTION_SCALE)


@inlined
def _append(work, at, n, value):
    """Move n values one place towards the beginning, and put a new one at the end.

    Copies may run over the end by less than a register, into room that is not read.
    """
    for i in range(0, n - 1, LANES):
        store(work, at + i, load(work, at + i + 1))
    work[at + n - 1] = value


@outlined
def asinh(x):
    """log(|x| + sqrt(x^2 + 1)) with the sign of x, exact near 0."""
    size = abs(np.float64(x))
    y = math.log1p(size + size * size / (1.0 + math.sqrt(size * size + 1.0)))
    return np.float32(y if x >= 0 else -y)


@inlined
def predict(work, row, plan, sound):
    """Encode a sample for the input projection, and predict the next one's location and scale."""
    columns, history = row + plan.columns_at, row + plan.history_at
    order = plan.order
    _append(work, history, order + 1, sound)
    before, ahead = np.float32(0), np.float32(0)
    for k in range(order):
        a = work[columns + k]
        before += a * work[history + order - 1 - k]
        ahead += a * work[history + order - k]
    log_gain = work[columns + order]
    gain = np.float32(math.exp(log_gain))
    inverse = np.float32(math.exp(-log_gain))
    ahead *= inverse
    excitation = (sound - before) * inverse
    encoded, place = row + plan.encoded_from, row + plan.place_at
    work[encoded] = _EXCITATION * asinh(excitation)
    work[encoded + 1] = _PREDICTION * asinh(ahead)
    work[place], work[place + 1] = ahead * gain, log_gain
    if plan.pitch_taps > 0:
        _encode_pitch(work, row, plan, excitation)


@inlined
def _encode_pitch(work, row, plan, excitation):
    """Encode the taps around one period before the next sample."""
    past, reach = row + plan.excitation_at, plan.excitation_past
    _append(work, past, reach + 1, excitation)
    low, high = np.float32(plan.min_lag), np.float32(plan.max_lag)
    column = work[row + plan.columns_at + plan.order + 1]
    column = min(max(column, np.float32(-1)), np.float32(1))
    lag = (low + high) * np.float32(0.5) + (high - low) * np.float32(0.5) * column
    # Bounded on both sides, as a lag that is no number must not be read with.
    whole = max(min(np.int64(math.floor(lag)), plan.max_lag - 1), plan.min_lag)
    share = lag - np.float32(whole)
    first = past + reach + 1 - whole - plan.pitch_taps // 2
    for j in range(plan.pitch_taps):
        here, earlier = work[first + j], work[first + j - 1]
        value = here + share * (earlier - here)
        work[row + plan.encoded_from + 2 + j] = _EXCITATION * asinh(value)


@inlined
def relocate(work, row, plan):
    """The params of the excitation as those of the sample."""
    n = plan.categories
    means = row + plan.params_at + plan.params - 2 * n
    location, log_gain = work[row + plan.place_at], work[row + plan.place_at + 1]
    gain = np.float32(math.exp(log_gain))
    for i in range(n):
        work[means + i] = location + gain * work[means + i]
        work[means + n + i] += log_gain
