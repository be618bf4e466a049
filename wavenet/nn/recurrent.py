"""Recurrent layers: LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014), by torch.

Their state is not a window of the input but a summary of all of it, so no number of samples bounds
``past``: the blocks are ``unbounded``, and asking for ``past`` is an error.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from wavenet.nn.bases import Unbounded
from wavenet.nn.causal import check_positive
from wavenet.nn.exact import difference
from wavenet.nn.graph import GRU as GRU_LAYER
from wavenet.nn.graph import LSTM as LSTM_LAYER
from wavenet.nn.graph import Buffer, Graph, NotCompilable, Recurrence
from wavenet.nn.state import State, flatten_state

SETTLING_SAMPLES = 48_000
"""Longest repetition of an input from which a settled state is taken."""
_BLOCK = 4096


class _Recurrent(Unbounded):
    """Base of both layers. ``[B, in_channels, T]`` to ``[B, hidden_channels, T]``.

    Attributes:
        rnn: the layer of torch, batch first.
        out_channels: ``hidden_channels``.
    """

    _kind: type[nn.LSTM | nn.GRU]
    _n_tensors: int
    _operation: int

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        *,
        num_layers: int = 1,
        bias: bool = True,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        if bidirectional:
            raise ValueError(
                f"{type(self).__name__}: bidirectional={bidirectional!r} would look ahead; a "
                "causal block has one direction, so leave it out"
            )
        self.in_channels = check_positive("in_channels", in_channels)
        self.out_channels = check_positive("hidden_channels", hidden_channels)
        self.num_layers = check_positive("num_layers", num_layers)
        sizes = self.in_channels, self.out_channels, self.num_layers
        self.rnn = self._kind(*sizes, bias=bias, batch_first=True)

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Zeros ``[B, num_layers, hidden_channels]``: hidden values, and an LSTM's cells."""
        shape = batch_size, self.num_layers, self.out_channels
        factory: dict[str, Any] = self._factory(device, dtype)
        return tuple(torch.zeros(shape, **factory) for _ in range(self._n_tensors))

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """The state after repetitions of x: when it stays, or after ``SETTLING_SAMPLES``."""
        repeated = x.repeat(1, 1, -(-_BLOCK // x.shape[-1]))
        state = self.init_state(x.shape[0], device=x.device, dtype=x.dtype)
        for _ in range(-(-SETTLING_SAMPLES // repeated.shape[-1])):
            before, state = state, self.stream(repeated, state, cond)[1]
            pairs = zip(flatten_state(before), flatten_state(state), strict=True)
            if all(torch.equal(old, new) for old, new in pairs):
                break
        return state

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, in_channels, T]`` to ``[B, hidden_channels, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_state(state, x.shape[0])
        parts = tuple(part.transpose(0, 1).contiguous() for part in state)
        given = parts if self._n_tensors > 1 else parts[0]
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # oneDNN's LSTM raises RuntimeError in bfloat16 on a CPU without its instructions.
            with torch.autocast("cpu", enabled=False):
                y, after = self.rnn(x.transpose(1, 2).to(next(self.parameters()).dtype), given)
        else:
            y, after = self.rnn(x.transpose(1, 2), given)
        after = after if isinstance(after, tuple) else (after,)
        owned = tuple(
            part.transpose(0, 1).clone(memory_format=torch.contiguous_format) for part in after
        )
        return y.transpose(1, 2), owned

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append an operation for each layer.

        Raises:
            NotCompilable: if ``rnn`` was replaced by another module than the block made.
        """
        (x,) = buffers
        rnn = cast(Any, self.rnn)
        found = difference(rnn, self._kind, "a layer")
        if found is not None or rnn.bidirectional or rnn.proj_size or rnn.dropout:
            name = self._kind.__name__
            raise NotCompilable(
                found or f"{name}: a layer with dropout, projections or two directions"
            )
        layers = []
        for i in range(self.num_layers):
            weight, bias = self._layer(i)
            y = graph.buffer(self.out_channels, x.rate)
            weights = {"weight": weight[:, :, None].numpy(), "bias": bias.numpy()}
            layers.append(graph.add(self._operation, x, y, **weights))
            x = y
        graph.memories += [Recurrence(tuple(layers), part) for part in range(self._n_tensors)]
        return (x,)

    def _layer(self, index: int) -> tuple[Tensor, Tensor]:
        """Weights ``[4 hidden, in + hidden]`` and biases ``[4 hidden]`` of a layer's operation."""
        raise NotImplementedError

    def _parameters_of(self, index: int) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of a layer for its inputs, and for its hidden values."""
        parts = []
        for name in ("ih", "hh"):
            weight = getattr(self.rnn, f"weight_{name}_l{index}").detach()
            bias = getattr(self.rnn, f"bias_{name}_l{index}").detach() if self.rnn.bias else None
            parts.append((weight, weight.new_zeros(len(weight)) if bias is None else bias))
        return parts

    def _check_state(self, state: State, batch_size: int) -> None:
        """Raise ValueError unless the state has this block's shapes."""
        self._check_children(state, self._n_tensors)
        shape = batch_size, self.num_layers, self.out_channels
        for part in state:
            if not isinstance(part, Tensor) or tuple(part.shape) != shape:
                found = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
                raise ValueError(
                    f"{type(self).__name__}: a tensor of the state is {found}, expected {shape}; "
                    f"make it with `state = block.init_state({batch_size})`"
                )


class LSTM(_Recurrent):
    """Long short-term memory; the state is ``(hidden, cell)``, each ``[B, num_layers, hidden]``.

    >>> block = LSTM(1, 8, num_layers=2)
    >>> y, state = block.stream(torch.zeros(3, 1, 5), block.init_state(3))
    >>> tuple(y.shape), tuple(state[0].shape)
    ((3, 8, 5), (3, 2, 8))

    Args:
        in_channels: channels of x.
        hidden_channels: channels of the output, and size of each layer's state.
        num_layers: layers, each on the output of the one before.
        bias: whether the gates have biases.
        bidirectional: False; a layer that runs backwards is not causal.

    Raises:
        ValueError: if a size is no positive integer, or for ``bidirectional``.
    """

    _kind = nn.LSTM
    _n_tensors = 2
    _operation = LSTM_LAYER

    def _layer(self, index: int) -> tuple[Tensor, Tensor]:
        of_input, of_hidden = self._parameters_of(index)
        return torch.cat([of_input[0], of_hidden[0]], dim=1), of_input[1] + of_hidden[1]


class GRU(_Recurrent):
    """Gated recurrent unit; the state is ``(hidden,)``, ``[B, num_layers, hidden]``.

    >>> block = GRU(1, 8, num_layers=2)
    >>> y, state = block.stream(torch.zeros(3, 1, 5), block.init_state(3))
    >>> tuple(y.shape), tuple(state[0].shape)
    ((3, 8, 5), (3, 2, 8))

    Args:
        in_channels: channels of x.
        hidden_channels: channels of the output, and size of each layer's state.
        num_layers: layers, each on the output of the one before.
        bias: whether the gates have biases.
        bidirectional: False; a layer that runs backwards is not causal.

    Raises:
        ValueError: if a size is no positive integer, or for ``bidirectional``.
    """

    _kind = nn.GRU
    _n_tensors = 1
    _operation = GRU_LAYER

    def _layer(self, index: int) -> tuple[Tensor, Tensor]:
        # The reset gate multiplies the new values' part of the hidden values alone, bias included.
        of_input, of_hidden = self._parameters_of(index)
        gates = 2 * self.out_channels  # reset and update
        sums = torch.cat([of_input[0][:gates], of_hidden[0][:gates]], dim=1)
        new = torch.block_diag(of_input[0][gates:], of_hidden[0][gates:])
        bias = of_input[1][:gates] + of_hidden[1][:gates]
        return torch.cat([sums, new]), torch.cat([bias, of_input[1][gates:], of_hidden[1][gates:]])
