"""Depthwise-separable convolution (Howard et al. 2017, section 3.1; Chollet 2017).

    h[c, t] = b[c] + sum_i D[c, i] x[c, t - (k - 1 - i) d]      each channel by itself
    y[t]    = P h[t] + q                                        across channels, at one time

It has ``C k + C C'`` weights, where a convolution has ``C C' k``.
"""

from __future__ import annotations

from typing import cast

from torch import nn

from wavenet.nn.causal import check_positive
from wavenet.nn.chain import Chain
from wavenet.nn.convolution import CausalConv1d


class DepthwiseSeparableConv1d(Chain):
    """A causal convolution of each channel, then a 1x1 convolution across channels.

    ``x [B, in_channels, T]`` to ``[B, out_channels, T / stride]``. It is the chain of
    ``depthwise`` and ``pointwise``, so that parameters are named ``blocks.0`` and ``blocks.1``.

    >>> count = lambda block: sum(weight.numel() for weight in block.parameters())
    >>> count(DepthwiseSeparableConv1d(64, 64, 9)), count(CausalConv1d(64, 64, 9))
    (4800, 36928)

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps of each channel.
        dilation: samples between taps.
        stride: input samples per output sample.
        bias: whether both convolutions add a constant to each channel.

    Raises:
        ValueError: if a size is not a positive integer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        channels = check_positive("in_channels", in_channels)
        depthwise = CausalConv1d(
            channels,
            channels,
            kernel_size,
            dilation=dilation,
            groups=channels,
            stride=stride,
            bias=bias,
        )
        out_channels = check_positive("out_channels", out_channels)
        super().__init__(depthwise, nn.Conv1d(channels, out_channels, 1, bias=bias))
        self.out_channels = out_channels

    @property
    def depthwise(self) -> CausalConv1d:
        """The convolution along time."""
        return cast(CausalConv1d, self.blocks[0])

    @property
    def pointwise(self) -> nn.Conv1d:
        """The convolution across channels."""
        return cast(nn.Conv1d, self.blocks[1])
