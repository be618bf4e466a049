"""evaluation.without_network: a mel gives envelope and pitch, and refinement adds the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavenet.audio import read_audio
from wavenet.evaluation.without_network import synthesize_without_network
from wavenet.features import MelConfig, log_mel
from wavenet.nn.refine import refine

MEL = MelConfig.preset("wavenet-16k")


@pytest.fixture(scope="module")
def speech(samples: Path) -> Tensor:
    """Two seconds of speech at 16 kHz."""
    audio, rate = read_audio(samples / "prompts-en" / "agent-newlocation.flac")
    assert rate == MEL.sample_rate
    return audio[8000:40000]


@pytest.mark.parametrize("pulses", [False, True])
def test_the_envelope_of_the_mel_is_there_and_refinement_brings_it_nearer(
    speech: Tensor, pulses: bool
) -> None:
    mel = log_mel(speech, MEL)
    made = synthesize_without_network(mel, MEL, pulses=pulses, n_samples=len(speech))
    assert made.shape == speech.shape
    white = torch.randn(len(speech), generator=torch.Generator().manual_seed(0)) * speech.std()
    off, off_of_white, off_refined = (
        float((log_mel(x.clamp(-1, 1), MEL) - mel).abs().mean())
        for x in (made, white, refine(made, mel, MEL, 8))
    )
    assert off < 0.5 * off_of_white
    assert off_refined < 0.5 * off


def test_pulses_repeat_at_the_period_of_a_tone_with_harmonics() -> None:
    time_s = torch.arange(32000) / 16000
    tone = sum((torch.sin(2 * torch.pi * 125 * k * time_s) / k for k in range(1, 30)), 0 * time_s)
    mel = log_mel(0.1 * tone, MEL)
    made = synthesize_without_network(mel, MEL, pulses=True, n_samples=32000)[8000:24000]
    spectrum = torch.fft.rfft(made, 2 * len(made)).abs().square()
    correlation = torch.fft.irfft(spectrum)[: len(made)]
    lag = int(correlation[60:200].argmax()) + 60
    assert abs(lag - 128) <= 2
    noise = synthesize_without_network(mel, MEL, pulses=False, n_samples=32000)
    assert not torch.equal(noise[8000:24000], made)


def test_the_seed_decides(speech: Tensor) -> None:
    mel = log_mel(speech[:4000], MEL)
    first, again, other = (
        synthesize_without_network(mel, MEL, pulses=False, n_samples=4000, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
