"""Blocks that leave out the columns of a delayed signal that come before its first one.

A signal that is delayed by S samples begins with S columns for which the network had no input yet.
The zeros with which a later layer of the original pads its input, and the state in which a
recurrent layer begins, belong in their place. Both blocks tell these columns from the others by a
line of S zeros in their state, into which ones are shifted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavenet.nn.bases import NoParameters, Unbounded
from wavenet.nn.causal import Causal, check_positive
from wavenet.nn.graph import CONV, MULTIPLY, Buffer, Graph
from wavenet.nn.recurrent import GRU, LSTM
from wavenet.nn.state import State
from wavenet.nn.stft import check_state

CLOSED = 1e4
"""Input of a sigmoid at which it is exactly 0 or 1, beside any other input of moderate size."""


class Onset(NoParameters):
    """Zeros in place of the first ``samples`` columns of a stream: ``[B, C, T]`` as it was.

    Args:
        channels: C.
        samples: number of columns from the beginning of the stream on, at least 1.

    Raises:
        ValueError: if an argument is not a positive integer.
    """

    def __init__(self, channels: int, samples: int) -> None:
        super().__init__()
        self.in_channels = self.out_channels = check_positive("channels", channels)
        self.samples = check_positive("samples", samples)

    @property
    def past(self) -> int:
        """0: of the past it knows the number of columns alone."""
        return 0

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(zeros [B, 1, samples],)``."""
        return (torch.zeros(batch_size, 1, self.samples, **self._factory(device, dtype)),)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Ones: the beginning is long ago."""
        return (x.new_ones(x.shape[0], 1, self.samples),)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to ``[B, C, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        check_state(self, state, [(x.shape[0], 1, self.samples)])
        begun, after = shift_in_ones(state[0], x.shape[-1])
        return x * begun, (after,)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append a constant 1, its delay by ``samples``, and a product of every channel with it."""
        (x,) = buffers
        one, begun, all_begun = graph.buffer(1, x.rate), graph.buffer(1, x.rate), graph.copy(x)
        taps = torch.zeros(1, x.channels, 1).numpy()
        graph.add(CONV, x, one, weight=taps, bias=torch.ones(1).numpy())
        delay = torch.tensor([[[1.0, 0.0]]]).numpy()
        nothing = torch.zeros(1).numpy()
        line = graph.add(CONV, one, begun, weight=delay, bias=nothing, dilation=self.samples)
        graph.memories.append([line])
        every = graph.buffer(x.channels, x.rate)
        spread = torch.ones(x.channels, 1, 1).numpy()
        graph.add(CONV, begun, every, weight=spread, bias=torch.zeros(x.channels).numpy())
        graph.add(MULTIPLY, every, all_begun)
        return (all_begun,)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.in_channels}, {self.samples}"


class DelayedRecurrent(Unbounded):
    """One layer of an LSTM or GRU that keeps its state of zeros for the first ``samples`` columns.

    Where ``hold`` is 1, the input gate of the LSTM is closed, or the update gate of the GRU keeps
    the state: zeros stay zeros exactly. The state is ``(begun [B, 1, samples], state of rnn)``.

    Args:
        rnn: of one layer, with one more input channel than the signal has, the last one: hold.
        samples: see above.

    Raises:
        ValueError: if rnn has several layers, or samples is not a positive integer.
    """

    def __init__(self, rnn: LSTM | GRU, samples: int) -> None:
        super().__init__()
        if rnn.num_layers != 1:
            raise ValueError(f"rnn has {rnn.num_layers} layers; make a block of each")
        self.rnn, self.samples = rnn, check_positive("samples", samples)
        self.in_channels, self.out_channels = rnn.in_channels - 1, rnn.out_channels

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Zeros."""
        factory = self._factory(device, dtype)
        begun = torch.zeros(batch_size, 1, self.samples, **factory)
        return begun, self.rnn.init_state(batch_size, **factory)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """The state after repetitions of x; see ``LSTM``."""
        inside = self.rnn.settle(torch.cat([x, torch.zeros_like(x[:, :1])], dim=1))
        return x.new_ones(x.shape[0], 1, self.samples), inside

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, in_channels, T]`` to ``[B, out_channels, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_children(state, 2)
        check_state(self, state[:1], [(x.shape[0], 1, self.samples)])
        begun, after = shift_in_ones(state[0], x.shape[-1])
        y, inside = self.rnn.stream(torch.cat([x, 1 - begun], dim=1), state[1])
        return y, (after, inside)

    def extra_repr(self) -> str:
        """The number of columns."""
        return f"samples={self.samples}"


def shift_in_ones(line: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return the n oldest columns of a line that n ones are shifted into, and the line after."""
    samples = line.shape[-1]
    joined = torch.cat([line, line.new_ones(line.shape[0], 1, n)], dim=-1)
    return joined.narrow(-1, 0, n), joined.narrow(-1, n, samples).clone()


def delayed_layers(rnn: torch.nn.LSTM | torch.nn.GRU, samples: int) -> list[Causal]:
    """Return the layers of a recurrent module of torch as blocks that begin ``samples`` later."""
    layers: list[Causal] = []
    for i in range(rnn.num_layers):
        weights = [getattr(rnn, f"weight_{kind}_l{i}") for kind in ("ih", "hh")]
        kind = LSTM if isinstance(rnn, torch.nn.LSTM) else GRU
        channels = weights[0].shape[1] + 1
        block = kind(channels, rnn.hidden_size, bias=bool(rnn.bias))
        # Rows: input, forget, cell and output gate of an LSTM; reset and update gate of a GRU, ...
        first, value = (0, -CLOSED) if kind is LSTM else (rnn.hidden_size, CLOSED)
        hold = weights[0].new_zeros(weights[0].shape[0], 1)
        hold[first : first + rnn.hidden_size] = value
        values = {"weight_ih_l0": torch.cat([weights[0], hold], dim=1), "weight_hh_l0": weights[1]}
        for name in ("bias_ih", "bias_hh") if rnn.bias else ():
            values[f"{name}_l0"] = getattr(rnn, f"{name}_l{i}")
        block.rnn.load_state_dict({name: value.detach() for name, value in values.items()})
        layers.append(DelayedRecurrent(block.to(weights[0].device, weights[0].dtype), samples))
    return layers
