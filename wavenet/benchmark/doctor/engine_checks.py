"""Checks of ``wavenet doctor`` for engines: each gives the parameters of ``stream``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import wavenet
from wavenet.benchmark.doctor.checks import exact_products
from wavenet.benchmark.doctor.part import Values, attempt, engine_names, within
from wavenet.generation.engines.base import Engine, GenerationState, Request
from wavenet.generation.options import WEIGHTS, engine_class

ENGINE_TOLERANCE = 2e-3
"""Largest error of params, as a share of the largest: float32 sums in another order."""
NARROW_TOLERANCE = 0.1
"""The same with weights in bfloat16 or float16, which have 8 and 11 bits."""
NARROW_MODELS = ("mu_law", "predictor")
"""Models that are checked with weights in 16 bits, too."""
RUN_EVERY_MODEL = ("eager", "gpu")
"""Engines that may refuse none of the models."""


def models() -> dict[str, wavenet.WaveNet]:
    """A model of every distribution, with odd widths, a predictor, speakers and one-hot input."""
    sizes = {
        "layers_per_stack": 4,
        "stacks": 2,
        "residual_channels": 20,
        "skip_channels": 28,
        "gate_channels": 36,
    }
    mel = replace(wavenet.MelConfig.preset("wavenet-16k"), n_mels=20)
    given: dict[str, dict[str, Any]] = {
        "mu_law": {},
        "mu_law one-hot": {"one_hot_input": True},
        "logistic_mixture": {"distribution": "logistic_mixture", "distribution_size": 3},
        "gaussian": {"distribution": "gaussian", "kernel_size": 3},
        "gaussian_mixture": {"distribution": "gaussian_mixture", "distribution_size": 5},
        "mel": {"mel": mel},
        "predictor": {
            "mel": mel,
            "distribution": "logistic_mixture",
            "distribution_size": 2,
            "linear_prediction": 12,
            "pitch_taps": 3,
            "speakers": 2,
        },
        "two samples a step": {
            "mel": mel,
            "distribution": "gaussian",
            "linear_prediction": 8,
            "samples_per_step": 2,
        },
    }
    torch.manual_seed(0)
    found = {}
    for name, settings in given.items():
        model = wavenet.WaveNet(wavenet.WaveNetConfig(**{**sizes, **settings})).eval()
        with torch.no_grad():  # a fresh head answers everything alike
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        found[name] = model
    return found


def engines(device: torch.device) -> Iterator[Values]:
    """Every engine gives the parameters of ``stream`` when it is fed the same samples.

    ``stream`` on a GPU is compared with the CPU's first. Weights in 16 bits are checked where the
    engine computes with them, for two of the models.
    """
    exact_products()
    results: Values = {}
    for title, model in models().items():
        on_cpu = forced("stream", model)
        model.to(device)
        expected = on_cpu
        if device.type != "cpu":
            check = partial(_check, "stream", model, on_cpu, "float32")
            results[f"{title} stream against the CPU"] = attempt(check)
        for engine in engine_names(device):
            for weights in _weights(engine, title):
                check = partial(_check, engine, model, expected, weights)
                name = f"{title} {engine}" + ("" if weights == "float32" else f" {weights}")
                results[name] = attempt(check)
                if "refused" in results[name] and engine in RUN_EVERY_MODEL:
                    results[name]["passed"] = False
        yield {"checks": results}


def _weights(engine: str, title: str) -> tuple[str, ...]:
    """Types to check; each takes the Triton engine seconds to compile."""
    if engine == "gpu-fused" and title in NARROW_MODELS:
        return ("float32", "bfloat16", "float16")
    return ("float32",)


def _check(engine: str, model: wavenet.WaveNet, expected: Tensor, weights: str) -> Values:
    found = forced(engine, model, weights)
    off = float((found - expected).abs().max() / expected.abs().max())
    return within(off, ENGINE_TOLERANCE if weights == "float32" else NARROW_TOLERANCE)


def forced(engine: str, model: wavenet.WaveNet, weights: str = "float32") -> Tensor:
    """Return parameters ``[B, P, T]`` of an engine that is fed 70 given samples, on the CPU."""
    device = model.input_projection.weight.device
    draw = torch.Generator().manual_seed(1)
    frames = None
    with torch.inference_mode():
        cond = None
        if model.config.mel is not None:
            mel = torch.randn(2, model.config.mel.n_mels, 3, generator=draw) - 4
            speaker = torch.tensor([0, 1], device=device) if model.config.speakers else None
            found = model.condition_frames(mel.to(device), speaker)
            assert found is not None
            frames = list(found)
            cond = model.frame_lift(found, 1)
        silence = torch.zeros(2, 1, 1, device=device)
        start = GenerationState.after(*model.stream(silence, model.warm_state(2, cond), cond))
        request = Request(frames, 0, 1.0, None, WEIGHTS[weights])
        running: Engine = engine_class(engine, model)(model, request, start)
    x = model.distribution.quantize(0.3 * torch.randn(2, 70, generator=draw))
    return running.force(x).float().cpu()
