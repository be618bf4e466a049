"""The effective receptive field against networks whose sensitivity is known."""

import pytest
import torch
from torch import nn

import wavenet
from wavenet.features import log_mel
from wavenet.receptive_fields.effective import _conditioning, effective_field


def convolution(weights: list[float]) -> wavenet.CausalConv1d:
    block = wavenet.CausalConv1d(1, 1, len(weights), bias=False)
    with torch.no_grad():
        block.weight.copy_(torch.tensor(weights)[None, None])
    return block


def test_a_linear_filters_sensitivity_is_its_taps(generator: torch.Generator) -> None:
    audio = torch.randn(200, generator=generator)
    field = effective_field(convolution([0.1, -0.2, 0.3, 0.4]), audio, 1000, positions=8)
    torch.testing.assert_close(
        field.sensitivity, torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), atol=1e-6, rtol=0
    )
    assert field.lags.tolist() == [3, 2, 1, 0]
    assert [field.samples(share) for share in (0.39, 0.5, 0.69, 0.89, 0.99)] == [1, 2, 2, 3, 4]
    assert field.to_dict()["within"]["50%"] == {"samples": 2, "milliseconds": 2.0}


def test_a_network_that_looks_ahead_counts_both_sides(generator: torch.Generator) -> None:
    block = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        block.weight.copy_(torch.tensor([[[1.0, 2.0, 1.0]]]))
    field = effective_field(block, torch.randn(1, 100, generator=generator), positions=4)
    assert field.lags.tolist() == [1, 0, -1]
    torch.testing.assert_close(field.within, torch.tensor([0.5, 1.0]).double())


def test_a_wavenets_shares_grow_to_one_within_its_field(generator: torch.Generator) -> None:
    model = wavenet.WaveNet(
        wavenet.WaveNetConfig.preset("tiny", layers_per_stack=4, residual_channels=8)
    )
    field = effective_field(model, 0.1 * torch.randn(500, generator=generator), positions=8)
    assert len(field.lags) == model.past + 1
    assert field.sample_rate == 16000
    assert bool((field.within.diff() >= 0).all())
    assert float(field.within[-1]) == pytest.approx(1)
    assert field.samples(0.5) <= field.samples(0.9) <= field.samples(0.99) <= model.past + 1
    assert "90 % of the sensitivity within" in str(field)


def test_a_model_with_a_mel_and_speakers_gets_the_mel_of_the_audio(
    generator: torch.Generator,
) -> None:
    config = wavenet.WaveNetConfig.preset("tiny", layers_per_stack=4, residual_channels=8)
    config = config.replace(mel=wavenet.MelConfig(n_mels=8), speakers=2)
    model = wavenet.WaveNet(config)
    field = effective_field(model, 0.1 * torch.randn(3000, generator=generator), positions=4)
    assert len(field.lags) == model.past + 1
    assert float(field.within[-1]) == pytest.approx(1)


def test_conditioning_of_a_piece_is_that_of_the_whole(generator: torch.Generator) -> None:
    config = wavenet.WaveNetConfig.preset("tiny", layers_per_stack=2, residual_channels=8)
    model = wavenet.WaveNet(config.replace(mel=wavenet.MelConfig(n_mels=8))).eval()
    audio = 0.1 * torch.randn(1, 9000, generator=generator)
    with torch.no_grad():
        whole = model.condition(log_mel(audio, model.config.mel), n_samples=9000)
    piece = _conditioning(model, audio, 5001, 50)
    torch.testing.assert_close(piece, whole[..., 5001:5051])


@pytest.mark.parametrize(
    ("module", "n", "message"),
    [
        (convolution([1.0] * 9), 5, "audio has 5 samples, fewer than the receptive field of 9"),
        (nn.AdaptiveAvgPool1d(1), 50, "needs a finite field"),
        (convolution([0.0, 0.0]), 50, "does not depend on this audio"),
    ],
)
def test_a_network_without_an_effective_field_is_refused(
    module: nn.Module, n: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        effective_field(module, torch.ones(n))
