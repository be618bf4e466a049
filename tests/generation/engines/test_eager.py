"""The eager engine computes what the model's parallel pass does, one sample after another."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch
from state_memory import stray_bytes
from torch import Tensor

from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig
from wavenet.generation import GenerationState
from wavenet.generation.engines.base import Request
from wavenet.generation.engines.eager import EagerEngine
from wavenet.generation.randomness import UniformSource
from wavenet.model.config import UpsamplingConfig
from wavenet.nn import State, flatten_state, map_state

EXACT = 1e-10
DISTRIBUTIONS: list[dict[str, Any]] = [
    {"distribution": "mu_law", "distribution_size": 64},
    {"distribution": "logistic_mixture", "distribution_size": 3},
    {"distribution": "gaussian"},
    {"distribution": "gaussian_mixture", "distribution_size": 2},
]


def some_features(hop_samples: int, *, upsampled: bool) -> FeatureConfig:
    """Lifted linearly, or by steps of their own."""
    upsampling = UpsamplingConfig(scales=(hop_samples,), context_frames=1) if upsampled else None
    return FeatureConfig(channels=3, hop_samples=hop_samples, upsampling=upsampling)


def random_config(seed: int) -> WaveNetConfig:
    """Kernel sizes 1 to 4, every distribution, every conditioning, over 16 seeds.

    From 16 on, mu-law models take their classes one-hot.
    """
    draw = random.Random(seed)
    local: dict[str, Any] = draw.choice(
        [
            {},
            {"features": some_features(draw.randint(1, 9), upsampled=seed % 2 == 1)},
            {"mel": MelConfig(n_fft=32, win_samples=16, hop_samples=10, n_mels=4)},
            {"mel": MelConfig(n_fft=32, win_samples=16, hop_samples=7, n_mels=4, padding="center")},
        ]
    )
    distribution = DISTRIBUTIONS[seed // 4 % 4]
    if "mel" in local and distribution["distribution"] != "mu_law":
        order, taps = draw.choice([(0, 0), (1, 0), (9, 3)])
        local |= {"linear_prediction": order, "pitch_taps": taps}
    return WaveNetConfig(
        layers_per_stack=draw.randint(1, 4),
        stacks=draw.randint(1, 3),
        kernel_size=1 + seed % 4,
        residual_channels=draw.randint(1, 6),
        gate_channels=draw.choice([None, 2, 6]),
        skip_channels=draw.randint(2, 7),
        speakers=draw.choice([0, 3]),
        one_hot_input=16 <= seed < 20,
        **local,
        **distribution,
    )


def random_model(seed: int) -> WaveNet:
    torch.manual_seed(seed)
    model = WaveNet(random_config(seed)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(std=1 / math.sqrt(fan_in))
    return model


def some_conditioning(model: WaveNet, rows: int, n: int) -> tuple[list[Tensor] | None, Any]:
    """What the engine takes, and `cond` of n samples as `stream` takes it."""
    local, speakers = model.config.local, model.config.speakers
    mel = None
    if local is not None:
        n_frames = -(-n // local.hop_samples)
        mel = torch.randn(rows, local.channels, n_frames, dtype=torch.float64)
    speaker = torch.arange(rows) % speakers if speakers else None
    frames = model.condition_frames(mel, speaker)
    if frames is None:
        return None, None
    return list(frames), model.condition(mel, speaker, n_samples=n)


def begin(
    model: WaveNet, rows: int, frames: list[Tensor] | None, cond: Any, **settings: Any
) -> tuple[EagerEngine, State]:
    """An engine after silence, and the canonical state that it starts from."""
    first = None if cond is None else cond[..., :1]
    state = model.warm_state(rows, first)
    start = GenerationState.after(*model.stream(torch.zeros(rows, 1, 1).double(), state, first))
    options: dict[str, Any] = {"temperature": 1.0, "top_p": None, "weights": torch.float32}
    request = Request(frames, settings.pop("first_sample", 0), **(options | settings))
    return EagerEngine(model, request, start), start.model


def largest_difference(a: State | Tensor, b: State | Tensor) -> float:
    pairs = zip(flatten_state((a,)), flatten_state((b,)), strict=True)
    return max(float((p - q).detach().abs().max()) if p.numel() else 0.0 for p, q in pairs)


@pytest.mark.parametrize("seed", range(32))
@torch.no_grad()
def test_teacher_forcing_gives_the_params_and_the_state_of_the_parallel_pass(seed: int) -> None:
    model = random_model(seed)
    rows, n = 1 + seed % 3, 70  # rings of up to 3 * 8 samples are filled again and again
    frames, cond = some_conditioning(model, rows, n)
    engine, state = begin(model, rows, frames, cond)
    x = model.distribution.quantize(torch.rand(rows, n).double() * 2 - 1)
    params, after = model.stream(x[:, None], state, cond)
    forced = torch.cat([engine.force(x[:, :1]), engine.force(x[:, 1:])], dim=-1)
    assert largest_difference(forced, params) < EXACT
    dumped = engine.dump()
    assert largest_difference(dumped.model, after) < EXACT
    assert largest_difference(dumped.params, params[..., -1:]) < EXACT
    assert dumped.time.tolist() == [n] * rows


@pytest.mark.parametrize("seed", range(16))
@torch.no_grad()
def test_what_is_drawn_is_what_the_parallel_pass_over_it_would_draw(seed: int) -> None:
    model = random_model(seed)
    rows, n = 2, 40
    frames, cond = some_conditioning(model, rows, n)
    engine, state = begin(model, rows, frames, cond)
    first = engine.dump().params
    given = UniformSource([7, 8], model.distribution.uniforms_per_sample).take(n)
    x = engine.run(given)
    params, after = model.stream(x.double()[:, None], state, cond)
    params = torch.cat([first, params[..., :-1]], dim=-1)
    assert torch.equal(model.distribution.sample(params, given).float(), x)
    assert largest_difference(engine.dump().model, after) < EXACT


@pytest.mark.parametrize("seed", [1, 6, 11])
@torch.no_grad()
def test_an_engine_goes_on_from_any_state_at_any_sample_of_the_frames(seed: int) -> None:
    model = random_model(seed)
    rows, n, first_sample = 2, 23, 17
    frames, cond = some_conditioning(model, rows, first_sample + n)
    later = cond if cond is None or cond.shape[-1] == 1 else cond[..., first_sample:]
    state = map_state(torch.randn_like, model.init_state(rows))
    start = GenerationState(
        torch.randn(rows, model.distribution.n_params, 1).double(), state, torch.tensor([3, 900])
    )
    engine = EagerEngine(model, Request(frames, first_sample, 1.0, None, torch.float32), start)
    assert largest_difference(tuple(engine.dump()), tuple(start)) == 0
    x = torch.rand(rows, n).double() * 2 - 1
    params, after = model.stream(x[:, None], state, later)
    assert largest_difference(engine.force(x), params) < EXACT
    assert largest_difference(engine.dump().model, after) < EXACT
    assert engine.dump().time.tolist() == [3 + n, 900 + n]


@torch.no_grad()
def test_a_dump_is_a_value_and_the_start_is_not_changed() -> None:
    model = random_model(9)
    frames, cond = some_conditioning(model, 1, 30)
    engine, state = begin(model, 1, frames, cond)
    kept = map_state(Tensor.clone, state)
    engine.force(torch.rand(1, 5).double())
    dumped = engine.dump()
    copied = map_state(Tensor.clone, tuple(dumped))
    engine.force(torch.rand(1, 9).double())
    assert largest_difference(state, kept) == 0
    assert largest_difference(tuple(dumped), copied) == 0
    assert not any(part.is_inference() for part in flatten_state(tuple(dumped)))
    assert stray_bytes(tuple(dumped)) == 0


@torch.no_grad()
def test_a_state_after_a_long_prompt_is_as_small_as_any() -> None:
    model = random_model(6)
    _, cond = some_conditioning(model, 1, 1)
    x = torch.zeros(1, 1, 1000).double()
    state = GenerationState.after(*model.stream(x, model.warm_state(1, cond), cond))
    assert stray_bytes(tuple(state)) == 0


@torch.no_grad()
def test_rows_of_different_lengths_hold_their_last_frame() -> None:
    model = random_model(0).double()
    config = WaveNetConfig(
        layers_per_stack=2,
        stacks=1,
        residual_channels=3,
        skip_channels=3,
        features=FeatureConfig(channels=2, hop_samples=4),
    )
    model = WaveNet(config).double()
    frames = [torch.randn(2, 6).double(), torch.randn(2, 3).double()]
    held = torch.cat([frames[1], frames[1][:, -1:].expand(-1, 3)], dim=-1)
    cond = model.frame_lift(torch.stack([frames[0], held]))
    engine, state = begin(model, 2, frames, cond)
    x = torch.rand(2, 24).double()
    params, _ = model.stream(x[:, None], state, cond)
    assert largest_difference(engine.force(x), params) < EXACT


@pytest.mark.parametrize("weights", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_rounded_weights_are_those_of_a_model_that_was_rounded(weights: torch.dtype) -> None:
    """All but the conditioning, which is projected once a frame, and the biases."""
    model = random_model(2)
    rounded = random_model(2)
    for name, parameter in rounded.named_parameters():
        once_a_sample = name.startswith(("stack", "head", "input"))
        if once_a_sample and name.endswith("weight") and "cond_projection" not in name:
            parameter.copy_(parameter.to(weights).double())
    frames, cond = some_conditioning(model, 1, 20)
    engine, _ = begin(model, 1, frames, cond, weights=weights)
    _, state = begin(model, 1, frames, cond)
    x = torch.rand(1, 20).double()
    expected, _ = rounded.stream(x[:, None], state, cond)
    assert largest_difference(engine.force(x), expected) < EXACT
    exact, _ = model.stream(x[:, None], state, cond)
    assert largest_difference(expected, exact) > 1e-6


@torch.no_grad()
def test_float32_differs_from_float64_by_rounding_alone() -> None:
    model = random_model(3)
    frames, cond = some_conditioning(model, 1, 60)
    engine, state = begin(model, 1, frames, cond)
    x = model.distribution.quantize(torch.rand(1, 60))
    narrow = model.float()
    start = GenerationState.after(engine.dump().params.float(), map_state(Tensor.float, state))
    request = Request(
        None if frames is None else [row.float() for row in frames], 0, 1.0, None, torch.float32
    )
    forced = EagerEngine(narrow, request, start).force(x)
    assert forced.dtype == torch.float32
    assert largest_difference(forced.double(), engine.force(x.double())) < 1e-4


def test_an_engine_needs_no_gradients_and_leaves_the_model_as_it_was() -> None:
    model = random_model(4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frames, cond = some_conditioning(model, 1, 20)
    engine, _ = begin(model, 1, frames, cond)
    drawn = engine.run(UniformSource([0], model.distribution.uniforms_per_sample).take(9))
    assert not drawn.requires_grad
    drawn.mul_(0.5)  # an ordinary tensor: who gets it may change it
    assert not engine.force(drawn).is_inference()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
