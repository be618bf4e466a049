"""A causal block made of others, as a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn

from wavenet.nn.causal import Causal, UnboundedPastError, common_period, is_causal, stream_child
from wavenet.nn.graph import Buffer, Graph
from wavenet.nn.state import State


@dataclass(frozen=True)
class Node:
    """A module of a graph.

    Attributes:
        name: unique, without dots.
        module: a causal block of one signal, or a module pointwise in time of one or several.
            Where a block returns several, a ``Select`` is the only module that takes them.
        inputs: the signals that it takes: 0 is the network's input, i + 1 what node i returns.
    """

    name: str
    module: nn.Module
    inputs: tuple[int, ...]


class CausalNetwork(Causal):
    """Causal blocks and pointwise modules as a graph: ``[B, C, T]`` to ``[B, C', T * rate]``.

    Made by ``wavenet.causal``. The state has one entry per node; that of a pointwise module is
    empty.

    >>> net = causal(nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.Conv1d(8, 1, 3)))
    >>> isinstance(net, CausalNetwork), net.past, net.first_column
    (True, 4, 4)

    Args:
        nodes: each takes what nodes before it return; the last one returns the output.
        in_channels: C.
        delay: see ``Causal``.
        first_column: see below.

    Attributes:
        first_column: column of the output that equals the first one of the original module.

    Raises:
        ValueError: if nodes is empty.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        in_channels: int,
        *,
        delay: Fraction = Fraction(0),
        first_column: int = 0,
    ) -> None:
        super().__init__()
        if not nodes:
            raise ValueError("nodes is empty; a network has at least one module")
        self.in_channels, self.delay, self.first_column = in_channels, delay, first_column
        self.nodes = nn.ModuleDict({node.name: node.module for node in nodes})
        self._inputs = tuple(node.inputs for node in nodes)
        rates, step = [Fraction(1)], 1
        for node in nodes:
            rate = rates[node.inputs[0]]
            if is_causal(node.module):
                block = cast(Causal, node.module)
                step = math.lcm(step, (rate / block.step).denominator)
                rate *= block.rate
            rates.append(rate)
        self._rates = tuple(rates)
        self.step = math.lcm(step, *(rate.denominator for rate in rates))
        self.rate = rates[-1]
        # Signals that no node needs after node i.
        last_use = {value: i for i, inputs in enumerate(self._inputs) for value in inputs}
        self._done = tuple(
            tuple(value for value, last in last_use.items() if last == i) for i in range(len(nodes))
        )

    @property
    def period(self) -> int:
        """The common period of the nodes, in samples of the input."""
        nodes = zip(self._inputs, self.nodes.values(), strict=True)
        parts = [(self._rates[of[0]], cast(Causal, node)) for of, node in nodes if is_causal(node)]
        return common_period(self.step, parts)

    @property
    def unbounded(self) -> bool:
        """Whether a node depends on its whole past."""
        return any(cast(Causal, node).unbounded for node in self.nodes.values() if is_causal(node))

    @property
    def past(self) -> int:
        """Largest left context of any output in one period of the sample rates.

        Raises:
            UnboundedPastError: if a node depends on its whole past.
        """
        if self.unbounded:
            raise UnboundedPastError(type(self).__name__)
        oldest = self._oldest()
        return max(math.floor(n / self.rate) - first for n, first in enumerate(oldest))

    def oldest_input(self, n: int) -> int:
        """The earliest input that output n depends on, by any path."""
        return _at(self._oldest(), n, self.period)

    def _oldest(self) -> tuple[int, ...]:
        """The earliest inputs of the outputs of one period, ``period * rate`` of them."""
        period = self.period
        oldest: list[tuple[int, ...]] = [tuple(range(period))]
        for i, module in enumerate(self.nodes.values()):
            before = [oldest[value] for value in self._inputs[i]]
            if is_causal(module):
                block, (one,) = cast(Causal, module), before
                n = int(period * self._rates[i + 1])
                oldest.append(tuple(_at(one, block.oldest_input(m), period) for m in range(n)))
            else:
                oldest.append(tuple(min(of) for of in zip(*before, strict=True)))
        return oldest[-1]

    def layers(self) -> list[tuple[str, Causal]]:
        """The causal blocks, if the signal passes all nodes one after another; else none."""
        if any(inputs != (i,) for i, inputs in enumerate(self._inputs)):
            return []
        nodes = self.nodes.items()
        return [(name, cast(Causal, node)) for name, node in nodes if is_causal(node)]

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Return one state per node; that of a pointwise module is empty."""
        factory = self._factory(device, dtype)
        return tuple(
            cast(Causal, node).init_state(batch_size, **factory) if is_causal(node) else ()
            for node in self.nodes.values()
        )

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle node after node, each on periodic signals."""
        states: list[State] = []
        values = {0: x}
        for i, module in enumerate(self.nodes.values()):
            given = [values[value] for value in self._inputs[i]]
            if is_causal(module):
                states.append(cast(Causal, module).settle(given[0]))
                values[i + 1] = stream_child(module, given[0], states[-1])[0]
            else:
                states.append(())
                values[i + 1] = module(*given)
        return tuple(states)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, in_channels, T]`` to ``[B, C', T * rate]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_children(state, len(self.nodes))
        states: list[State] = []
        values = {0: x}
        for i, module in enumerate(self.nodes.values()):
            given = [values[value] for value in self._inputs[i]]
            if is_causal(module):
                values[i + 1], after = stream_child(module, given[0], state[i])
            else:
                self._check_empty(state[i])
                values[i + 1], after = module(*given), ()
            states.append(after)
            for value in self._done[i]:
                del values[value]
        return values[len(self.nodes)], tuple(states)

    def _check_empty(self, state: State) -> None:
        """Raise ValueError unless this is the state of a pointwise module."""
        if state != ():
            self._check_children((state,), 0)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the operations of node after node."""
        values = [buffers]
        for i, module in enumerate(self.nodes.values()):
            given = [buffer for value in self._inputs[i] for buffer in values[value]]
            values.append(graph.module(module, tuple(given)))
        return values[-1]


def _at(oldest: tuple[int, ...], n: int, period: int) -> int:
    """Entry n of what repeats after one period of inputs."""
    periods, phase = divmod(n, len(oldest))
    return oldest[phase] + periods * period
