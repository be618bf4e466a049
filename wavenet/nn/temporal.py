"""The residual block of temporal convolutional networks (Bai et al. 2018, section 3.3, figure 1b).

    f(x) = dropout(relu(W2 * dropout(relu(W1 * x))))    both convolutions causal and dilated
    y    = relu(x + f(x))                               or of V x, V a 1x1 convolution

A network of them has dilations that double from block to block.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrizations

from wavenet.nn.branches import Residual
from wavenet.nn.causal import check_positive
from wavenet.nn.chain import Chain
from wavenet.nn.convolution import CausalConv1d


class TemporalBlock(Chain):
    """Two dilated causal convolutions with a connection around: ``[B, C, T]`` to ``[B, C', T]``.

    It is ``Chain(Residual(conv, relu, dropout, conv, relu, dropout), relu)``. Dropout draws for
    every sample and channel, in training mode alone.

    >>> net = Chain(*(TemporalBlock(8, 8, 3, dilation=2**i) for i in range(6)))
    >>> net.past + 1
    253

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps of both convolutions.
        dilation: samples between taps, of both.
        dropout: probability of a value to be set to 0, in training mode.
        weight_norm: whether the weights of both are normalized (Salimans and Kingma 2016), as in
            the paper; by ``torch.nn.utils.parametrizations.weight_norm``.

    Raises:
        ValueError: if a size is not a positive integer, or dropout is not within 0 to 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        dropout: float = 0.0,
        weight_norm: bool = False,
    ) -> None:
        in_channels = check_positive("in_channels", in_channels)
        out_channels = check_positive("out_channels", out_channels)
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout={dropout!r} must be a probability, from 0 to 1")
        body: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            conv = CausalConv1d(channels, out_channels, kernel_size, dilation=dilation)
            body += [
                parametrizations.weight_norm(conv) if weight_norm else conv,
                nn.ReLU(),
                nn.Dropout(dropout),
            ]
        same = in_channels == out_channels
        shortcut = None if same else nn.Conv1d(in_channels, out_channels, 1)
        super().__init__(Residual(*body, shortcut=shortcut), nn.ReLU())
        self.out_channels = out_channels
