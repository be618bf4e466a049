"""Execution of a graph: the state and memory of each row, and calls of the kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.nn import Causal, State, flatten_state, unflatten_state
from wavenet.nn.causal import check_inputs
from wavenet.nn.graph import Buffer, Graph, Operation, Recurrence
from wavenet.processing import CAPACITY, kernel, table
from wavenet.processing.kernel import FLOAT_BYTES
from wavenet.processing.layout import Layout
from wavenet.simd.alignment import aligned

_FLOAT32, _empty = torch.float32, torch.empty
"""Looked up once: a chunk of a small network takes a few microseconds."""


class _Memory:
    """Memory of one row: all floats, positions of its histories, and views of buffers.

    Args:
        layout: of the graph.
        graph: see ``Graph.of``.
        capacity: largest number of samples of a chunk of the input.

    Attributes:
        address: of the numbers that the kernel gets.
        run: the kernel.
        cond: of the conditioning, or None.
        others: of the outputs behind the first one.
    """

    def __init__(self, layout: Layout, graph: Graph, capacity: int) -> None:
        self.layout, self.graph, self.capacity = layout, graph, capacity
        self.data = np.zeros(layout.size, np.float32)
        self.positions = np.zeros(len(layout.steps), np.int64)
        self._point()

    def _point(self) -> None:
        """Make the views, and the numbers that the kernel gets."""
        layout, graph = self.layout, self.graph
        self.data = aligned(self.data)
        self.cond = None if graph.cond is None else self._view(graph.cond)
        self.others = [self._view(buffer) for buffer in graph.outputs[1:]]
        head = np.zeros(table.N_HEAD, np.int64)
        for column, array in (
            (table.TABLE, layout.table),
            (table.PLACES, layout.buffers),
            (table.WEIGHTS, layout.weights),
            (table.DATA, self.data),
            (table.POSITIONS, self.positions),
        ):
            head[column] = array.ctypes.data
        head[table.N_STEPS] = len(layout.table)
        head[table.N_WEIGHTS], head[table.N_DATA] = len(layout.weights), len(self.data)
        head[table.CAPACITY] = self.capacity
        ends = graph.buffers[0], graph.outputs[0]
        head[[table.INPUT, table.OUTPUT]] = [buffer.number for buffer in ends]
        head[[table.N_INPUTS, table.N_OUTPUTS]] = [buffer.channels for buffer in ends]
        self._head, self.address = head, head.ctypes.data
        self.run = kernel.compiled()

    def _view(self, buffer: Buffer) -> np.ndarray:
        """View of a buffer, ``[channels, row]``."""
        start, row = self.layout.buffers[buffer.number, :2]
        return self.data[start : start + buffer.channels * row].reshape(buffer.channels, row)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what points to memory: a copy has its own."""
        kept = "layout", "graph", "capacity", "data", "positions"
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._point()


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
        self._memory = [_Memory(self._layout, graph, self._capacity) for _ in range(self._batch)]
        self._output_shapes = [
            (buffer.channels, buffer.rate.numerator, buffer.rate.denominator)
            for buffer in graph.outputs
        ]
        self._load(histories)
        self._name, self._takes = (
            type(module).__name__,
            (module.in_channels, module.step, module.cond_channels),
        )
        self._is_plain = self._batch == 1 and graph.cond is None and len(graph.outputs) == 1
        self._shape: torch.Size | None = None  # of the last chunk, if ``_again`` can run the next
        self._made: tuple[int, ...] = ()
        self._sizes: tuple[int, ...] = ()

    def run(self, x: Tensor, cond: Tensor | None) -> Any:
        """Process a chunk ``[B, in_channels, T]``; see ``Processor``."""
        if (
            isinstance(x, Tensor)
            and x.shape == self._shape
            and cond is None
            and x.dtype is _FLOAT32
            and x.is_cpu
            and x.is_contiguous()
        ):
            # Live audio: a chunk like the one before, which for a small network takes as long as
            # the checks of it.
            y = _empty(*self._made)
            memory = self._memory[0]
            memory.run(memory.address, x.data_ptr(), y.data_ptr(), *self._sizes)
            return y
        check_inputs(self._name, x, cond, *self._takes)
        if x.shape[0] != self._batch:
            raise ValueError(
                f"x has {x.shape[0]} rows, but the initial state has {self._batch}; begin "
                f"with state=module.init_state({x.shape[0]})"
            )
        return self._run_any(_as_floats(x), cond)

    def _run_any(self, x: Tensor, cond: Tensor | None) -> Any:
        """Process a chunk of contiguous floats, of any length, rows and outputs."""
        n = x.shape[-1]
        outputs = [
            torch.empty(self._batch, channels, n * up // down)
            for channels, up, down in self._output_shapes
        ]
        held = None if cond is None else _as_floats(cond.detach().expand(-1, -1, n)).numpy()
        channels, up, down = self._output_shapes[0]
        given, made, n_made = x.data_ptr(), outputs[0].data_ptr(), n * up // down
        # The kernel goes through a chunk by itself where nothing else has to be copied.
        piece = n if held is None and len(outputs) == 1 else self._capacity
        for row, memory in enumerate(self._memory):
            for start in range(0, n, piece):
                size = min(piece, n - start)
                if held is not None and memory.cond is not None:
                    memory.cond[:, :size] = held[row, :, start : start + size]
                y = made + FLOAT_BYTES * (start * up // down)
                memory.run(memory.address, given + FLOAT_BYTES * start, y, size, n, n_made)
                if len(outputs) > 1:
                    self._copy_others(row, outputs, start, size)
            given += FLOAT_BYTES * n * x.shape[1]
            made += FLOAT_BYTES * n_made * channels
        if self._is_plain:
            self._shape, self._made = x.shape, (1, channels, n_made)
            self._sizes = n, n, n_made
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _copy_others(self, row: int, outputs: list[Tensor], start: int, size: int) -> None:
        """Copy the outputs behind the first one of a chunk of a row."""
        for output, (_, up, down), buffer in zip(
            outputs[1:], self._output_shapes[1:], self._memory[row].others, strict=True
        ):
            first, last = start * up // down, (start + size) * up // down
            output.numpy()[row, :, first:last] = buffer[:, : last - first]

    def state(self) -> State:
        """The canonical state: of a convolution its last ``past`` inputs."""
        tensors = []
        for memory in self._graph.memories:
            values = [
                np.array(self._units(row, memory))
                if isinstance(memory, Recurrence)
                else self._window(row, memory[0])
                for row in range(self._batch)
            ]
            tensors.append(torch.from_numpy(np.array(values, np.float32)))
        return unflatten_state(self._state, iter(tensors))

    def _window(self, row: int, operation: Operation) -> np.ndarray:
        """The last inputs of a convolution, ``[in, past]``."""
        past = operation.past
        if not past:
            return np.zeros((operation.source.channels, 0), np.float32)
        index = self._layout.row_of(operation)
        position = self._memory[row].positions[index]
        return self._history(row, index)[:, position : position + past]

    def _units(self, row: int, memory: Recurrence) -> list[np.ndarray]:
        """Views of the hidden values or cells of each layer, ``[hidden]``."""
        views = []
        for layer in memory.layers:
            entry = self._layout.table[self._layout.row_of(layer)]
            start = entry[table.HISTORY] + memory.part * entry[table.HISTORY_ROW]
            views.append(self._memory[row].data[start : start + entry[table.WIDTH]])
        return views

    def _history(self, row: int, index: int) -> np.ndarray:
        """View of an operation's history, ``[in, row]``."""
        columns = [table.IN, table.HISTORY, table.HISTORY_ROW]
        n_in, start, length = self._layout.table[index, columns]
        return self._memory[row].data[start : start + n_in * length].reshape(n_in, length)

    def _load(self, histories: list[Tensor]) -> None:
        """Put the canonical state into the memory; histories are at position 0."""
        for memory, history in zip(self._graph.memories, histories, strict=True):
            values = history.detach().float().numpy()
            for row in range(self._batch):
                if isinstance(memory, Recurrence):
                    for view, one in zip(self._units(row, memory), values[row], strict=True):
                        view[:] = one
                    continue
                for operation in memory:
                    if operation.past:
                        index = self._layout.row_of(operation)
                        self._history(row, index)[:, : operation.past] = values[row]


def _as_floats(x: Tensor) -> Tensor:
    """Return x as contiguous float32 on the CPU: itself, where it is that."""
    if not x.is_floating_point():
        raise TypeError(f"a chunk is {x.dtype}; give floats in [-1, 1], such as int16 / 32768")
    if x.dtype is not torch.float32 or not x.is_cpu:
        x = x.detach().to("cpu", torch.float32)
    return x.contiguous()
