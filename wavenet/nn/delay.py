"""A delay, as a block: y[t] = x[t - samples]."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from wavenet.nn.bases import InputHistory, NoParameters
from wavenet.nn.causal import check_positive
from wavenet.nn.graph import CONV, Buffer, Graph, ungrouped
from wavenet.nn.state import State
from wavenet.nn.stft import check_state
from wavenet.values.integers import as_integer


class Delay(NoParameters, InputHistory):
    """``[B, C, T]`` to the same signal ``samples`` later, after zeros.

    >>> Delay(1, 2)(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist()
    [[[0.0, 0.0, 1.0]]]

    Args:
        channels: C.
        samples: of the delay, at least 0.

    Raises:
        ValueError: if channels is no positive integer, or samples no integer of at least 0.
    """

    def __init__(self, channels: int, samples: int) -> None:
        super().__init__()
        self.in_channels = self.out_channels = check_positive("channels", channels)
        self.samples = as_integer("samples", samples, least=0)
        self.delay = Fraction(self.samples)

    @property
    def past(self) -> int:
        """``samples``."""
        return self.samples

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to ``[B, C, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        check_state(self, state, [(x.shape[0], self.in_channels, self.samples)])
        joined, n = torch.cat([state[0], x], dim=-1), x.shape[-1]
        return joined.narrow(-1, 0, n), (joined.narrow(-1, n, self.samples).clone(),)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append a diagonal convolution of two taps, of which the newer is zero."""
        (x,) = buffers
        y = graph.buffer(self.out_channels, x.rate)
        taps = torch.tensor([1.0, 0.0] if self.samples else [1.0])
        kernel = ungrouped(taps.expand(self.in_channels, 1, -1), self.in_channels)
        bias, dilation = np.zeros(self.in_channels, np.float32), max(1, self.samples)
        operation = graph.add(CONV, x, y, weight=kernel, bias=bias, dilation=dilation)
        graph.memories.append([operation])
        return (y,)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.in_channels}, {self.samples}"
