"""The maximum over a window of the past."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.nn.bases import InputHistory, NoParameters
from wavenet.nn.causal import check_positive
from wavenet.nn.state import State
from wavenet.nn.stft import check_state


class CausalMaxPool1d(NoParameters, InputHistory):
    """Maximum of the newest samples of each channel: ``[B, C, T]`` to ``[B, C, T / stride]``.

    ``y[j] = max_i x[stride j - dilation i]``, ``0 <= i < kernel_size``. Before a stream are zeros.

    Args:
        channels: C.
        kernel_size: samples that are compared.
        stride: input samples per output sample.
        dilation: samples between those that are compared.

    Raises:
        ValueError: if an argument is not a positive integer.
    """

    def __init__(
        self, channels: int, kernel_size: int, *, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.in_channels = self.out_channels = check_positive("channels", channels)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        self.dilation = check_positive("dilation", dilation)
        self.step = check_positive("stride", stride)
        self.rate = Fraction(1, self.step)

    @property
    def past(self) -> int:
        """``(kernel_size - 1) * dilation`` samples."""
        return (self.kernel_size - 1) * self.dilation

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to ``[B, C, T / stride]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        check_state(self, state, [(x.shape[0], self.in_channels, self.past)])
        joined = torch.cat([state[0], x], dim=-1)
        y = F.max_pool1d(joined, self.kernel_size, self.step, 0, self.dilation)
        return y, (joined.narrow(-1, x.shape[-1], self.past).clone(),)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.in_channels}, {self.kernel_size}, stride={self.step}"
