"""Execution of a graph: memory layout of buffers, histories and weights; calls of the kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.nn import Causal, State, flatten_state, unflatten_state
from wavenet.nn.graph import CONV, COPY, Buffer, Graph, Operation
from wavenet.processing import CAPACITY, kernel
from wavenet.processing.kernel import LANES, OUTPUTS

_CHUNKS_OF_HISTORY = 4
"""Number of the largest chunks after which a history moves its past to the front."""
_NO_SETTINGS = (0.0,) * 4
"""Padding after the settings of an operation: the kernel always reads four."""


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
        self._buffers = np.zeros((len(graph.buffers), 4), np.int64)
        self._table = np.zeros((len(graph.operations), kernel.N_COLUMNS), np.int64)
        self._weights = np.zeros(0, np.float32)
        size = self._place_buffers()
        size = self._place_operations(size)
        histories = list(flatten_state(state))
        self._batch = histories[0].shape[0] if histories else 1
        self._memory = [self._new_memory(size) for _ in range(self._batch)]
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
        outputs = [
            torch.empty(self._batch, channels, n * up // down)
            for channels, up, down in self._output_shapes
        ]
        arrays = [output.numpy() for output in outputs]
        given = x.detach().to("cpu", torch.float32).numpy()
        held = None if cond is None else cond.detach().float().expand(-1, -1, n).numpy()
        for start in range(0, n, self._capacity):
            stop = min(start + self._capacity, n)
            for row in range(self._batch):
                self._run_row(row, given, held, arrays, start, stop)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    def state(self) -> State:
        """The canonical state: the last ``past`` inputs of each convolution."""
        tensors = []
        for memory in self._graph.memories:
            index = self._graph.operations.index(memory[0])
            operation = memory[0]
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
        kernel.run(self._table, self._buffers, self._weights, memory.data, memory.positions, n)
        for array, (_, up, down), view in zip(
            arrays, self._output_shapes, memory.outputs, strict=True
        ):
            first, last = start * up // down, stop * up // down
            array[row, :, first:last] = view[:, : last - first]

    def _new_memory(self, size: int) -> _Memory:
        data = np.zeros(size, np.float32)
        graph = self._graph
        return _Memory(
            data,
            np.zeros(len(graph.operations), np.int64),
            self._view(data, graph.buffers[0]),
            None if graph.cond is None else self._view(data, graph.cond),
            [self._view(data, buffer) for buffer in graph.outputs],
        )

    def _view(self, data: np.ndarray, buffer: Buffer) -> np.ndarray:
        """View of a buffer, ``[channels, row]``."""
        start, row = self._buffers[buffer.number, :2]
        return data[start : start + buffer.channels * row].reshape(buffer.channels, row)

    def _history(self, row: int, index: int) -> np.ndarray:
        """View of an operation's history, ``[in, row]``."""
        n_in, start, length = self._table[index, [kernel.IN, kernel.HISTORY, kernel.HISTORY_ROW]]
        return self._memory[row].data[start : start + n_in * length].reshape(n_in, length)

    def _place_buffers(self) -> int:
        """Assign memory to every buffer; return the number of floats.

        Memory is reused after the last operation that reads it, so that a deep network fits into
        the nearest cache. A pointwise operation may write where it reads.
        """
        last_use = {buffer.number: len(self._graph.operations) for buffer in self._graph.outputs}
        for index, operation in enumerate(self._graph.operations):
            for buffer in (operation.source, operation.target):
                last_use[buffer.number] = max(last_use.get(buffer.number, 0), index)
        free: dict[int, list[int]] = {}
        at, placed = 0, set()

        def place(buffer: Buffer) -> None:
            nonlocal at
            if buffer.number in placed:
                return
            placed.add(buffer.number)
            row = _padded(math.ceil(self._capacity * buffer.rate), 2 * LANES)
            size = _padded(buffer.channels, OUTPUTS) * row
            if free.get(size):
                start = free[size].pop()
            else:
                start, at = at, at + size
            numbers = start, row, buffer.rate.numerator, buffer.rate.denominator
            self._buffers[buffer.number] = numbers

        def release(buffer: Buffer) -> None:
            size = _padded(buffer.channels, OUTPUTS) * int(self._buffers[buffer.number, 1])
            free.setdefault(size, []).append(int(self._buffers[buffer.number, 0]))

        place(self._graph.buffers[0])
        if self._graph.cond is not None:
            place(self._graph.cond)
            last_use[self._graph.cond.number] = len(self._graph.operations)
        for index, operation in enumerate(self._graph.operations):
            by_sample = operation.kind >= COPY
            done = last_use[operation.source.number] == index
            if done and by_sample:
                release(operation.source)
            place(operation.target)
            if done and not by_sample:
                release(operation.source)
        return at

    def _place_operations(self, at: int) -> int:
        """Fill the table and pack the weights; return the number of floats with histories."""
        packed: list[np.ndarray] = []
        n_packed = 0

        def pack(values: np.ndarray) -> int:
            nonlocal n_packed
            packed.append(values.astype(np.float32).ravel())
            n_packed += len(packed[-1])
            return n_packed - len(packed[-1])

        for index, operation in enumerate(self._graph.operations):
            entry = self._table[index]
            entry[kernel.KIND] = operation.kind
            entry[kernel.SOURCE] = operation.source.number
            entry[kernel.TARGET] = operation.target.number
            entry[kernel.IN] = operation.source.channels
            entry[kernel.OUT] = operation.target.channels
            entry[kernel.HISTORY] = -1
            entry[kernel.FACTOR], entry[kernel.PHASE] = operation.factor, operation.phase
            entry[kernel.SETTINGS] = pack(np.array([*operation.settings, *_NO_SETTINGS]))
            if operation.kind == CONV:
                at = self._place_conv(entry, operation, pack, at)
        self._weights = np.concatenate(packed)
        return at

    def _place_conv(self, entry: np.ndarray, operation: Operation, pack: Any, at: int) -> int:
        weight, bias = operation.weight, operation.bias
        assert weight is not None
        assert bias is not None
        out, n_in, taps = weight.shape
        padded = math.ceil(out / OUTPUTS) * OUTPUTS
        full = np.zeros((padded, n_in, taps), np.float32)
        full[:out] = weight
        by_four = full.reshape(padded // OUTPUTS, OUTPUTS, n_in, taps)
        entry[kernel.OUT] = padded
        entry[kernel.TAPS], entry[kernel.DILATION] = taps, operation.dilation
        entry[kernel.WEIGHT] = pack(by_four.transpose(0, 2, 3, 1))
        entry[kernel.BIAS] = pack(np.pad(bias, (0, padded - out)))
        entry[kernel.POSITION] = self._graph.operations.index(operation)
        entry[kernel.ACCUMULATE] = operation.accumulate
        if operation.past:
            chunk = math.ceil(self._capacity * operation.source.rate)
            entry[kernel.HISTORY] = at
            entry[kernel.HISTORY_ROW] = row = _padded(
                operation.past + _CHUNKS_OF_HISTORY * chunk + 4 * LANES, 2 * LANES
            )
            at += n_in * row
        return at

    def _load(self, histories: list[Tensor]) -> None:
        """Put the canonical state into the histories, at position 0."""
        for memory, history in zip(self._graph.memories, histories, strict=True):
            for operation in memory:
                if operation.past:
                    index = self._graph.operations.index(operation)
                    values = history.detach().float().numpy()
                    for row in range(self._batch):
                        self._history(row, index)[:, : operation.past] = values[row]


def _padded(n: int, multiple: int) -> int:
    """Round n up to a multiple, and add one: the kernel may write one tile beyond the end."""
    return (n + multiple - 1) // multiple * multiple + multiple
