"""Base classes of blocks, by what they keep of the past."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wavenet.nn.causal import Causal, UnboundedPastError
from wavenet.nn.state import State
from wavenet.values.computed_buffers import ComputedBuffers


class InputHistory(Causal):
    """Block whose state is its last ``past`` inputs, ``(zeros [B, in_channels, past],)``."""

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(zeros [B, in_channels, past],)``."""
        factory = self._factory(device, dtype)
        return (torch.zeros(batch_size, self.in_channels, self.past, **factory),)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Fill the state with repetitions of x, the newest complete."""
        repeated = x.repeat(1, 1, math.ceil(self.past / x.shape[-1]))
        return (repeated[..., repeated.shape[-1] - self.past :].clone(),)


class NoParameters(ComputedBuffers, Causal):
    """Block without parameters: an empty buffer remembers the device and the type."""

    empty: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_computed()

    def compute_buffers(self) -> dict[str, Tensor]:
        """``empty [0]``."""
        return {"empty": torch.empty(0)}


class Unbounded(Causal):
    """Block whose outputs depend on every earlier input."""

    @property
    def unbounded(self) -> bool:
        """True."""
        return True

    @property
    def past(self) -> int:
        """No number: an output depends on every earlier input.

        Raises:
            UnboundedPastError: always.
        """
        raise UnboundedPastError(type(self).__name__)
