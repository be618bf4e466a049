"""Pitch and formants of a mel are changed apart from each other, and speed apart from both."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wavenet import MelConfig, log_mel
from wavenet.features.linear_prediction import MelPredictor
from wavenet.features.mel_warping import MelWarp, change_speed

MEL = MelConfig()
HZ = 160.0


def voiced(hz: float, formant_hz: float = 700.0) -> Tensor:
    """The mel of harmonics under one resonance."""
    times = torch.arange(MEL.sample_rate) / MEL.sample_rate
    harmonics = [k * hz for k in range(1, int(7000 / hz))]
    levels = [1 / (1 + ((f - formant_hz) / 250) ** 2) for f in harmonics]
    tones = [a * torch.sin(2 * math.pi * f * times) for f, a in zip(harmonics, levels, strict=True)]
    return log_mel(0.1 * torch.stack(tones).sum(0), MEL)[:, 10:-10]


def lag_samples(mel: Tensor) -> float:
    """The pitch period that a vocoder's predictor takes from a mel."""
    low, high = MelPredictor.lag_range_samples(MEL.sample_rate)
    lags = MelPredictor(MEL, 8)(mel[None])[0, -1]
    return float((low + high) / 2 + (high - low) / 2 * lags.median())


@pytest.mark.parametrize("pitch", [0.7, 0.85, 1.2, 1.5, 2.0])
def test_the_predictors_lag_follows_the_pitch(pitch: float) -> None:
    lag = lag_samples(MelWarp(MEL, pitch=pitch)(voiced(HZ)))
    assert lag == pytest.approx(MEL.sample_rate / (pitch * HZ), rel=0.05)


@pytest.mark.parametrize("formant", [0.8, 1.25])
def test_formants_move_and_the_pitch_stays(formant: float) -> None:
    mel = voiced(HZ, formant_hz=1500.0)
    moved = MelWarp(MEL, formant=formant)(mel)
    assert lag_samples(moved) == pytest.approx(MEL.sample_rate / HZ, rel=0.03)
    expected = voiced(HZ, formant_hz=1500.0 * formant)
    peaks = [int(one[20:60].mean(1).argmax()) for one in (moved, expected, mel)]
    assert abs(peaks[0] - peaks[1]) <= 3  # bands, less than from one harmonic to the next
    assert peaks[0] != peaks[2]


def test_a_factor_of_one_changes_no_bit_and_silence_stays_silent() -> None:
    mel = voiced(HZ)
    assert MelWarp(MEL)(mel) is mel
    assert change_speed(mel, 1.0) is mel
    silence = torch.full((MEL.n_mels, 5), math.log(MEL.floor))
    torch.testing.assert_close(MelWarp(MEL, pitch=1.4, formant=0.8)(silence), silence)


def test_speed_interpolates_frames_in_time() -> None:
    ramp = torch.arange(40.0).expand(MEL.n_mels, -1)
    assert torch.allclose(change_speed(ramp, 2.0)[0], torch.arange(20.0) * 2 + 0.5)
    assert change_speed(ramp, 0.5).shape == (MEL.n_mels, 80)


@pytest.mark.parametrize("value", [0.49, 2.01, math.nan])
def test_other_factors_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="pitch=.* must be from 0.5 to 2"):
        MelWarp(MEL, pitch=value)
    with pytest.raises(ValueError, match="speed=.* must be from 0.5 to 2"):
        change_speed(torch.zeros(2, 3), value)
