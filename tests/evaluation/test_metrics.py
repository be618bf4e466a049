"""Distances have the values that their definitions give; what cannot be measured has a reason."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wavenet.audio import read_audio
from wavenet.evaluation.metrics import (
    METRICS,
    PESQ_LONGEST_S,
    PITCH_KEYS,
    Instruments,
    Reference,
    measuring_mel,
    mel_cepstral_distortion,
)
from wavenet.evaluation.pitch import (
    FRAME_S,
    TRACKER,
    find_tracker,
    fine_error_cents,
    gross_error_percent,
    track_f0,
    voicing_error_percent,
    why_untracked,
)

RATE = 16000
INSTRUMENTS = Instruments()
needs_pesq = pytest.mark.skipif(
    "pesq" in INSTRUMENTS.unavailable, reason="pesq, which needs a C compiler, is not installed"
)
needs_stoi = pytest.mark.skipif("stoi" in INSTRUMENTS.unavailable, reason="pystoi is not installed")


@pytest.fixture(params=["quick", pytest.param("all", marks=pytest.mark.slow)])
def instruments(request: pytest.FixtureRequest) -> Instruments:
    """Those that take milliseconds, and everything that is installed.

    The others are slow: librosa compiles its tracker of F0 for 15 s, once in a fresh clone, and
    DNSMOS and ViSQOL take seconds for each.
    """
    return Instruments() if request.param == "all" else without("dnsmos", "visqol")


def without(*metrics: str) -> Instruments:
    """What is installed, but for these metrics and the tracker of F0."""
    found = Instruments()
    found.tracker = None
    found.unavailable |= dict.fromkeys((*PITCH_KEYS, *metrics), "left out")
    return found


@pytest.fixture(scope="module")
def speech(samples: Path) -> Tensor:
    return read_audio(samples / "prompts-en" / "conf-onlyone.flac")[0][: 2 * RATE]


def noise(seconds: float, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * RATE), generator=draw)


def test_a_recording_is_at_no_distance_from_itself(
    speech: Tensor, instruments: Instruments
) -> None:
    scores = Reference(speech, RATE, instruments).compare(speech)
    best = {"pesq": 4.64, "stoi": 1.0, "visqol": 5.0}
    assert scores.missing == {}
    measured = {"log_mel_l1", "mcd_db", "dnsmos", *best} - set(instruments.unavailable)
    assert measured <= set(scores.values) <= {metric.key for metric in METRICS}
    assert (instruments.tracker is None) == set(PITCH_KEYS).isdisjoint(scores.values)
    assert 1 < scores.values.pop("dnsmos", 3.0) < 5  # of the copy alone
    for key, value in scores.values.items():
        assert value == pytest.approx(best.get(key, 0.0), abs=0.005), key


def test_half_the_amplitude_is_ln_2_away_in_log_mel_and_nowhere_in_cepstrum(
    instruments: Instruments,
) -> None:
    scores = Reference(noise(1), RATE, instruments).compare(noise(1) / 2)
    assert scores.values["log_mel_l1"] == pytest.approx(math.log(2), abs=1e-4)
    assert scores.values["mcd_db"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("order", [1, 7, 24])
def test_a_cepstral_coefficient_off_by_one_tenth_is_0_614_db(order: int) -> None:
    band = torch.arange(80) + 0.5
    log_mel = torch.zeros(80, 5)
    ripple = 0.1 * torch.cos(math.pi * order * band / 80)
    found = mel_cepstral_distortion(log_mel, log_mel + ripple[:, None])
    assert found == pytest.approx(10 / math.log(10) * math.sqrt(2) * 0.1, rel=1e-5)


def test_ripples_finer_than_the_cepstrum_and_pauses_do_not_count() -> None:
    band = torch.arange(80) + 0.5
    fine = torch.cos(math.pi * 25 * band / 80)
    assert mel_cepstral_distortion(torch.zeros(80, 5), fine[:, None].expand(80, 5)) < 1e-5
    recording = torch.zeros(80, 5)
    recording[:, 2] = -math.log(10) * 2.1  # 42 dB below the others
    copy = recording.clone()
    copy[:40, 2] += 3
    assert mel_cepstral_distortion(recording, copy) == 0


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44100])
def test_measuring_frames_are_50_ms_every_12_5_ms_at_every_rate(sample_rate: int) -> None:
    config = measuring_mel(sample_rate)
    assert config.hop_samples / sample_rate == pytest.approx(0.0125, rel=0.01)
    assert config.win_samples == 4 * config.hop_samples
    assert config.f_max_hz == sample_rate / 2


def test_pitch_errors_of_known_tracks() -> None:
    reference = np.array([0, 100, 100, 100, 100, 0, 200, 200.0])
    up = 100 * 2 ** (10 / 1200)
    copy = np.array([0, up, up, 200, 0, 90, 200, 200.0])
    both = [10, 10, 0, 0]  # cents; the octave is gross
    assert fine_error_cents(reference, copy) == pytest.approx(math.sqrt(np.square(both).mean()))
    assert gross_error_percent(reference, copy) == pytest.approx(100 / 5)
    assert voicing_error_percent(reference, copy) == pytest.approx(100 * 2 / 8)
    assert fine_error_cents(reference, 0 * copy) is None
    assert gross_error_percent(reference, 0 * copy) is None


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, RATE, 48000])
def test_the_tracker_finds_the_f0_of_a_buzz_to_half_a_step_of_its_grid(rate: int) -> None:
    time_s = torch.arange(rate, dtype=torch.float64) / rate
    buzz = sum(torch.cos(2 * math.pi * 170 * k * time_s) / k for k in range(1, 20))
    track = track_f0((0.1 * buzz).numpy(), rate)
    assert len(track) == pytest.approx(1 / FRAME_S, abs=2)
    assert np.abs(1200 * np.log2(track[20:-20] / 170)).max() < 10
    assert np.array_equal(track, track_f0((0.1 * buzz).numpy(), rate))


def test_one_tracker_serves_whatever_is_installed_and_every_f0_metric_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("pyworld", "pesq", "pystoi"):
        monkeypatch.setitem(sys.modules, name, None)
    tracker = find_tracker()
    assert tracker is not None
    assert tracker.name == TRACKER
    for metric in METRICS:
        assert (TRACKER in metric.definition) == (metric.key in PITCH_KEYS)


def test_where_no_f0_can_be_found_the_reason_is_told() -> None:
    assert why_untracked(RATE, RATE) is None
    assert why_untracked(RATE // 20, RATE) == "shorter than 0.1 s"
    assert why_untracked(200, 200) == "a rate below 1000 Hz leaves no room for F0"


@pytest.mark.parametrize("n_samples", [1, 400, 1600])
def test_what_is_too_short_says_so_for_each_metric(
    n_samples: int, instruments: Instruments
) -> None:
    scores = Reference(noise(1)[:n_samples], RATE, instruments).compare(noise(1, 1)[:n_samples])
    assert {"log_mel_l1", "mcd_db"} <= set(scores.values)
    for key, words in {"pesq": "0.25 s that P.862 needs", "stoi": "that STOI needs"}.items():
        if key not in instruments.unavailable:
            assert words in scores.missing[key]
    if n_samples < 1600 and instruments.tracker is not None:
        assert scores.missing["f0_error_cents"] == "shorter than 0.1 s"


def test_a_silent_copy_and_a_voiceless_one_have_no_score_where_there_is_none(
    speech: Tensor, instruments: Instruments
) -> None:
    scores = Reference(speech, RATE, instruments).compare(torch.zeros_like(speech))
    if instruments.tracker is not None:
        assert scores.missing["f0_error_cents"] == "no frame is voiced in both"
    if "pesq" not in instruments.unavailable:
        assert scores.missing["pesq"] == "the copy is silent"
    assert all(math.isfinite(value) for value in scores.values.values())


@needs_pesq
@needs_stoi
def test_a_stretch_of_silence_has_no_score_of_speech(instruments: Instruments) -> None:
    scores = Reference(torch.zeros(RATE), RATE, instruments).compare(noise(1))
    assert scores.missing["pesq"] == "P.862 detects no speech in it"
    assert scores.missing["stoi"] == "the recording is silent there"


@needs_pesq
@pytest.mark.slow
def test_pesq_survives_more_bursts_than_its_tables_hold() -> None:
    bursts = noise(60) * (torch.arange(60 * RATE) % (RATE // 2) < RATE // 4)
    assert PESQ_LONGEST_S / 0.4 < 50
    only = without("stoi", "dnsmos", "visqol")
    scores = Reference(bursts, RATE, only).compare(bursts + 0.01 * noise(60, 1))
    assert 1 < scores.values["pesq"] < 4.64


@needs_pesq
def test_pesq_of_a_higher_rate_is_that_of_16_khz(speech: Tensor) -> None:
    from wavenet.audio import resample

    instruments = without("stoi", "dnsmos", "visqol")
    coarse = (speech * 64).round() / 64
    at_16k = Reference(speech, RATE, instruments).compare(coarse).values["pesq"]
    up = [resample(x, RATE, 44100) for x in (speech, coarse)]
    at_44k = Reference(up[0], 44100, instruments).compare(up[1]).values["pesq"]
    assert at_44k == pytest.approx(at_16k, abs=0.05)  # two resamplings


def test_noise_lowers_every_score(speech: Tensor, instruments: Instruments) -> None:
    reference = Reference(speech, RATE, instruments)
    less, more = (reference.compare(speech + level * noise(2)).values for level in (0.02, 0.5))
    for metric in METRICS:
        if metric.key in less and "f0" not in metric.key:
            assert (less[metric.key] > more[metric.key]) == metric.higher_is_better, metric.key


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pesq", "pystoi", "pyworld", "librosa", "visqol"):
        monkeypatch.setitem(sys.modules, name, None)  # what `import` finds of a missing package
    found = Instruments().unavailable
    pitch = {"f0_error_cents", "f0_gross_error_percent", "voicing_error_percent"}
    assert set(found) == {"pesq", "stoi", "visqol", "dnsmos", *pitch}
    assert found["f0_error_cents"] == "librosa is not installed: pip install 'wavenet-audio[eval]'"
    assert found["pesq"] == "pesq is not installed: pip install 'wavenet-audio[eval]'"


def test_a_copy_of_another_length_is_refused(speech: Tensor, instruments: Instruments) -> None:
    with pytest.raises(ValueError, match="cut or pad it"):
        Reference(speech, RATE, instruments).compare(speech[:-1])
