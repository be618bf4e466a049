"""Discretized Laplace distribution: one class, and a model is trained and sampled with it."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

import wavenet
from wavenet.distributions import (
    STEP,
    X_MAX,
    X_MIN,
    Distribution,
    bits_per_sample,
    register_distribution,
)


def laplace_cdf(z: Tensor) -> Tensor:
    """CDF of the standard Laplace distribution."""
    tail = 0.5 * torch.exp(-z.abs())
    return torch.where(z < 0, tail, 1 - tail)


@register_distribution
@dataclass(frozen=True)
class Laplace(Distribution):
    """Laplace distribution of location m and scale s; parameters [B, 2, T] are m and log s."""

    name: ClassVar[str] = "laplace"
    uniforms_per_sample: ClassVar[int] = 1
    n_params: ClassVar[int] = 2  # type: ignore[assignment]

    def mean(self, params: Tensor) -> Tensor:
        """Location, [B, T]."""
        return params[:, 0]

    def initial_params(self) -> Tensor:
        """Location 0 and a scale of 0.05 of full scale."""
        return torch.tensor([0.0, math.log(0.05)])

    def _log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        location, scale = params[:, 0], params[:, 1].clamp(-12, 4).exp()
        upper = torch.where(x >= X_MAX, torch.inf, (x + STEP / 2 - location) / scale)
        lower = torch.where(x <= X_MIN, -torch.inf, (x - STEP / 2 - location) / scale)
        mirrored = lower > 0  # the density is symmetric: subtract where the CDF is small
        upper, lower = torch.where(mirrored, -lower, upper), torch.where(mirrored, -upper, lower)
        return (laplace_cdf(upper) - laplace_cdf(lower)).clamp_min(1e-30).log()

    def _sample(
        self, params: Tensor, uniforms: Tensor, temperature: float, top_p: float | None
    ) -> Tensor:
        from_half = uniforms[:, 0] - 0.5
        quantile = -from_half.sign() * torch.log1p(-2 * from_half.abs())
        scale = params[:, 1].clamp(-12, 4).exp() * temperature
        return self.quantize(params[:, 0] + scale * quantile)


def main() -> None:
    """Fit 60 steps to a tone, generate, save and load."""
    torch.manual_seed(0)
    config = wavenet.WaveNetConfig(
        sample_rate=8000, layers_per_stack=5, stacks=1, residual_channels=16, skip_channels=16,
        distribution="laplace",
    )  # fmt: skip
    model = wavenet.WaveNet(config)
    tone = model.distribution.quantize(0.3 * torch.sin(torch.arange(2000) * 0.3)).expand(2, -1)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    bits = []
    for _ in range(60):
        params = model(tone[:, None])[..., :-1]  # those of column t belong to sample t + 1
        loss = bits_per_sample(model.distribution.log_prob(params, tone[:, 1:]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bits.append(float(loss.detach()))
    model.eval()
    audio = wavenet.generate(model, n_samples=800, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        again = wavenet.load(Path(folder) / "model")
    assert torch.equal(wavenet.generate(again, n_samples=800, seed=0), audio)
    print(f"laplace: {bits[0]:.2f} -> {bits[-1]:.2f} bits per sample, {audio.shape[-1]} samples")


if __name__ == "__main__":
    main()
