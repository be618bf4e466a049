"""Feature-wise linear modulation (Perez et al. 2018, equations 1 and 2).

    y[c, t] = (1 + gamma[c, t]) x[c, t] + beta[c, t],    (gamma, beta)[t] = W h[t] + b

gamma is counted from 1, as in the models of the paper: with small W and b, y is near x.
"""

from __future__ import annotations

from torch import Tensor, nn

from wavenet.nn.causal import check_positive
from wavenet.nn.graph import ADD, CONV, COPY, MULTIPLY, Buffer, Graph, NotCompilable, bias_of, dense
from wavenet.nn.memoryless import Memoryless
from wavenet.nn.state import State


class FiLM(Memoryless):
    """Scale and shift of each channel by the conditioning: ``[B, C, T]`` to ``[B, C, T]``.

    ``cond`` is ``[B, cond_channels, T]``, a column for every sample, or one column that is held:
    a description that is constant in time.

    >>> block = FiLM(8, cond_channels=3)
    >>> y, _ = block.stream(torch.randn(2, 8, 50), block.init_state(2), torch.randn(2, 3, 1))
    >>> tuple(y.shape)
    (2, 8, 50)

    Args:
        channels: C.
        cond_channels: channels of the conditioning h.

    Raises:
        ValueError: if a size is not a positive integer.
    """

    cond_channels: int

    def __init__(self, channels: int, cond_channels: int) -> None:
        super().__init__()
        self.in_channels = self.out_channels = check_positive("channels", channels)
        self.cond_channels = check_positive("cond_channels", cond_channels)
        self.projection = nn.Conv1d(self.cond_channels, 2 * self.in_channels, 1)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to the same shape; see ``Causal.stream``."""
        self.check_call(x, cond)
        gamma, beta = self.projection(cond).chunk(2, dim=1)
        return (1 + gamma) * x + beta, self.keep(x, state)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the projection of gamma and of beta, a product and a sum."""
        (x,), h, projection = buffers, graph.cond, self.projection
        if h is None or h.rate != x.rate:
            raise NotCompilable("a FiLM at another rate than the conditioning")
        graph.check_projection(projection)
        weight, bias, c = dense(projection), bias_of(projection), self.in_channels
        y, gamma, beta = (graph.buffer(c, x.rate) for _ in range(3))
        graph.memories.append([graph.add(COPY, x, y)])
        graph.add(CONV, h, gamma, weight=weight[:c], bias=1 + bias[:c])
        graph.add(MULTIPLY, gamma, y)
        graph.add(CONV, h, beta, weight=weight[c:], bias=bias[c:])
        graph.add(ADD, beta, y)
        return (y,)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.in_channels}, {self.cond_channels}"
