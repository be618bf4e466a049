"""The reference of ``bench train``: the network in its plainest form.

One ``Conv1d`` for each arrow of van den Oord et al. 2016, figure 4; conditioning lifted to samples
and projected by every layer at each of them; all samples through the head; automatic
differentiation. Only its speed matters: it has the sizes of a ``WaveNet``, not its weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.data import WindowPlan
from wavenet.distributions import make_distribution
from wavenet.model.config import WaveNetConfig
from wavenet.nn import FrameEncoder, FrameLift, SpeakerEmbedding


class PlainLayer(nn.Module):
    """A gated residual layer: x ``[B, R, T]`` to ``(y, skip)``."""

    def __init__(self, config: WaveNetConfig, dilation: int) -> None:
        super().__init__()
        residual, cond = config.residual_channels, config.conditioning_channels
        gates = config.gate_channels or 2 * residual
        self.padding = (config.kernel_size - 1) * dilation
        self.conv = nn.Conv1d(residual, gates, config.kernel_size, dilation=dilation)
        self.cond = None if cond is None else nn.Conv1d(cond, gates, 1, bias=False)
        self.residual = nn.Conv1d(gates // 2, residual, 1)
        self.skip = nn.Conv1d(gates // 2, config.skip_channels, 1)

    def forward(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """cond ``[B, C, T]``."""
        z = self.conv(F.pad(x, (self.padding, 0)))
        if self.cond is not None and cond is not None:
            z = z + self.cond(cond)
        first, second = z.chunk(2, dim=1)
        gated = torch.tanh(first) * torch.sigmoid(second)
        return x + self.residual(gated), self.skip(gated)


class PlainWaveNet(nn.Module):
    """The sizes of a configuration, and the loss of a batch of windows.

    Args:
        config: any; sizes, conditioning and output distribution are taken from it.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.distribution = make_distribution(config.distribution, config.distribution_size)
        channels, skips, cond = (
            config.residual_channels,
            config.skip_channels,
            config.conditioning_channels,
        )
        self.encoder: nn.Module | None = None
        self.speakers: nn.Module | None = None
        if config.local is not None and cond is not None:
            self.encoder = FrameEncoder(config.local.channels, cond)
            self.lift = FrameLift(
                config.local.hop_samples, centre_samples=config.local.centre_samples
            )
        if config.speakers and cond is not None:
            self.speakers = SpeakerEmbedding(config.speakers, cond)
        self.entry = nn.Conv1d(1, channels, 1)
        self.layers = nn.ModuleList(PlainLayer(config, dilation) for dilation in config.dilations)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(skips, skips, 1),
            nn.ReLU(),
            nn.Conv1d(skips, self.distribution.n_params, 1),
        )

    def bits_per_sample(self, batch: dict[str, Tensor], plan: WindowPlan) -> Tensor:
        """The loss of windows as ``Windows`` makes them, collated."""
        x = batch["x"]
        inputs = self.distribution.quantize(x)[..., :-1]
        cond = self._condition(batch, plan, inputs)
        hidden = self.entry(self.distribution.network_input(inputs))
        skip_sum = torch.zeros((), device=x.device)
        for layer in self.layers:
            hidden, skip = layer(hidden, cond)
            skip_sum = skip_sum + skip
        params = self.head(skip_sum)[..., -plan.length :]
        log_prob = self.distribution.log_prob(params, x[:, 0, -plan.length :])
        return -log_prob.mean() / math.log(2)

    def _condition(
        self, batch: dict[str, Tensor], plan: WindowPlan, inputs: Tensor
    ) -> Tensor | None:
        """Compute the conditioning at the rate of the samples: ``[B, C, T]``."""
        cond: Tensor | None = None
        if self.encoder is not None:
            margin = plan.context_frames * plan.hop
            rows = batch["mel"] if plan.mel is None else plan.mel.normalised(batch["mel"])
            lifted = self.lift(self.encoder(rows))
            cond = lifted[..., margin : margin + inputs.shape[-1]]
        if self.speakers is not None:
            embedded: Tensor = self.speakers(batch["speaker"])
            cond = (embedded if cond is None else cond + embedded).expand(-1, -1, inputs.shape[-1])
        return cond
