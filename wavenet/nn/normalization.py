"""Normalizations that need no other time: over channels, or by statistics that are fixed.

With mean and variance over the C channels of one sample,

    LayerNorm   y[c] = w[c] (x[c] - mean) / sqrt(variance + eps) + b[c]
                                                                    (Ba et al. 2016, equation 4)
    RMSNorm     y[c] = w[c] x[c] / sqrt(sum_c x[c]^2 / C + eps)
                                                        (Zhang and Sennrich 2019, equation 4)

and with the statistics of each channel over a training set

    BatchNorm   y[c] = w[c] (x[c] - mean[c]) / sqrt(variance[c] + eps) + b[c]
                                                      (Ioffe and Szegedy 2015, algorithm 2, line 11)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.nn.causal import check_positive
from wavenet.nn.graph import NORMALIZE, Buffer, Graph
from wavenet.nn.memoryless import Memoryless
from wavenet.nn.state import State


class _Normalization(Memoryless):
    """Base: checked sizes, and a weight and a bias per channel."""

    def __init__(self, channels: int, eps: float, *, weight: bool, bias: bool) -> None:
        super().__init__()
        self.in_channels = self.out_channels = check_positive("channels", channels)
        if not eps > 0:
            raise ValueError(f"eps={eps!r} must be above 0: silence would be divided by 0")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(self.in_channels)) if weight else None
        self.bias = nn.Parameter(torch.zeros(self.in_channels)) if bias else None

    def reset_parameters(self) -> None:
        """Set weights to 1 and biases to 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _normalize(self, graph: Graph, x: Buffer, *, centred: bool) -> Buffer:
        """Append a normalization over channels; return the buffer that it writes."""
        y, zeros = graph.buffer(self.out_channels, x.rate), torch.zeros(self.in_channels)
        weight = zeros + 1 if self.weight is None else self.weight
        bias = zeros if self.bias is None else self.bias
        settings = (self.eps, float(centred), *weight.tolist(), *bias.tolist())
        graph.memories.append([graph.add(NORMALIZE, x, y, settings=settings)])
        return y

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.in_channels}, eps={self.eps}"


class LayerNorm(_Normalization):
    """Normalization of every sample over its channels: ``[B, C, T]`` to ``[B, C, T]``.

    Equal to ``torch.nn.LayerNorm(C)`` of x with channels last, from which it loads: ``weight [C]``
    and ``bias [C]``.

    >>> x = torch.randn(2, 4, 9)
    >>> theirs = nn.LayerNorm(4)(x.transpose(1, 2)).transpose(1, 2)
    >>> torch.allclose(LayerNorm(4)(x), theirs, atol=1e-6)
    True

    Args:
        channels: C.
        eps: added to the variance.
        affine: whether there are a weight and a bias per channel.
        bias: whether there is a bias, if affine.

    Raises:
        ValueError: if channels is no positive integer, or eps is not above 0.
    """

    def __init__(
        self, channels: int, *, eps: float = 1e-5, affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__(channels, eps, weight=affine, bias=affine and bias)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to the same shape; see ``Causal.stream``."""
        self.check_call(x, cond)
        after, shape = self.keep(x, state), (self.in_channels,)
        y = F.layer_norm(x.transpose(1, 2), shape, self.weight, self.bias, self.eps)
        return y.transpose(1, 2), after

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append one operation."""
        return (self._normalize(graph, buffers[0], centred=True),)


class RMSNorm(_Normalization):
    """Division of every sample by the root mean square of its channels, ``[B, C, T]`` as it was.

    Equal to ``torch.nn.RMSNorm(C, eps)`` of x with channels last, from which it loads:
    ``weight [C]``.

    >>> y = RMSNorm(4)(torch.randn(2, 4, 9))
    >>> torch.allclose(y.square().mean(dim=1), torch.ones(2, 9), atol=1e-3)
    True

    Args:
        channels: C.
        eps: added to the mean square.
        affine: whether there is a weight per channel.

    Raises:
        ValueError: if channels is no positive integer, or eps is not above 0.
    """

    def __init__(self, channels: int, *, eps: float = 1e-6, affine: bool = True) -> None:
        super().__init__(channels, eps, weight=affine, bias=False)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to the same shape; see ``Causal.stream``."""
        self.check_call(x, cond)
        after = self.keep(x, state)
        # The weight apart: torch warns where autocast gives x another type.
        y = F.rms_norm(x.transpose(1, 2), (self.in_channels,), eps=self.eps).transpose(1, 2)
        return (y if self.weight is None else self.weight[:, None] * y), after

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append one operation."""
        return (self._normalize(graph, buffers[0], centred=False),)


class BatchNorm(_Normalization):
    """Batch normalization by the statistics that it was given: ``[B, C, T]`` to ``[B, C, T]``.

    The mean over a batch depends on later samples and on other rows, so no causal block can take
    it. This one always uses ``running_mean [C]`` and ``running_var [C]``, in training mode too, and
    never changes them: it is a scale and a shift per channel. Its parameters and buffers load
    from a trained ``torch.nn.BatchNorm1d(C)``, which it equals in evaluation mode.

    >>> block = BatchNorm(4)
    >>> trained = nn.BatchNorm1d(4).eval()
    >>> block.load_state_dict(trained.state_dict(), strict=False).missing_keys
    []
    >>> x = torch.randn(2, 4, 9)
    >>> torch.allclose(block(x), trained(x))
    True

    Args:
        channels: C.
        eps: added to the variance.
        affine: whether there are a weight and a bias per channel.

    Raises:
        ValueError: if channels is no positive integer, or eps is not above 0.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(channels, eps, weight=affine, bias=affine)
        self.register_buffer("running_mean", torch.zeros(self.in_channels))
        self.register_buffer("running_var", torch.ones(self.in_channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))  # of torch's; not used

    def reset_parameters(self) -> None:
        """Set weights and variances to 1, biases and means to 0."""
        super().reset_parameters()
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to the same shape; see ``Causal.stream``."""
        self.check_call(x, cond)
        after, statistics = self.keep(x, state), (self.running_mean, self.running_var)
        return F.batch_norm(x, *statistics, self.weight, self.bias, eps=self.eps), after

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append a 1x1 convolution, diagonal."""
        operation = graph.batch_norm(self, buffers[0])
        graph.memories.append([operation])
        return (operation.target,)
