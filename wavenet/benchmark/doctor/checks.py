"""Checks of ``wavenet doctor`` for blocks: what must be equal on a device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import wavenet
from wavenet.benchmark.doctor.part import Values, attempt, within
from wavenet.nn import (
    BatchNorm,
    Causal,
    CausalAttention,
    CausalConv1d,
    CausalConvTranspose1d,
    CausalISTFT,
    CausalSTFT,
    Chain,
    Concat,
    Delay,
    DepthwiseSeparableConv1d,
    DilatedStack,
    FiLM,
    GatedResidualBlock,
    LayerNorm,
    LinearPrediction,
    MelRefinement,
    Residual,
    RMSNorm,
    Snake,
    TemporalBlock,
)

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Largest difference of chunks and whole, as a share of the largest output."""
REFINEMENT_TOLERANCE = 1e-2
"""Largest error of refined audio in float32: phases of faint bins amplify rounding."""


def exact_products() -> None:
    """Keep cuDNN and cuBLAS from rounding float32 products to TF32, which 1e-3 may be lost to."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _kinds() -> dict[str, Causal]:
    """One block of each kind, small."""
    torch.manual_seed(0)
    mel = wavenet.MelConfig(n_fft=16, win_samples=8, hop_samples=2, n_mels=3)
    return {
        "CausalConv1d": CausalConv1d(3, 5, 3, dilation=4),
        "strided": CausalConv1d(4, 6, 5, stride=2),
        "CausalConvTranspose1d": CausalConvTranspose1d(4, 6, 5, stride=3),
        "GatedResidualBlock": GatedResidualBlock(6, 7, dilation=4, cond_channels=3),
        "DilatedStack": DilatedStack(6, 7, dilations=[1, 2, 4, 8]),
        "Chain": Chain(CausalConv1d(2, 3, 4), torch.nn.Tanh(), CausalConv1d(3, 1, 3, stride=2)),
        "norms": Chain(LayerNorm(4), RMSNorm(4), BatchNorm(4), Snake(4)),
        "FiLM": Chain(Delay(4, 5), FiLM(4, 3)),
        "CausalAttention": CausalAttention(4, 2, 5),
        "separable": DepthwiseSeparableConv1d(3, 5, 3, dilation=2),
        "TemporalBlock": TemporalBlock(3, 5, 3, dilation=2, weight_norm=True),
        "branches": Chain(
            Concat(
                torch.nn.Identity(),
                Chain(CausalConv1d(3, 5, 4, stride=2), CausalConvTranspose1d(5, 3, 4, stride=2)),
            ),
            Residual(CausalConv1d(6, 6, 3), Delay(6, 2)),
        ),
        "converted": wavenet.causal(
            torch.nn.Sequential(
                torch.nn.Conv1d(2, 3, 5, padding=2),
                torch.nn.MaxPool1d(2),
                torch.nn.ConvTranspose1d(3, 2, 4, 2, 1),
            ),
            delay=True,
        ),
        "CausalSTFT": CausalSTFT(16, 4, win_samples=12),
        "CausalISTFT": CausalISTFT(16, 4, win_samples=12),
        "LinearPrediction": LinearPrediction(4, pitch_taps=3, min_lag_samples=5, max_lag_samples=9),
        "MelRefinement": MelRefinement(mel, 2),
    }


def blocks(device: torch.device) -> Iterator[Values]:
    """Chunks and the whole agree for every block, in three floating types, and with the CPU."""
    exact_products()
    results: Values = {}
    for dtype, tolerance in TOLERANCES.items():
        for name, block in _kinds().items():
            if isinstance(block, MelRefinement) and dtype == torch.bfloat16:
                continue  # rounds its sums whenever a chunk ends, as its state is of this type
            check = partial(_check_block, block, device, dtype, tolerance)
            results[f"{name} {str(dtype).removeprefix('torch.')}"] = attempt(check)
        yield {"checks": results}


@torch.no_grad()
def _check_block(
    block: Causal, device: torch.device, dtype: torch.dtype, tolerance: float
) -> Values:
    """Compare a stream in chunks with the whole, and the whole with the CPU's in float64."""
    x, cond = _inputs(block, 30 * block.step)
    reference = _whole(copy.deepcopy(block).double(), x, cond)
    own = block.to(device, dtype)
    x, cond = x.to(device, dtype), None if cond is None else cond.to(device, dtype)
    whole = _whole(own, x, cond)
    state, parts, start = own.init_state(2), [], 0
    for steps in (1, 7, 1, 13, 8):
        part = slice(start, start + steps * own.step)
        y, state = own.stream(x[..., part], state, None if cond is None else cond[..., part])
        parts.append(_last(y))
        start = part.stop
    found = within(_difference(torch.cat(parts, dim=-1), whole), tolerance)
    found["error_against_cpu"] = _difference(whole, reference)
    if dtype != torch.bfloat16:
        found["passed"] = found["passed"] and found["error_against_cpu"] <= 10 * tolerance
    return found


def _inputs(block: Causal, n: int) -> tuple[Tensor, Tensor | None]:
    """``x [2, C, n]`` and, where the block takes it, ``cond``; float64 noise on the CPU."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, block.in_channels, n, generator=draw, dtype=torch.float64)
    if block.cond_channels is None:
        return x, None
    cond = torch.randn(2, block.cond_channels, n, generator=draw, dtype=torch.float64)
    return x, 0.3 * cond


def _whole(block: Causal, x: Tensor, cond: Tensor | None) -> Tensor:
    return _last(block.stream(x, block.init_state(2), cond)[0])


def _last(y: Any) -> Tensor:
    return y if isinstance(y, Tensor) else y[-1]


def _difference(a: Tensor, b: Tensor) -> float:
    """Largest difference, as a share of the largest value of b."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def contract(device: torch.device) -> Iterator[Values]:
    """``check_causal`` holds for every block on the device."""
    from wavenet.testing import ContractError, check_causal

    def check(block: Causal) -> Values:
        try:
            check_causal(block, device=device)
        except ContractError as error:
            return {"broken": str(error)[:500], "passed": False}
        return {"passed": True}

    results: Values = {}
    for name, block in _kinds().items():
        results[name] = attempt(partial(check, block))
        yield {"checks": results}


def refinement(device: torch.device) -> Iterator[Values]:
    """Audio that is refined on the device is what the CPU makes of it in float64."""
    exact_products()
    draw = torch.Generator().manual_seed(0)
    config = wavenet.MelConfig()
    recording = 0.1 * torch.randn(2, 8000, generator=draw, dtype=torch.float64)
    made = recording + 0.05 * torch.randn(2, 8000, generator=draw, dtype=torch.float64)
    mel = wavenet.log_mel(recording, config)
    expected = wavenet.refine(made, mel, config, 4)

    def check(dtype: torch.dtype, tolerance: float) -> Values:
        given = made.to(device, dtype), mel.to(device, dtype)
        return within(_difference(wavenet.refine(*given, config, 4), expected), tolerance)

    results: Values = {}
    tolerances = {torch.float64: 1e-8, torch.float32: REFINEMENT_TOLERANCE}
    for dtype, tolerance in tolerances.items():
        name = f"4 passes {str(dtype).removeprefix('torch.')}"
        results[name] = attempt(partial(check, dtype, tolerance))
        yield {"checks": results}


def training_window(device: torch.device) -> Iterator[Values]:
    """The training window has the skip sums and the gradients of ``stream``."""
    exact_products()
    results: Values = {}
    for dtype in (torch.float64, torch.float32):
        check = partial(_check_window, device, dtype)
        results[str(dtype).removeprefix("torch.")] = attempt(check)
        yield {"checks": results}


def _check_window(device: torch.device, dtype: torch.dtype) -> Values:
    from wavenet.nn import LiftedFrames
    from wavenet.training.window import skip_sum_of

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
    errors = [_difference(a, b) for a, b in zip(found, expected, strict=True)]
    return within(max(errors), 10 * TOLERANCES[dtype])


def _gradients(stack: DilatedStack, x: Tensor, y: Tensor) -> list[Tensor]:
    weights = [p for name, p in stack.named_parameters() if "blocks.4.residual" not in name]
    return list(torch.autograd.grad(y.square().sum(), [x, *weights]))
