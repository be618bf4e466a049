"""A mel in another unit than the model's is recognised; the model's own mels never are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from wavenet import MelConfig, log_mel
from wavenet.features import mel_filterbank
from wavenet.features.mel_units import unit_warning

LN = MelConfig()
LOG10 = dataclasses.replace(LN, log="log10")
POWER = dataclasses.replace(LN, power=2.0)


def signal(kind: str) -> torch.Tensor:
    time_s = torch.arange(16000) / 16000
    noise = torch.randn(16000, generator=torch.Generator().manual_seed(0))
    return {
        "speech": 0.1 * noise * (1 + torch.sin(40 * time_s)),
        "silence": torch.cat((torch.zeros(8000), 0.2 * noise[8000:])),
        "faint": 1e-4 * noise,
        "square wave": torch.sign(torch.sin(2 * torch.pi * 440 * time_s)),
        "constant": torch.ones(16000),
        "loud": noise.clamp(-1, 1),
    }[kind]


def warning(mel: np.ndarray | torch.Tensor, config: MelConfig = LN) -> str | None:
    return unit_warning(config, mel_filterbank(config), float(mel.min()), float(mel.max()))


@pytest.mark.parametrize("config", [LN, LOG10, POWER], ids=["ln", "log10", "power"])
@pytest.mark.parametrize("kind", ["speech", "silence", "faint", "square wave", "constant", "loud"])
def test_what_the_model_may_have_seen_is_no_warning(kind: str, config: MelConfig) -> None:
    assert warning(log_mel(signal(kind), config), config) is None


@pytest.mark.parametrize(
    ("unit", "guess"),
    [
        (lambda mel: 20 * np.log10(mel), "decibels? multiply by 0.115129 for natural"),
        (lambda mel: (20 * np.log10(mel / mel.max())).clip(-80), "decibels? multiply by 0.1151"),
        (lambda mel: mel, "magnitudes, not logarithms? take natural logarithms of max(mel, 1e-05)"),
        (lambda mel: 1e4 * mel**2, "powers, not logarithms?"),
        (lambda mel: np.log10(mel), "log10? multiply by 2.30259 for natural logarithms"),
        (lambda mel: 1.5 * np.log(mel), "a lower floor? raise what is below to -11.51"),
        (lambda mel: 6 + np.log(mel), "another unit or normalisation?"),
    ],
)
def test_another_unit_is_guessed_in_one_line(unit: object, guess: str) -> None:
    assert callable(unit)
    mel = np.exp(log_mel(signal("silence"), LN).numpy().astype(np.float64))
    found = warning(unit(mel))
    assert found is not None
    assert guess in found
    assert found.startswith("values from ")


def test_natural_logarithms_are_recognised_where_the_model_takes_log10() -> None:
    found = warning(log_mel(signal("silence"), LN), LOG10)
    assert found is not None
    assert "natural logarithms? multiply by 0.434294 for log10" in found
