"""The latency of a model is the sum of its blocks' delays, and what a call waits for."""

from __future__ import annotations

import doctest
from fractions import Fraction

import pytest
import torch

import wavenet.nn
from wavenet import (
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    MelConfig,
    MelRefinement,
    WaveNet,
    WaveNetConfig,
)
from wavenet.nn import CausalISTFT, CausalSTFT, Delay, Residual, latency, timing


def test_delays_add_up_in_samples_of_the_input_and_in_milliseconds() -> None:
    down, up = CausalConv1d(1, 1, 8, stride=4), CausalConvTranspose1d(1, 1, 8, stride=4)
    model = Chain(Delay(1, 3), down, Delay(1, 2), up, Delay(1, 5))
    found = latency(model, 16000)
    assert (found.delay_samples, found.waiting_samples) == (3 + 2 * 4 + 5, 4 - 1)
    assert (found.samples, found.milliseconds) == (19, 19 / 16)
    assert str(found) == "19 samples (1.188 ms)"


def test_convolutions_have_no_latency_but_for_what_a_call_waits_for() -> None:
    assert latency(CausalConv1d(1, 1, 9, dilation=5)).samples == 0
    assert latency(CausalConvTranspose1d(1, 1, 9, stride=5)).samples == 0
    assert latency(CausalConv1d(1, 1, 9, stride=5)).samples == 4
    assert latency(CausalConv1d(1, 1, 9)).milliseconds is None


def test_a_part_of_a_sample_is_kept_and_rounded_up_in_samples() -> None:
    model = Chain(CausalConvTranspose1d(1, 1, 4, stride=4), Delay(1, 3))
    found = latency(model, 1000)
    assert (found.delay_samples, found.samples, found.milliseconds) == (Fraction(3, 4), 1, 0.75)


@pytest.mark.parametrize(("n_fft", "hop"), [(16, 4), (12, 6)])
def test_the_delay_of_a_transform_and_its_inverse_is_measured(n_fft: int, hop: int) -> None:
    model = Chain(CausalSTFT(n_fft, hop), CausalISTFT(n_fft, hop)).double()
    x = torch.randn(1, 1, 20 * hop, dtype=torch.float64)
    y, delay = model(x), int(latency(model).delay_samples)
    torch.testing.assert_close(y[..., 5 * hop :], Delay(1, delay)(x)[..., 5 * hop :])


def test_a_connection_around_a_block_has_its_latency() -> None:
    body = Chain(CausalSTFT(16, 4), CausalISTFT(16, 4))
    assert latency(Residual(body)).samples == latency(body).samples == 16 + 3


def test_refinement_declares_its_delay_and_a_model_its_sample_rate() -> None:
    mel = MelConfig(n_fft=16, win_samples=8, hop_samples=2, n_mels=3)
    refinement = MelRefinement(mel, 3)
    assert latency(refinement).delay_samples == refinement.delay_samples > 0
    model = WaveNet(WaveNetConfig.preset("tiny"))
    assert (latency(model).samples, latency(model).milliseconds) == (0, 0.0)
    with pytest.raises(ValueError, match="sample_rate=0 must be an integer of at least 1"):
        latency(model, 0)


def test_the_example_of_the_docstring_is_right() -> None:
    found = doctest.DocTestFinder().find(timing, extraglobs=vars(wavenet.nn))
    results = [doctest.DocTestRunner().run(test) for test in found]
    assert sum(result.attempted for result in results) == 4
    assert not any(result.failed for result in results)


def test_an_ordinary_module_declares_no_latency() -> None:
    with pytest.raises(TypeError, match="block is a Conv1d, which is no Causal block"):
        latency(torch.nn.Conv1d(1, 1, 3))  # type: ignore[arg-type]
