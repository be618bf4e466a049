"""Classical copies are aligned with the recording, and depend on what they are meant to."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavenet import MelConfig, WaveNet, WaveNetConfig, log_mel
from wavenet.audio import read_audio
from wavenet.distributions import mu_law_decode, mu_law_encode
from wavenet.evaluation.baselines import (
    baseline_systems,
    griffin_lim,
    make_copy,
    why_unavailable,
    world_copy,
)
from wavenet.features import mel_filterbank

RATE = 16000
MELS = {
    "wavenet-16k": MelConfig(),
    "centred": MelConfig(padding="center"),
    "powers, htk, log10": MelConfig(power=2.0, mel_scale="htk", mel_norm=None, log="log10"),
    "long hop": MelConfig(hop_samples=256, win_samples=1024),
}


@pytest.fixture(scope="module")
def speech(samples: Path) -> Tensor:
    return read_audio(samples / "prompts-en" / "conf-onlyone.flac")[0][4000 : 4000 + RATE // 2]


def is_aligned(recording: Tensor, copy: Tensor, config: MelConfig) -> bool:
    """Return whether the copy's mel is nearest without a shift, and not half a hop away."""
    mel = log_mel(recording, config)
    half = config.hop_samples // 2
    distances = {
        shift: float((log_mel(copy.roll(shift), config) - mel).abs().mean())
        for shift in (-half, 0, half)
    }
    return min(distances, key=distances.__getitem__) == 0


@pytest.mark.slow  # librosa compiles itself when it is first used: for 15 s, once in a fresh clone
@pytest.mark.parametrize("name", MELS)
def test_griffin_lim_is_aligned_with_the_recording_and_has_its_mel(
    name: str, speech: Tensor
) -> None:
    config, filterbank = MELS[name], mel_filterbank(MELS[name])
    mel = log_mel(speech, config, filterbank)
    copy = griffin_lim(mel, config, filterbank, n_samples=len(speech))
    assert copy.shape == speech.shape
    assert is_aligned(speech, copy, config)
    natural = torch.log(torch.tensor(10.0)) if config.log == "log10" else 1.0
    distance = (log_mel(copy, config, filterbank) - mel).abs().mean() * natural / config.power
    assert distance < 0.25  # nats of magnitude; a frame's shift is 0.5 away
    again = griffin_lim(mel, config, filterbank, n_samples=len(speech))
    assert torch.equal(copy, again)


@pytest.mark.parametrize("n_samples", [1, 50, 900])
def test_griffin_lim_of_less_than_a_window_warns_of_nothing(n_samples: int, speech: Tensor) -> None:
    audio, config = speech[:n_samples], MelConfig()
    filterbank = mel_filterbank(config)
    copy = griffin_lim(log_mel(audio, config), config, filterbank, n_samples=n_samples)
    assert copy.shape == (n_samples,)
    assert bool(copy.isfinite().all())


@pytest.mark.skipif(why_unavailable("world") is not None, reason="pyworld is not installed")
def test_world_is_aligned_with_the_recording_and_refuses_what_is_too_short(speech: Tensor) -> None:
    copy = world_copy(speech, RATE)
    assert copy.shape == speech.shape
    assert is_aligned(speech, copy, MelConfig())
    with pytest.raises(ValueError, match="shorter than 0.1 s"):
        world_copy(speech[:1000], RATE)


def test_the_quantiser_of_a_mu_law_model_is_mu_law_and_back(speech: Tensor) -> None:
    model = WaveNet(WaveNetConfig.preset("tiny", mel=MelConfig()))
    assert set(baseline_systems(model)) == {"griffin_lim", "world", "quantiser"}
    assert baseline_systems(model)["quantiser"].title == "mu-law 256"
    copy = make_copy("quantiser", model, speech, torch.empty(0), 0)
    assert torch.equal(mu_law_encode(copy), mu_law_encode(speech))
    # The centre of a class on the 16-bit grid, or the nearest of its own where it is narrow.
    assert (copy - mu_law_decode(mu_law_encode(speech))).abs().max() <= 1 / 32768


def test_a_mixture_has_the_16_bit_grid_and_mu_law_for_reference(speech: Tensor) -> None:
    model = WaveNet(WaveNetConfig.preset("tiny", mel=MelConfig(), distribution="logistic_mixture"))
    systems = baseline_systems(model)
    assert systems["quantiser"].title == "16-bit grid"
    assert torch.equal(make_copy("quantiser", model, speech, torch.empty(0), 0), speech)
    copy = make_copy("mu_law_256", model, speech, torch.empty(0), 0)
    assert torch.equal(mu_law_encode(copy), mu_law_encode(speech))
    assert len(copy.unique()) <= 256


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("librosa", "pyworld"):
        monkeypatch.setitem(sys.modules, name, None)
    remedy = "not installed: pip install 'wavenet-audio[eval]'"
    assert why_unavailable("griffin_lim") == f"librosa is {remedy}"
    assert why_unavailable("world") == f"pyworld is {remedy}"
    assert why_unavailable("quantiser") is None
