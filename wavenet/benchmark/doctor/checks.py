"""Checks of ``wavenet doctor``: what must be equal on a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import wavenet
from wavenet.generation.engines.base import Engine, GenerationState, Request
from wavenet.generation.options import engine_class
from wavenet.nn import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    DilatedStack,
    GatedResidualBlock,
)

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Largest difference of chunks and whole, as a share of the largest output."""
ENGINE_TOLERANCE = 2e-3
"""Of params against ``stream``, as a share of the largest: float32 sums in another order."""


def blocks(device: torch.device) -> dict[str, Any]:
    """Chunks, single steps and the whole agree for every block, in three floating types."""
    torch.manual_seed(0)
    kinds: dict[str, Causal] = {
        "CausalConv1d": CausalConv1d(3, 5, 3, dilation=4),
        "strided": CausalConv1d(4, 6, 5, stride=2),
        "CausalConvTranspose1d": CausalConvTranspose1d(4, 6, 5, stride=3),
        "GatedResidualBlock": GatedResidualBlock(6, 7, dilation=4, cond_channels=3),
        "DilatedStack": DilatedStack(6, 7, dilations=[1, 2, 4, 8]),
        "Chain": Chain(CausalConv1d(2, 3, 4), torch.nn.Tanh(), CausalConv1d(3, 1, 3, stride=2)),
    }
    results = {}
    for dtype, tolerance in TOLERANCES.items():
        for name, block in kinds.items():
            own = block.to(device, dtype)
            error = _chunk_error(own, device, dtype)
            results[f"{name} {str(dtype).removeprefix('torch.')}"] = {
                "error": error,
                "passed": error <= tolerance,
            }
    return {"checks": results}


@torch.no_grad()
def _chunk_error(block: Causal, device: torch.device, dtype: torch.dtype) -> float:
    """Largest difference of a stream in chunks to the whole, as a share of the largest output."""
    n = 30 * block.step
    x = torch.randn(2, block.in_channels, n, device=device, dtype=dtype)
    cond = None
    if block.cond_channels is not None:
        cond = torch.randn(2, block.cond_channels, n, device=device, dtype=dtype)
    whole = _first(block.stream(x, block.init_state(2), cond)[0])
    state, parts, start = block.init_state(2), [], 0
    for steps in (1, 7, 1, 13, 8):
        part = slice(start, start + steps * block.step)
        y, state = block.stream(x[..., part], state, None if cond is None else cond[..., part])
        parts.append(_first(y))
        start = part.stop
    difference = (torch.cat(parts, dim=-1) - whole).abs().max() / whole.abs().max()
    return float(difference)


def _first(y: Any) -> Tensor:
    return y if isinstance(y, Tensor) else y[-1]


def _models() -> dict[str, wavenet.WaveNet]:
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
    }
    torch.manual_seed(0)
    models = {}
    for name, settings in given.items():
        model = wavenet.WaveNet(wavenet.WaveNetConfig(**{**sizes, **settings})).eval()
        with torch.no_grad():  # a fresh head answers everything alike
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        models[name] = model
    return models


def engines(device: torch.device) -> dict[str, Any]:
    """Every engine gives the parameters of ``stream`` when it is fed the same samples."""
    names = ["eager", "cpu"] if device.type == "cpu" else ["eager", "gpu", "gpu-fused"]
    results: dict[str, Any] = {}
    for title, model in _models().items():
        model.to(device)
        expected = _forced("stream", model)
        for name in names:
            try:
                found = _forced(name, model)
            except (ValueError, ModuleNotFoundError) as error:
                results[f"{title} {name}"] = {"refused": str(error)}
                continue
            off = float((found - expected).abs().max() / expected.abs().max())
            results[f"{title} {name}"] = {"error": off, "passed": off <= ENGINE_TOLERANCE}
    return {"checks": results}


def _forced(engine: str, model: wavenet.WaveNet) -> Tensor:
    """Parameters ``[B, P, T]`` of an engine that is fed 70 given samples."""
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
        request = Request(frames, 0, 1.0, None, torch.float32)
        running: Engine = engine_class(engine, model)(model, request, start)
    x = model.distribution.quantize(0.3 * torch.randn(2, 70, generator=draw))
    return running.force(x).cpu()


def training_window(device: torch.device) -> dict[str, Any]:
    """The training window has the skip sums and the gradients of ``stream``."""
    from wavenet.nn import LiftedFrames
    from wavenet.training.window import skip_sum_of

    results = {}
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(0)
        stack = DilatedStack(20, 28, dilations=[1, 2, 4, 8, 16], cond_channels=5).to(device, dtype)
        x = torch.randn(2, 20, 200, device=device, dtype=dtype, requires_grad=True)
        frames = torch.randn(2, 5, 10, device=device, dtype=dtype)
        lift = torch.eye(10, device=device, dtype=dtype).repeat_interleave(20, dim=1)
        cond = LiftedFrames(frames, lift)
        (_, whole), _ = stack.stream(x, stack.init_state(2), cond.samples)
        expected = [whole[..., -90:], *_gradients(stack, x, whole[..., -90:])]
        window = skip_sum_of(stack, x, cond, 90)
        found = [window, *_gradients(stack, x, window)]
        errors = [
            float(((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).detach())
            for a, b in zip(found, expected, strict=True)
        ]
        results[str(dtype).removeprefix("torch.")] = {
            "error": max(errors),
            "passed": max(errors) <= 10 * TOLERANCES[dtype],
        }
    return {"checks": results}


def _gradients(stack: DilatedStack, x: Tensor, y: Tensor) -> list[Tensor]:
    weights = [p for name, p in stack.named_parameters() if "blocks.4.residual" not in name]
    return list(torch.autograd.grad(y.square().sum(), [x, *weights]))
