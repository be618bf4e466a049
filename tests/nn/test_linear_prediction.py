"""The linear predictor as a causal block: the contract, and the filters that it replaces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal
from state_memory import stray_bytes
from torch import Tensor

from wavenet.nn import LinearPrediction
from wavenet.testing import check_causal

COEFFICIENTS = [1.2, -0.5, 0.1]
LOG_GAIN = math.log(0.05)


def column(lag: float | None = None, n: int = 1) -> Tensor:
    values = [*COEFFICIENTS, LOG_GAIN] + ([] if lag is None else [lag])
    return torch.tensor(values, dtype=torch.float64)[None, :, None].expand(-1, -1, n)


def run(block: LinearPrediction, x: Tensor, cond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    network_input, location, log_scale = block(x, cond)
    return torch.sinh(network_input / block.input_scales[:, None]), location, log_scale


@pytest.mark.parametrize(
    "block",
    [
        LinearPrediction(1),
        LinearPrediction(5),
        LinearPrediction(1, pitch_taps=1, min_lag_samples=2, max_lag_samples=5),
        LinearPrediction(4, pitch_taps=5, min_lag_samples=6, max_lag_samples=20),
    ],
)
def test_it_keeps_the_law(block: LinearPrediction) -> None:
    check_causal(block)
    for n in (1, 500):
        x, cond = torch.zeros(2, 1, n), torch.zeros(2, block.cond_channels or 0, n)
        state = block.stream(x, block.warm_state(2, cond), cond)[1]
        assert stray_bytes(state) == stray_bytes(block.warm_state(2, cond)) == 0


def test_the_excitation_is_what_drove_the_filter() -> None:
    excitation = np.random.default_rng(0).standard_normal(200)
    filtered = signal.lfilter([math.exp(LOG_GAIN)], [1, *(-a for a in COEFFICIENTS)], excitation)
    x = torch.from_numpy(filtered)[None, None]
    network_input, location, log_scale = run(LinearPrediction(3), x, column())
    assert torch.allclose(network_input[0, 0], torch.from_numpy(excitation), atol=1e-9)
    next_excitation = (x[0, 0, 1:] - location[0, 0, :-1]) / log_scale[0, 0, :-1].exp()
    assert torch.allclose(next_excitation, torch.from_numpy(excitation)[1:], atol=1e-9)
    assert torch.allclose(network_input[0, 1], location[0, 0] / math.exp(LOG_GAIN))


@pytest.mark.parametrize("lag", [40.0, 60.5, 79.25])
def test_pitch_taps_lie_around_one_period_before_the_next_sample(lag: float) -> None:
    block = LinearPrediction(3, pitch_taps=3, min_lag_samples=40, max_lag_samples=80)
    x = torch.randn(1, 1, 300, dtype=torch.float64)
    network_input, *_ = run(block, x, column((lag - 60) / 20))
    e = network_input[0, 0]
    for t in (100, 250):
        for tap, j in enumerate((-1, 0, 1)):
            at = t + 1 - lag + j
            whole = math.floor(at)
            expected = e[whole] + (at - whole) * (e[whole + 1] - e[whole])
            assert float(network_input[0, 2 + tap, t]) == pytest.approx(float(expected), abs=1e-9)


def test_lags_beyond_the_range_are_those_at_its_ends() -> None:
    block = LinearPrediction(3, pitch_taps=3, min_lag_samples=40, max_lag_samples=80)
    x = torch.randn(1, 1, 200, dtype=torch.float64)
    for beyond, end in ((-7.0, -1.0), (3.0, 1.0)):
        assert torch.equal(block(x, column(beyond))[0], block(x, column(end))[0])


def test_a_voice_of_constant_pitch_repeats_in_the_middle_tap() -> None:
    period = 50
    pulses = torch.zeros(1, 1, 600, dtype=torch.float64)
    pulses[..., ::period] = 1.0
    block = LinearPrediction(3, pitch_taps=3, min_lag_samples=40, max_lag_samples=80)
    silent_filter = column((period - 60) / 20).clone()
    silent_filter[:, :4] = 0
    network_input, *_ = run(block, pulses, silent_filter)
    assert torch.allclose(network_input[0, 3, 100:-1], pulses[0, 0, 101:], atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 0}, "order=0 must be an integer of at least 1"),
        ({"order": 4, "pitch_taps": 2}, "pitch_taps=2 must be odd"),
        ({"order": 4, "pitch_taps": -1}, "pitch_taps=-1 must be odd"),
        ({"order": 4, "pitch_taps": 5, "min_lag_samples": 2}, "min_lag_samples=2 must be above"),
        ({"order": 4, "max_lag_samples": 32}, "max_lag_samples=32 above it"),
    ],
)
def test_sizes_that_make_no_predictor_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearPrediction(**arguments)
