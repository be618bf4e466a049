"""Causal blocks of every kind that there is; several test files run through this list."""

from __future__ import annotations

from torch import nn

from wavenet import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    DilatedStack,
    FeatureConfig,
    GatedResidualBlock,
    WaveNet,
    WaveNetConfig,
)
from wavenet.conversion.joins import Product
from wavenet.conversion.network import CausalNetwork, Node
from wavenet.conversion.onset import DelayedRecurrent, Onset
from wavenet.conversion.pooling import CausalMaxPool1d
from wavenet.nn import (
    GRU,
    LSTM,
    BatchNorm,
    CausalAttention,
    Concat,
    Delay,
    DepthwiseSeparableConv1d,
    FiLM,
    LayerNorm,
    Parallel,
    Residual,
    RMSNorm,
    Snake,
    TemporalBlock,
)
from wavenet.nn.steps import Pairs, StepOutputs

SMALL = {"layers_per_stack": 2, "stacks": 2, "residual_channels": 4, "skip_channels": 6}


def u_net(channels: int, depth: int, stride: int = 2) -> Chain:
    """Strided convolutions down, transposed ones up, and a connection on every level."""
    inside = [u_net(2 * channels, depth - 1)] if depth > 1 else []
    inner = Chain(
        CausalConv1d(channels, 2 * channels, 2 * stride, stride=stride),
        nn.ELU(),
        *inside,
        CausalConvTranspose1d(2 * channels, channels, 2 * stride, stride=stride),
        nn.ELU(),
    )
    return Chain(Concat(nn.Identity(), inner), CausalConv1d(2 * channels, channels, 3))


BLOCKS: dict[str, Causal] = {
    "conv": CausalConv1d(2, 4, 3, dilation=2),
    "conv of kernel size 1": CausalConv1d(2, 3, 1),
    "conv in groups, without bias": CausalConv1d(4, 6, 2, groups=2, bias=False),
    "strided conv": CausalConv1d(2, 3, 5, stride=3),
    "strided dilated conv": CausalConv1d(2, 3, 2, stride=2, dilation=3),
    "transposed conv": CausalConvTranspose1d(2, 3, 5, stride=2),
    "transposed conv with gaps": CausalConvTranspose1d(2, 3, 2, stride=3),
    "transposed conv in groups": CausalConvTranspose1d(4, 6, 4, stride=2, groups=2, bias=False),
    "chain": Chain(nn.Conv1d(1, 4, 1), CausalConv1d(4, 4, 2), nn.Tanh(), CausalConv1d(4, 2, 3)),
    "chain down and up": Chain(
        CausalConv1d(1, 4, 4, stride=4), nn.ReLU(), CausalConvTranspose1d(4, 1, 8, stride=4)
    ),
    "gated block": GatedResidualBlock(4, 3, kernel_size=3, dilation=4),
    "gated block with cond": GatedResidualBlock(4, 3, gate_channels=6, cond_channels=5),
    "stack": DilatedStack(4, 3, dilations=[1, 2, 4, 1]),
    "stack with cond": DilatedStack(4, 3, kernel_size=3, dilations=[1, 3], cond_channels=2),
    "delay": Delay(3, 5),
    "delay of nothing": Delay(3, 0),
    "pairs": Pairs(3),
    "outputs of steps": StepOutputs(3),
    "layer norm": LayerNorm(4),
    "rms norm": RMSNorm(4),
    "batch norm": BatchNorm(4),
    "film": FiLM(4, 3),
    "chain of norms": Chain(
        CausalConv1d(2, 4, 3), LayerNorm(4), Snake(4), FiLM(4, 3), CausalConv1d(4, 2, 2), RMSNorm(2)
    ),
    "parallel": Parallel(
        CausalConv1d(2, 3, 3), Chain(Delay(2, 2), CausalConv1d(2, 3, 2)), nn.Conv1d(2, 3, 1)
    ),
    "parallel with cond": Parallel(FiLM(3, 2), CausalConv1d(3, 3, 2, dilation=4)),
    "residual": Residual(CausalConv1d(3, 4, 2), nn.Tanh(), Delay(4, 3), CausalConv1d(4, 3, 2)),
    "concat at half the rate": Concat(
        CausalConv1d(2, 1, 3, stride=2), Chain(Delay(2, 3), CausalConv1d(2, 2, 4, stride=2))
    ),
    "u-net": u_net(2, depth=2),
    "separable conv": DepthwiseSeparableConv1d(3, 5, 3, dilation=2),
    "strided separable conv": DepthwiseSeparableConv1d(3, 2, 4, stride=2, bias=False),
    "temporal block": TemporalBlock(3, 3, 3, dilation=2, dropout=0.5),
    "normalized temporal block": TemporalBlock(2, 4, 2, weight_norm=True),
    "attention": CausalAttention(4, 2, 5),
    "lstm": LSTM(2, 3),
    "lstm of two layers": LSTM(2, 3, num_layers=2, bias=False),
    "residual lstm": Residual(LSTM(2, 3), nn.Conv1d(3, 2, 1)),
    "gru of two layers": GRU(2, 3, num_layers=2),
    "onset": Onset(2, 3),
    "delayed lstm": DelayedRecurrent(LSTM(3, 4), 2),
    "delayed gru": DelayedRecurrent(GRU(2, 3), 4),
    "maximum": CausalMaxPool1d(2, 3, dilation=2),
    "strided maximum": CausalMaxPool1d(2, 2, stride=2),
    "network": CausalNetwork(
        [
            Node("down", CausalConv1d(2, 4, 3, stride=2), (0,)),
            Node("gate", nn.Sequential(nn.Conv1d(4, 4, 1), nn.Sigmoid()), (1,)),
            Node("late", Delay(4, 1), (1,)),
            Node("gated", Product(), (3, 2)),
            Node("up", CausalConvTranspose1d(4, 3, 4, stride=2), (4,)),
        ],
        2,
    ),
    "model": WaveNet(WaveNetConfig(**SMALL, distribution="gaussian")),
    "model of speakers": WaveNet(WaveNetConfig(**SMALL, distribution_size=16, speakers=3)),
    "model with features": WaveNet(
        WaveNetConfig(
            **SMALL,
            distribution="logistic_mixture",
            distribution_size=2,
            features=FeatureConfig(channels=3, hop_samples=4),
        )
    ),
}
"""Every kind of block that there is; `test_no_block_of_the_package_is_missing` sees to that."""
