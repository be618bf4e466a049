"""Execution of a graph: the state and memory of each row, and calls of the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.nn import Causal, State, flatten_state, unflatten_state
from wavenet.nn.graph import Buffer, Graph
from wavenet.processing import CAPACITY, kernel, table
from wavenet.processing.layout import Layout


@dataclass
class _Memory:
    """Memory of one row: all floats, positions of its histories, and views of input and output."""

    data: np.ndarray
    positions: np.ndarray
    x: np.ndarray
    cond: np.ndarray | None
    outputs: list[np.ndarray]


class Executor:
    """Runs a graph on chunks.

    Args:
        module: the block of the graph.
        graph: see ``Graph.of``.
        state: initial one, canonical.
    """

    def __init__(self, module: Causal, graph: Graph, state: State) -> None:
        self._graph, self._state = graph, state
        self._capacity = max(module.step, CAPACITY // module.step * module.step)
        self._layout = Layout(graph, self._capacity)
        histories = list(flatten_state(state))
        self._batch = histories[0].shape[0] if histories else 1
        self._memory = [self._new_memory() for _ in range(self._batch)]
        self._output_shapes = [
            (buffer.channels, buffer.rate.numerator, buffer.rate.denominator)
            for buffer in graph.outputs
        ]
        self._load(histories)

    def run(self, x: Tensor, cond: Tensor | None) -> Any:
        """Process a chunk ``[B, in_channels, T]``; see ``Processor``."""
        if x.shape[0] != self._batch:
            raise ValueError(
                f"x has {x.shape[0]} rows, but the initial state has {self._batch}; begin "
                f"with state=module.init_state({x.shape[0]})"
            )
        n = x.shape[-1]
        arrays = [
            np.empty((self._batch, channels, n * up // down), np.float32)
            for channels, up, down in self._output_shapes
        ]
        given = _as_array(x)
        held = None if cond is None else _as_array(cond.expand(-1, -1, n))
        for start in range(0, n, self._capacity):
            stop = min(start + self._capacity, n)
            for row in range(self._batch):
                self._run_row(row, given, held, arrays, start, stop)
        if len(arrays) == 1:
            return torch.from_numpy(arrays[0])
        return tuple(torch.from_numpy(array) for array in arrays)

    def state(self) -> State:
        """The canonical state: the last ``past`` inputs of each convolution."""
        tensors = []
        for memory in self._graph.memories:
            operation = memory[0]
            index = self._layout.row_of(operation)
            past, n_in = operation.past, operation.source.channels
            history = np.zeros((self._batch, n_in, past), np.float32)
            for row in range(self._batch if past else 0):
                position = self._memory[row].positions[index]
                history[row] = self._history(row, index)[:, position : position + past]
            tensors.append(torch.from_numpy(history))
        return unflatten_state(self._state, iter(tensors))

    def _run_row(
        self,
        row: int,
        given: np.ndarray,
        held: np.ndarray | None,
        arrays: list[np.ndarray],
        start: int,
        stop: int,
    ) -> None:
        memory, n = self._memory[row], stop - start
        memory.x[:, :n] = given[row, :, start:stop]
        if held is not None and memory.cond is not None:
            memory.cond[:, :n] = held[row, :, start:stop]
        layout = self._layout
        kernel.run(layout.table, layout.buffers, layout.weights, memory.data, memory.positions, n)
        for array, (_, up, down), view in zip(
            arrays, self._output_shapes, memory.outputs, strict=True
        ):
            first, last = start * up // down, stop * up // down
            array[row, :, first:last] = view[:, : last - first]

    def _new_memory(self) -> _Memory:
        data = np.zeros(self._layout.size, np.float32)
        graph = self._graph
        return _Memory(
            data,
            np.zeros(len(self._layout.steps), np.int64),
            self._view(data, graph.buffers[0]),
            None if graph.cond is None else self._view(data, graph.cond),
            [self._view(data, buffer) for buffer in graph.outputs],
        )

    def _view(self, data: np.ndarray, buffer: Buffer) -> np.ndarray:
        """View of a buffer, ``[channels, row]``."""
        start, row = self._layout.buffers[buffer.number, :2]
        return data[start : start + buffer.channels * row].reshape(buffer.channels, row)

    def _history(self, row: int, index: int) -> np.ndarray:
        """View of an operation's history, ``[in, row]``."""
        columns = [table.IN, table.HISTORY, table.HISTORY_ROW]
        n_in, start, length = self._layout.table[index, columns]
        return self._memory[row].data[start : start + n_in * length].reshape(n_in, length)

    def _load(self, histories: list[Tensor]) -> None:
        """Put the canonical state into the histories, at position 0."""
        for memory, history in zip(self._graph.memories, histories, strict=True):
            for operation in memory:
                if operation.past:
                    index = self._layout.row_of(operation)
                    values = history.detach().float().numpy()
                    for row in range(self._batch):
                        self._history(row, index)[:, : operation.past] = values[row]


def _as_array(x: Tensor) -> np.ndarray:
    """Return x as float32 on the CPU; of what is that already, a view, without a tensor between."""
    if x.dtype is torch.float32 and x.device.type == "cpu" and not x.requires_grad:
        return x.numpy()
    return x.detach().to("cpu", torch.float32).numpy()
