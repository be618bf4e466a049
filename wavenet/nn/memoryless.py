"""Base class of blocks in which an output depends on the input sample of its own time alone."""

from __future__ import annotations

import torch
from torch import Tensor

from wavenet.nn.causal import Causal
from wavenet.nn.state import State
from wavenet.nn.stft import check_state


class Memoryless(Causal):
    """A block with ``past`` 0, whose state keeps no samples: ``(zeros [B, in_channels, 0],)``.

    The state counts the rows of the batch, as that of a convolution of kernel size 1 does. A
    subclass sets ``in_channels`` and defines ``stream``, which returns ``keep(x, state)``.

    >>> class Gain(Memoryless):
    ...     in_channels = 1
    ...
    ...     def stream(self, x, state, cond=None):
    ...         return 2 * x, self.keep(x, state)
    >>> wavenet.testing.check_causal(Gain())
    >>> Chain(Delay(1, 1), Gain())(torch.ones(1, 1, 3)).tolist()
    [[[0.0, 2.0, 2.0]]]
    """

    @property
    def past(self) -> int:
        """0."""
        return 0

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(zeros [B, in_channels, 0],)``."""
        return (torch.zeros(batch_size, self.in_channels, 0, **self._factory(device, dtype)),)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Return the state, which is always the same."""
        return (x[..., :0].clone(),)

    def keep(self, x: Tensor, state: State) -> State:
        """Return the state after x.

        Raises:
            ValueError: if the state has other shapes.
        """
        check_state(self, state, [(x.shape[0], self.in_channels, 0)])
        return (state[0].clone(),)
