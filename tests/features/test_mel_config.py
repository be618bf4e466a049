"""features.mel_config: presets are the published ones, and a bad setting is refused by name."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from wavenet.features.mel_config import MelConfig

PRESETS = ["wavenet-16k", "tacotron2", "hifigan", "bigvgan-24k"]


def test_presets_are_the_published_settings() -> None:
    ours, tacotron2, hifigan, bigvgan = map(MelConfig.preset, PRESETS)
    assert ours == MelConfig()
    assert (ours.sample_rate, ours.hop_samples, ours.frame_rate_hz) == (16000, 200, 80.0)
    for config in (tacotron2, hifigan):
        settings = dataclasses.astuple(config)[:10]
        assert settings == (22050, 1024, 1024, 256, 80, 0.0, 8000.0, "slaney", "slaney", 1.0)
        assert (config.log, config.floor, config.channels) == ("ln", 1e-5, 80)
    assert (tacotron2.power_epsilon, tacotron2.centre_samples) == (0.0, 0)
    assert (hifigan.power_epsilon, hifigan.centre_samples) == (1e-9, 128)
    changes = {"sample_rate": 24000, "n_mels": 100, "f_max_hz": 12000.0}
    assert bigvgan == dataclasses.replace(hifigan, **changes)
    with pytest.raises(ValueError, match="unknown mel preset 'vocos'; known are wavenet-16k, "):
        MelConfig.preset("vocos")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_config_survives_json(preset: str) -> None:
    config = MelConfig.preset(preset)
    assert MelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_dict_that_is_not_a_config_is_refused_by_name() -> None:
    settings = MelConfig().to_dict()
    with pytest.raises(ValueError, match="unknown mel setting hop_size, fmax; known are sample_"):
        MelConfig.from_dict(settings | {"hop_size": 256, "fmax": 8000})
    with pytest.raises(ValueError, match="mel version is 2, this package knows version 1"):
        MelConfig.from_dict(settings | {"version": 2, "a_key_of_tomorrow": 1})
    del settings["floor"], settings["version"]
    with pytest.raises(ValueError, match="mel setting floor, version is missing; add it"):
        MelConfig.from_dict(settings)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sample_rate": 0}, ValueError, "sample_rate is 0; use at least 1"),
        ({"n_mels": 80.0}, TypeError, "n_mels is 80.0; give an integer"),
        ({"n_mels": True}, TypeError, "n_mels is True; give an integer"),
        ({"floor": "1e-5"}, TypeError, "floor is '1e-5'; give a number"),
        ({"floor": 0}, ValueError, "floor is 0.0; use a positive value"),
        ({"f_max_hz": math.nan}, ValueError, "f_max_hz is nan; give a finite number"),
        ({"f_max_hz": 9000}, ValueError, "f_max_hz is 9000.0, above half of sample_rate 16000"),
        ({"f_min_hz": 8000}, ValueError, "f_min_hz is 8000.0; choose from 0 to below f_max_hz"),
        ({"n_fft": 1023}, ValueError, "n_fft is 1023; make it even"),
        ({"win_samples": 2048}, ValueError, "win_samples is 2048, more than n_fft 1024"),
        ({"hop_samples": 900}, ValueError, "hop_samples is 900, more than win_samples 800"),
        ({"hop_samples": 201}, ValueError, "hop_samples is 201; make it even, or use padding 'c"),
        ({"mel_scale": "bark"}, ValueError, "mel_scale is 'bark'; use one of 'slaney', 'htk'"),
        ({"mel_norm": "area"}, ValueError, "mel_norm is 'area'; use one of 'slaney', None"),
        ({"log": "log2"}, ValueError, "log is 'log2'; use one of 'ln', 'log10'"),
        ({"padding": "same"}, ValueError, "padding is 'same'; use one of 'hop', 'center'"),
        ({"power": 1.5}, ValueError, "power is 1.5; use one of 1.0, 2.0"),
        ({"power_epsilon": -1.0}, ValueError, "power_epsilon is -1.0; use 0 or more"),
        ({"n_fft": 10**9}, ValueError, "n_fft=1000000000 must be at most 65536"),
        ({"sample_rate": 10**30}, ValueError, "sample_rate=10"),
        ({"n_mels": 1024, "n_fft": 65536}, ValueError, "n_mels 1024 x n_fft 65536 is more than"),
        ({"f_max_hz": 10**400}, ValueError, "f_max_hz is 10"),
        ({"floor": [1e-5] * 9}, TypeError, "floor is [1e-05, 1e-05, 1e-05, 1e-05, 1e-05, 1e-05"),
        ({"power": [1.0]}, TypeError, "power is [1.0]; give a number"),
        ({"log": {"a": 1}}, ValueError, "log is {'a': 1}; use one of 'ln', 'log10'"),
        ({"version": True}, ValueError, "mel version is True"),
        ({"version": 0}, ValueError, "mel version is 0, this package knows version 1"),
    ],
)
def test_settings_that_make_no_spectrogram_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        dataclasses.replace(MelConfig(), **changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_sizes_may_be_numpys_and_are_kept_as_plain_integers() -> None:
    config = dataclasses.replace(MelConfig(), n_mels=np.int64(40), floor=np.float32(0.5))
    assert json.loads(json.dumps(config.to_dict()))["n_mels"] == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "mel settings are a list; give a mapping"),
        ("{", "Expecting property name"),
        ("[" * 60_000, "the JSON is nested too deeply"),
        (" " * 70_000, "70000 characters are too many for mel settings"),
        ('{"' + "x" * 9000 + '": 1}', "unknown mel setting xxx"),
    ],
)
def test_json_that_is_no_config_is_a_short_line(text: str, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        MelConfig.from_json(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600


def test_frames_of_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="n_samples is 0; a mel needs at least one sample"):
        MelConfig().frames(0)


@pytest.mark.parametrize("log", ["ln", "log10"])
def test_normalised_rows_lie_between_minus_2_at_the_floor_and_2_at_magnitude_1(log: str) -> None:
    config = MelConfig.from_dict({**MelConfig().to_dict(), "log": log})
    lowest = math.log(1e-5) if log == "ln" else -5.0
    found = config.normalised(torch.tensor([[lowest], [0.0]], dtype=torch.float64))
    assert torch.allclose(found.flatten(), torch.tensor([-2.0, 2.0], dtype=torch.float64))
