"""Causal convolutions: dilated or strided, and transposed.

For kernel size k and dilation d (van den Oord et al. 2016, section 2.1)

    y[t] = b + sum_i W[i] x[t - (k - 1 - i) d],    i = 0 .. k - 1, tap 0 the oldest,

so the next output needs the last ``past = (k - 1) d`` inputs, and these are the state.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.nn.bases import InputHistory
from wavenet.nn.causal import check_positive
from wavenet.nn.graph import CONV, INTERLEAVE, Buffer, Graph, bias_of, ungrouped
from wavenet.nn.state import State


class _Convolution(InputHistory):
    """Base of the two convolutions: parameters, and a state of the last inputs."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        groups: int,
        stride: int,
        bias: bool,
        weight_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        in_channels = check_positive("in_channels", in_channels)
        out_channels = check_positive("out_channels", out_channels)
        kernel_size = check_positive("kernel_size", kernel_size)
        groups = check_positive("groups", groups)
        stride = check_positive("stride", stride)
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.groups, self.stride = kernel_size, groups, stride
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights and bias uniformly within 1 / sqrt(fan_in), as torch's convolutions do."""
        bound = 1 / math.sqrt(self.in_channels // self.groups * self.kernel_size)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def _join(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the state followed by x, and the last ``past`` samples of both, cloned."""
        past = self.past
        expected = (x.shape[0], self.in_channels, past)
        if not (isinstance(state, tuple) and len(state) == 1 and isinstance(state[0], Tensor)):
            found = "not a tuple of one tensor"
        elif state[0].shape != expected:
            found = f"of shape {tuple(state[0].shape)}"
        else:
            joined = torch.cat([state[0], x], dim=-1)
            return joined, (joined.narrow(-1, x.shape[-1], past).clone(),)
        raise ValueError(
            f"{type(self).__name__}: the state is {found}, expected {expected} for x of shape "
            f"{tuple(x.shape)}; make it with `state = block.init_state({x.shape[0]})` and continue "
            "with the returned one: `y, state = block.stream(x, state)`"
        )

    def extra_repr(self) -> str:
        """The arguments, as they were given."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


class CausalConv1d(_Convolution):
    """Dilated convolution over the present and the past (van den Oord et al. 2016, 2.1).

    Its parameters have the names and shapes of ``torch.nn.Conv1d``, and load from it:
    ``weight [out_channels, in_channels / groups, kernel_size]``, tap 0 the oldest, and ``bias``.
    With a stride s, output j belongs to input sample s j, and every call takes a multiple of s.

    >>> block = CausalConv1d(1, 4, 3, dilation=8)
    >>> block.past
    16
    >>> x = torch.randn(2, 1, 100)
    >>> first, state = block.stream(x[..., :60], block.init_state(2))
    >>> second, state = block.stream(x[..., 60:], state)
    >>> torch.allclose(torch.cat([first, second], dim=2), block(x), atol=1e-6)
    True

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps, at least 1.
        dilation: samples between taps.
        groups: channel groups that do not see each other.
        stride: input samples per output sample.
        bias: whether a constant is added to each channel.

    Raises:
        ValueError: if an argument is not a positive integer, or groups does not divide channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        groups: int = 1,
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        dilation, stride = check_positive("dilation", dilation), check_positive("stride", stride)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            groups=groups,
            stride=stride,
            bias=bias,
            weight_shape=(out_channels, in_channels // max(groups, 1), kernel_size),
        )
        self.dilation = dilation
        if stride != 1:
            self.step = stride
            self.rate = Fraction(1, stride)

    @property
    def past(self) -> int:
        """``(kernel_size - 1) * dilation`` samples."""
        return (self.kernel_size - 1) * self.dilation

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, in_channels, T]`` to ``[B, out_channels, T / stride]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        joined, state = self._join(x, state)
        y = F.conv1d(joined, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return y, state

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append one convolution, and a decimation by ``stride``."""
        return (graph.convolution(self, buffers[0]),)

    def extra_repr(self) -> str:
        """The arguments, as they were given."""
        text = super().extra_repr()
        for name, default in (("dilation", 1), ("groups", 1), ("stride", 1)):
            if getattr(self, name) != default:
                text += f", {name}={getattr(self, name)}"
        return text if self.bias is not None else text + ", bias=False"


class CausalConvTranspose1d(_Convolution):
    """Transposed convolution that raises the sample rate by ``stride``, without looking ahead.

        y[n] = b + sum_j W[n - stride j] x[j],    0 <= n - stride j < kernel_size,

    of which the outputs ``stride j .. stride j + stride - 1`` are due when ``x[j]`` arrives. Its
    parameters have the names and shapes of ``torch.nn.ConvTranspose1d``:
    ``weight [in_channels, out_channels / groups, kernel_size]`` and ``bias``.

    >>> block = CausalConvTranspose1d(8, 4, 10, stride=5)
    >>> tuple(block(torch.randn(1, 8, 20)).shape), block.rate
    ((1, 4, 100), Fraction(5, 1))

    Args:
        in_channels: channels of x.
        out_channels: channels of y.
        kernel_size: taps at the output rate, at least 1.
        stride: output samples per input sample.
        groups: channel groups that do not see each other.
        bias: whether a constant is added to each channel.

    Raises:
        ValueError: if an argument is not a positive integer, or groups does not divide channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            groups=groups,
            stride=stride,
            bias=bias,
            weight_shape=(in_channels, out_channels // max(groups, 1), kernel_size),
        )
        self.rate = Fraction(stride)

    @property
    def past(self) -> int:
        """``floor((kernel_size - 1) / stride)`` input samples."""
        return (self.kernel_size - 1) // self.stride

    def oldest_input(self, n: int) -> int:
        """``ceil((n - kernel_size + 1) / stride)``: the left context depends on the phase of n."""
        return -((self.kernel_size - 1 - n) // self.stride)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, in_channels, T]`` to ``[B, out_channels, T * stride]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        joined, state = self._join(x, state)
        silent_tail = max(0, self.stride - self.kernel_size)  # samples without a tap
        y = F.conv_transpose1d(
            joined, self.weight, self.bias, self.stride, 0, silent_tail, self.groups
        )
        first, n = self.past * self.stride, x.shape[-1] * self.stride
        return y[..., first : first + n], state

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append a convolution per phase p: y[s j + p] = b + sum_m W[s m + p] x[j - m]."""
        (x,) = buffers
        y = graph.buffer(self.out_channels, x.rate * self.stride)
        by_input = self.weight.unflatten(0, (self.groups, -1))  # [groups, in / groups, ..., k]
        kernel = ungrouped(by_input.transpose(1, 2).flatten(0, 1), self.groups)  # [out, in, k]
        memory = []
        for phase in range(self.stride):
            taps = kernel[:, :, phase :: self.stride][:, :, ::-1]  # the oldest first
            missing = self.past + 1 - taps.shape[2]
            taps = np.pad(taps, ((0, 0), (0, 0), (missing, 0)))
            one = graph.buffer(self.out_channels, x.rate)
            memory.append(graph.add(CONV, x, one, weight=taps, bias=bias_of(self)))
            graph.add(INTERLEAVE, one, y, factor=self.stride, phase=phase)
        graph.memories.append(memory)
        return (y,)

    def extra_repr(self) -> str:
        """The arguments, as they were given."""
        text = f"{super().extra_repr()}, stride={self.stride}"
        text += f", groups={self.groups}" if self.groups != 1 else ""
        return text if self.bias is not None else text + ", bias=False"
