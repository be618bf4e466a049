"""Conditioning on the level of a recording: one class; a model is trained and generates by it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

import wavenet
from wavenet.distributions import bits_per_sample
from wavenet.model.conditioner import Condition, Recording, register_condition


@register_condition
class Loudness(Condition):
    """Root mean square of a recording and its natural logarithm, [B, 2]."""

    name: ClassVar[str] = "loudness"
    encoder: ClassVar[str] = "loudness_encoder"

    def make_encoder(self, channels: int) -> nn.Module:
        """Layers from [B, 2] to [B, channels, 1]."""
        return nn.Sequential(nn.Linear(2, channels), nn.Unflatten(1, (channels, 1)))

    def example(self, rows: int, n_frames: int) -> Tensor:
        """Values of a recording of full scale."""
        return torch.tensor([1.0, 0.0]).expand(rows, 2)

    def of_recording(self, recording: Recording) -> Tensor:
        """Value that ``wavenet train`` gives with each window of a recording, [2]."""
        return values_of(recording.audio(0, recording.n_samples).square().mean().sqrt())


def values_of(rms: Tensor) -> Tensor:
    """Values [..., 2] of root mean squares [...]."""
    return torch.stack([rms, rms.clamp_min(1e-4).log()], -1)


def main() -> None:
    """Train on noise of two levels, and generate at each."""
    torch.manual_seed(0)
    config = wavenet.WaveNetConfig(
        sample_rate=8000,
        layers_per_stack=3,
        stacks=1,
        residual_channels=16,
        skip_channels=16,
        distribution="gaussian",
        conditions=("loudness",),
    )
    model = wavenet.WaveNet(config)
    levels = torch.tensor([0.3, 0.003])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(100):
        noise = model.distribution.quantize(levels[:, None] * torch.randn(2, 500)).clamp(-1, 1)
        params = model(noise[:, None], conditions={"loudness": values_of(levels)})[..., :-1]
        loss = bits_per_sample(model.distribution.log_prob(params, noise[:, 1:]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    given = {"loudness": values_of(levels)}
    audio = wavenet.generate(model.eval(), n_samples=2000, conditions=given, seed=0)
    loud, low = audio.square().mean(-1).sqrt().tolist()
    print(f"loudness 0.3: root mean square {loud:.4f}; loudness 0.003: {low:.4f}")


if __name__ == "__main__":
    main()
