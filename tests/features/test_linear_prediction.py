"""Spectrum and pitch from a mel frame, against signals with known ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg, signal
from torch import Tensor

from wavenet import MelConfig, log_mel
from wavenet.audio import read_audio
from wavenet.features.linear_prediction import MelPredictor, levinson
from wavenet.nn import FrameLift, LinearPrediction

RATE = 16000
MEL = MelConfig()
SPEECH = sorted(Path(__file__).parents[2].joinpath("samples", "prompts-en").glob("*.flac"))[:6]


def lag_samples(columns: Tensor, rate: int = RATE) -> Tensor:
    low, high = MelPredictor.lag_range_samples(rate)
    return (low + high) / 2 + (high - low) / 2 * columns[:, -1]


def test_levinson_solves_the_normal_equations() -> None:
    x = signal.lfilter([1], [1, -1.5, 0.8], np.random.default_rng(0).standard_normal(500))
    r = np.correlate(x, x, "full")[499 : 499 + 9]
    coefficients, error = levinson(torch.from_numpy(r)[None])
    expected = linalg.solve_toeplitz(r[:-1], r[1:])
    assert np.allclose(coefficients[0].numpy(), expected)
    assert float(error) == pytest.approx(r[0] - expected @ r[1:])


@pytest.mark.parametrize(
    "changes", [{}, {"power": 2.0}, {"log": "log10"}, {"mel_norm": None}, {"mel_scale": "htk"}]
)
def test_the_gain_is_the_level_of_noise_whatever_the_settings_of_the_mel(
    changes: dict[str, object],
) -> None:
    mel = MelConfig.from_dict({**MEL.to_dict(), **changes})
    noise = 0.1 * torch.from_numpy(np.random.default_rng(0).standard_normal(RATE)).float()
    columns = MelPredictor(mel, 16)(log_mel(noise[None], mel))[0]
    level_db = 20 / math.log(10) * float(columns[16].mean()) - 20 * math.log10(0.1)
    assert abs(level_db) < 1  # the bands' smoothing leaves some dB of a frame, not of their mean
    assert float(columns[:16].abs().max()) < 0.5  # nothing of white noise can be predicted


def test_speech_is_predicted_by_more_than_18_db() -> None:
    predictor, lift = MelPredictor(MEL, 20), FrameLift(MEL.hop_samples)
    low, high = MelPredictor.lag_range_samples(RATE)
    block = LinearPrediction(20, pitch_taps=1, min_lag_samples=low, max_lag_samples=high)
    power, left, normalised = 0.0, 0.0, []
    assert len(SPEECH) == 6
    for path in SPEECH:
        x = read_audio(path)[0][None, None]
        cond = lift(predictor(log_mel(x[0], MEL)), x.shape[-1])
        _, location, log_scale = block(x, cond)
        error = x[..., 1:] - location[..., :-1]
        power, left = power + float(x.square().sum()), left + float(error.square().sum())
        normalised.append((error / log_scale[..., :-1].exp()).flatten())
    assert 10 * math.log10(power / left) > 18
    assert 0.5 < float(torch.cat(normalised).std()) < 1.5  # in units of the gain


@pytest.mark.parametrize("f0_hz", [80.0, 110.0, 163.0, 220.0, 310.0])
def test_the_lag_is_the_period_of_a_buzz(f0_hz: float) -> None:
    buzz = np.zeros(RATE, np.float32)
    buzz[np.round(np.arange(0, RATE - 1, RATE / f0_hz)).astype(int)] = 1.0
    voiced = signal.lfilter([0.2], [1, -1.6, 0.8], buzz)
    columns = MelPredictor(MEL, 20)(log_mel(torch.from_numpy(voiced).float()[None], MEL))
    lags = lag_samples(columns)[0, 5:-5]
    assert float((lags / (RATE / f0_hz) - 1).abs().max()) < 0.06


def test_a_loud_frame_and_digital_silence_give_finite_columns() -> None:
    predictor = MelPredictor(MEL, 20)
    for level in (math.log(MEL.floor), 8.0):
        columns = predictor(torch.full((1, MEL.n_mels, 3), level))
        assert bool(columns.isfinite().all())
        assert float(columns[:, -1].abs().max()) <= 1


def test_a_filter_of_each_frame_is_stable() -> None:
    rows = 6 * torch.randn(1, MEL.n_mels, 50) - 3
    for frame in MelPredictor(MEL, 20)(rows)[0].T:
        poles = np.roots([1, *(-frame[:20].double().numpy())])
        assert np.abs(poles).max() < 1


def test_the_coefficients_are_differentiable_and_the_lag_is_not() -> None:
    rows = torch.randn(1, MEL.n_mels, 4, requires_grad=True)
    columns = MelPredictor(MEL, 8)(rows)
    (gradient,) = torch.autograd.grad(columns[:, :9].sum(), rows, retain_graph=True)
    assert bool((gradient != 0).any())
    (gradient,) = torch.autograd.grad(columns[:, -1].sum(), rows)
    assert bool((gradient == 0).all())
