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
from wavenet.processing.kernel import FLOAT_BYTES
from wavenet.processing.layout import Layout


@dataclass
class _Memory:
    """Memory of one row: all floats, positions of its histories, and views of buffers.

    Attributes:
        cond: of the conditioning, or None.
        others: of the outputs behind the first one.
    """

    data: np.ndarray
    positions: np.ndarray
    cond: np.ndarray | None
    others: list[np.ndarray]


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
        ends = [(buffer.number, buffer.channels) for buffer in (graph.buffers[0], graph.outputs[0])]
        layout = self._layout
        self._tables = layout.table, layout.buffers, np.array(ends), layout.weights
        self._load(histories)

    def run(self, x: Tensor, cond: Tensor | None) -> Any:
        """Process a chunk ``[B, in_channels, T]``; see ``Processor``."""
        if x.shape[0] != self._batch:
            raise ValueError(
                f"x has {x.shape[0]} rows, but the initial state has {self._batch}; begin "
                f"with state=module.init_state({x.shape[0]})"
            )
        x, n = _as_floats(x), x.shape[-1]
        outputs = [
            torch.empty(self._batch, channels, n * up // down)
            for channels, up, down in self._output_shapes
        ]
        held = None if cond is None else _as_floats(cond.detach().expand(-1, -1, n)).numpy()
        made, (channels, up, down) = outputs[0].data_ptr(), self._output_shapes[0]
        given, n_made = x.data_ptr(), n * up // down
        for row, memory in enumerate(self._memory):
            for start in range(0, n, self._capacity):
                size = min(self._capacity, n - start)
                if held is not None and memory.cond is not None:
                    memory.cond[:, :size] = held[row, :, start : start + size]
                y = made + FLOAT_BYTES * (start * up // down)
                x_at = given + FLOAT_BYTES * start
                own = memory.data, memory.positions
                kernel.run(self._tables, own, size, (x_at, n), (y, n_made))
                if len(outputs) > 1:
                    self._copy_others(row, outputs, start, size)
            given += FLOAT_BYTES * n * x.shape[1]
            made += FLOAT_BYTES * n_made * channels
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _copy_others(self, row: int, outputs: list[Tensor], start: int, size: int) -> None:
        """Copy the outputs behind the first one of a chunk of a row."""
        for output, (_, up, down), buffer in zip(
            outputs[1:], self._output_shapes[1:], self._memory[row].others, strict=True
        ):
            first, last = start * up // down, (start + size) * up // down
            output.numpy()[row, :, first:last] = buffer[:, : last - first]

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

    def _new_memory(self) -> _Memory:
        data = np.zeros(self._layout.size, np.float32)
        graph = self._graph
        return _Memory(
            data,
            np.zeros(len(self._layout.steps), np.int64),
            None if graph.cond is None else self._view(data, graph.cond),
            [self._view(data, buffer) for buffer in graph.outputs[1:]],
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


def _as_floats(x: Tensor) -> Tensor:
    """Return x as contiguous float32 on the CPU: itself, where it is that."""
    if x.dtype is not torch.float32 or not x.is_cpu:
        x = x.detach().to("cpu", torch.float32)
    return x.contiguous()
