"""Causal blocks of a model that makes two samples in one step of its stack.

The stack's input at time t is samples t - 1 and t. Its dilations are even, so that an output at an
odd t depends on inputs at odd t alone: the stack is needed at every second sample, where a step is
complete (Bunched LPCNet; Vipperla et al. 2020), and its output serves the next sample as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavenet.nn.bases import InputHistory, NoParameters
from wavenet.nn.causal import check_positive
from wavenet.nn.state import State
from wavenet.nn.stft import check_state

SAMPLES_PER_STEP = 2
"""What ``samples_per_step`` may be beside 1."""


class Pairs(NoParameters, InputHistory):
    """``[B, C, T]`` to ``[B, 2 C, T]``: the sample before, above the sample itself.

    >>> Pairs(1)(torch.tensor([[[1.0, 2.0, 3.0]]])).tolist()
    [[[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]]

    Args:
        channels: C.

    Raises:
        ValueError: if channels is no positive integer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_channels = check_positive("channels", channels)

    @property
    def past(self) -> int:
        """One sample."""
        return 1

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to ``[B, 2 C, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        check_state(self, state, [(x.shape[0], self.in_channels, 1)])
        before = torch.cat([state[0], x], dim=-1).narrow(-1, 0, x.shape[-1])
        return torch.cat([before, x], dim=1), (x[..., -1:].clone(),)


class StepOutputs(NoParameters):
    """``[B, C, T]`` to ``[B, C, T]``: every second sample, held for two samples.

    The state counts the samples of each row since its last complete step, so that a row may begin
    or stop anywhere.

    >>> StepOutputs(1)(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]])).tolist()
    [[[0.0, 2.0, 2.0, 4.0]]]

    Args:
        channels: C.

    Raises:
        ValueError: if channels is no positive integer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.in_channels = check_positive("channels", channels)

    @property
    def past(self) -> int:
        """One sample."""
        return SAMPLES_PER_STEP - 1

    @property
    def period(self) -> int:
        """Two samples."""
        return SAMPLES_PER_STEP

    def oldest_input(self, n: int) -> int:
        """n where a step is complete, else the sample before."""
        return n - 1 + n % SAMPLES_PER_STEP

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(x [B, C, 1], n [B, 1])``, zeros: the last step's output, and the samples since."""
        factory = self._factory(device, dtype)
        shapes = (batch_size, self.in_channels, 1), (batch_size, 1)
        return tuple(torch.zeros(shape, **factory) for shape in shapes)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Fill the state with the last column of x, a step just complete."""
        return x[..., -1:].clone(), x.new_zeros(x.shape[0], 1)

    def completes(self, state: State, n_samples: int) -> Tensor:
        """Return where a step is complete among the next samples, ``[B, 1, T]`` bool."""
        counted = torch.arange(1, n_samples + 1, device=state[1].device) + _count(state)
        return (counted % SAMPLES_PER_STEP == 0)[:, None]

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to ``[B, C, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        check_state(self, state, [(x.shape[0], self.in_channels, 1), (x.shape[0], 1)])
        before = torch.cat([state[0], x], dim=-1).narrow(-1, 0, x.shape[-1])
        y = torch.where(self.completes(state, x.shape[-1]), x, before)
        counted = (_count(state) + x.shape[-1]) % SAMPLES_PER_STEP
        return y, (y[..., -1:].clone(), counted.to(state[1].dtype))


def _count(state: State) -> Tensor:
    """The samples since the last step, int64: in a narrow type numbers of samples are inexact."""
    return state[1].round().to(torch.int64)
