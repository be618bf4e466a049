"""Noise on the network's input in training: its size, and what stays clean."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wavenet import MelConfig, WaveNet, WaveNetConfig
from wavenet.data import WindowPlan
from wavenet.nn import LiftedFrames
from wavenet.training.loss import noisy_inputs, window_log_prob

RATE = 8000
HOP = 40
LENGTH = 200


def make_model(**changes: object) -> WaveNet:
    mel = MelConfig(
        sample_rate=RATE, n_fft=128, win_samples=100, hop_samples=HOP, n_mels=8, f_max_hz=RATE / 2
    )
    small = {"layers_per_stack": 4, "stacks": 1, "residual_channels": 4, "skip_channels": 4}
    prediction = {"linear_prediction": 4, "distribution": "logistic_mixture"}
    config = {"sample_rate": RATE, "mel": mel, **small, **prediction, **changes}
    torch.manual_seed(0)
    model = WaveNet(WaveNetConfig.from_dict(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model.double()


def batch_of(model: WaveNet, scale: float) -> tuple[dict[str, Tensor], WindowPlan]:
    plan = WindowPlan.of(model, LENGTH / RATE)
    n_samples = plan.warm_up + plan.length
    frames = n_samples // plan.hop + 2 * plan.context_frames
    x = 0.2 * torch.randn(2, 1, n_samples, dtype=torch.float64)
    return {
        "x": (x * 32768).round() / 32768,
        "mask": torch.ones_like(x),
        "mel": torch.randn(2, 8, frames, dtype=torch.float64) - 4,
        "frame": torch.arange(frames).expand(2, -1),
        "feedback_noise": scale * torch.randn_like(x),
    }, plan


def conditioning(model: WaveNet, n_samples: int) -> LiftedFrames:
    frames = model.condition_frames(torch.randn(2, 8, 1, dtype=torch.float64) - 4)
    assert frames is not None
    return LiftedFrames(frames, frames.new_ones(1, n_samples))


def test_noise_of_scale_0_changes_nothing() -> None:
    model = make_model()
    batch, plan = batch_of(model, 0.0)
    noisy = window_log_prob(model, batch, plan)[0]
    del batch["feedback_noise"]
    assert torch.equal(noisy, window_log_prob(model, batch, plan)[0])


def inputs_of(model: WaveNet, batch: dict[str, Tensor], plan: WindowPlan) -> Tensor:
    """The samples that the network gets."""
    seen: list[Tensor] = []
    assert model.predictor is not None
    original = model.predictor.stream
    model.predictor.stream = lambda x, *rest: (  # type: ignore[method-assign]
        seen.append(x) or original(x, *rest)  # type: ignore[func-returns-value]
    )
    try:
        window_log_prob(model, batch, plan)
    finally:
        del model.predictor.stream
    return seen[0]


def test_most_samples_of_the_input_are_changed_and_without_noise_none() -> None:
    model = make_model()
    batch, plan = batch_of(model, 2.0)
    clean = batch["x"][..., :-1]
    assert float((inputs_of(model, batch, plan) != clean).double().mean()) > 0.5
    del batch["feedback_noise"]
    assert torch.equal(inputs_of(model, batch, plan), clean)


def test_the_samples_to_predict_stay_clean() -> None:
    model = make_model()
    batch, plan = batch_of(model, 2.0)
    noisy = inputs_of(model, batch, plan)
    with_noise = window_log_prob(model, batch, plan)[0]
    del batch["feedback_noise"]
    past = {**batch, "x": torch.cat([noisy, batch["x"][..., -1:]], dim=-1)}
    # The last window's sample alone: those before are targets, too, and there noisy.
    expected = window_log_prob(model, past, plan)[0]
    torch.testing.assert_close(with_noise[:, -1], expected[:, -1])


def test_the_noise_is_a_mu_law_step_of_the_excitation_in_units_of_the_gain() -> None:
    model = make_model()
    n_samples = 4000
    x = 0.2 * torch.randn(2, 1, n_samples, dtype=torch.float64)
    x = (x * 32768).round() / 32768
    cond = conditioning(model, n_samples)
    noise = torch.randn_like(x)
    found = noisy_inputs(model, x, cond, noise) - x
    assert model.predictor is not None
    columns = cond.samples[:, model.stack.cond_channels :]
    excitation, log_gain = model.predictor.excitation(x, columns)
    expected = noise * 0.0433 * (excitation.abs() + 0.1) * log_gain.exp()
    assert float((found - expected).detach().abs().max()) <= 0.5 / 32768 + 1e-9


def test_the_excitation_is_that_of_the_stream_from_silence() -> None:
    model = make_model()
    assert model.predictor is not None
    x = 0.2 * torch.randn(2, 1, 300, dtype=torch.float64)
    columns = conditioning(model, 300).samples[:, model.stack.cond_channels :]
    excitation, _ = model.predictor.excitation(x, columns)
    state = model.predictor.init_state(2, dtype=x.dtype)
    (inputs, _, _), _ = model.predictor.stream(x, state, columns)
    scale = model.predictor.input_scales[0]
    torch.testing.assert_close(torch.asinh(excitation[:, 0]) * scale, inputs[:, 0])


def test_silence_before_a_recording_stays_silent() -> None:
    model = make_model()
    batch, plan = batch_of(model, 2.0)
    batch["mask"][..., : plan.warm_up] = 0
    assert not inputs_of(model, batch, plan)[..., : plan.warm_up].any()


def test_a_model_without_a_predictor_is_refused() -> None:
    model = make_model(linear_prediction=0, distribution="mu_law")
    batch, plan = batch_of(model, 1.0)
    with pytest.raises(ValueError, match="needs a model with linear_prediction"):
        window_log_prob(model, batch, plan)
