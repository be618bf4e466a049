"""Bits of a whole recording: those of the parallel pass, whatever the chunks."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig, log_mel
from wavenet.distributions import mu_law_encode
from wavenet.evaluation.likelihood import file_bits, whole_mel

MEL = MelConfig(n_fft=256, win_samples=200, hop_samples=100, n_mels=20)
CENTRED = MelConfig(n_fft=256, win_samples=200, hop_samples=100, n_mels=20, padding="center")
CONFIGS: dict[str, dict[str, Any]] = {
    "unconditional": {},
    "mixture": {"distribution": "logistic_mixture", "distribution_size": 2},
    "mel": {"mel": MEL},
    "mel, centred frames": {"mel": CENTRED},
    "speakers": {"speakers": 3},
    "mel and speakers": {"mel": MEL, "speakers": 3, "kernel_size": 3},
}


def small(**settings: Any) -> WaveNet:
    sizes = {"layers_per_stack": 4, "stacks": 2, "residual_channels": 8, "skip_channels": 8}
    return WaveNet(WaveNetConfig(**sizes, **settings)).double().eval()


def by_one_pass(model: WaveNet, audio: Tensor, speaker: int | None) -> float:
    """The definition: a silent sample, the recording but its last sample, one pass."""
    given = None if speaker is None else torch.tensor([speaker])
    x = model.distribution.quantize(audio.double())[None, None]
    mel = model.config.mel and log_mel(audio, model.config.mel, model.mel_filterbank)[None]
    cond = model.condition(mel, given, n_samples=x.shape[-1])
    if cond is not None and mel is not None:
        cond = torch.cat([cond[..., :1], cond[..., :-1]], dim=-1)  # column t goes with sample t
    first = None if cond is None else cond[..., :1]
    shifted = torch.cat([torch.zeros(1, 1, 1, dtype=x.dtype), x[..., :-1]], dim=-1)
    params, _ = model.stream(shifted, model.warm_state(1, first), cond)
    log_prob = model.distribution.log_prob(params, audio.double()[None])
    return -float(log_prob.mean()) / math.log(2)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("chunk_samples", [1, 37, 100, 5000])
def test_bits_are_those_of_one_pass_from_silence_in_any_chunks(
    name: str, chunk_samples: int, generator: torch.Generator
) -> None:
    model = small(**CONFIGS[name])
    audio = (0.1 * torch.randn(433, generator=generator)).clamp(-1, 1)
    speaker = 2 if model.config.speakers else None
    with torch.no_grad():
        expected = by_one_pass(model, audio.double(), speaker)
    found = file_bits(model, audio.double(), speaker, chunk_samples=chunk_samples)
    assert found == pytest.approx(expected, abs=1e-9)  # float64: rounding alone


def test_equal_logits_cost_eight_bits_and_those_of_the_place_within_the_class() -> None:
    model = small()
    torch.nn.init.zeros_(model.head[3].weight)
    audio = torch.tensor([0.0, 0.5, -0.25, 0.9])
    grid = torch.arange(-32768, 32768) / 32768
    held = torch.bincount(mu_law_encode(grid))
    expected = 8 + held[mu_law_encode(audio)].double().log2().mean()
    assert file_bits(model, audio) == pytest.approx(float(expected), abs=1e-6)


def test_a_mel_made_in_parts_is_the_mel(generator: torch.Generator) -> None:
    model = small(mel=MEL).float()
    audio = 0.1 * torch.randn(100 * 4100, generator=generator)  # more frames than one part
    torch.testing.assert_close(
        whole_mel(model, audio), log_mel(audio, MEL, model.mel_filterbank), atol=1e-5, rtol=1e-5
    )


def test_other_features_than_a_mel_are_refused() -> None:
    model = small(features=FeatureConfig(channels=4, hop_samples=80))
    with pytest.raises(ValueError, match="needs features that a recording does not give"):
        file_bits(model, torch.zeros(100))
