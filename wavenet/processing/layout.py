"""Memory of a graph's buffers and histories, and the tables and weights that the kernel reads."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from wavenet.nn.graph import CONV, COPY, GRU, LSTM, Buffer, Graph, Operation
from wavenet.processing import table
from wavenet.processing.fusion import Step, fuse
from wavenet.processing.table import OUTPUTS
from wavenet.simd.alignment import aligned
from wavenet.simd.registers import LANES

_CHUNKS_OF_HISTORY = 4
"""Number of the largest chunks after which a history moves its past to the front."""
_NO_SETTINGS = (0.0,) * 4
"""Padding after the settings of an operation: the kernel always reads four."""


class Layout:
    """Everything that the kernel needs of a graph, but for the memory of a row.

    Args:
        graph: see ``Graph.of``.
        capacity: largest number of samples of a chunk of the input.

    Attributes:
        steps: rows of the table of operations.
        table: ``[steps, N_COLUMNS]``, int64.
        buffers: start, row length and rate of each buffer, ``[buffers, 4]``, int64.
        weights: all weights, packed, float32.
        size: number of floats of the memory of a row.
    """

    def __init__(self, graph: Graph, capacity: int) -> None:
        self.steps = fuse(graph)
        self.table = np.zeros((len(self.steps), table.N_COLUMNS), np.int64)
        self.buffers = np.zeros((len(graph.buffers), 4), np.int64)
        self.size = 0
        self._capacity = capacity
        self._packed: list[np.ndarray] = []
        self._n_packed = 0
        self._rows = {id(step.first): row for row, step in enumerate(self.steps)}
        self._place_buffers(graph)
        for row, step in enumerate(self.steps):
            self._fill(self.table[row], row, step)
        self.weights = aligned(np.concatenate(self._packed))

    def row_of(self, operation: Operation) -> int:
        """Return the row of the table of an operation that is the first of its step."""
        return self._rows[id(operation)]

    def _place_buffers(self, graph: Graph) -> None:
        """Assign memory to every buffer that needs some.

        Memory is reused after the last step that reads it, so that a deep network fits into the
        nearest cache. A pointwise operation may write where it reads.
        """
        first = [graph.buffers[0], *([] if graph.cond is None else [graph.cond])]
        last_use = {buffer.number: len(self.steps) for buffer in (*graph.outputs, *first[1:])}
        for row, step in enumerate(self.steps):
            for buffer in (*step.reads, *step.writes):
                last_use[buffer.number] = max(last_use.get(buffer.number, 0), row)
        free: dict[int, list[int]] = {}
        placed = set()

        def place(buffers: Iterable[Buffer]) -> None:
            for buffer in buffers:
                if buffer.number in placed:
                    continue
                placed.add(buffer.number)
                size, row = self._size_of(buffer)
                if free.get(size):
                    start = free[size].pop()
                else:
                    start, self.size = self.size, self.size + size
                numbers = start, row, buffer.rate.numerator, buffer.rate.denominator
                self.buffers[buffer.number] = numbers

        place(first)
        for row, step in enumerate(self.steps):
            done = {buffer for buffer in step.reads if last_use[buffer.number] == row}
            released = sorted(done - set(step.writes), key=lambda buffer: buffer.number)
            in_place = step.first.kind >= COPY
            if not in_place:
                place(step.writes)
            for buffer in released:
                size, _ = self._size_of(buffer)
                free.setdefault(size, []).append(int(self.buffers[buffer.number, table.START]))
            place(step.writes)

    def _size_of(self, buffer: Buffer) -> tuple[int, int]:
        """Return the number of floats of a buffer, and of one of its rows."""
        row = _padded(math.ceil(self._capacity * buffer.rate), 2 * LANES)
        return _padded(buffer.channels, OUTPUTS) * row, row

    def _pack(self, values: np.ndarray) -> int:
        """Append weights and zeros up to whole registers; return the index of the first."""
        flat = values.astype(np.float32).ravel()
        self._packed.append(np.pad(flat, (0, -len(flat) % LANES)))
        self._n_packed += len(self._packed[-1])
        return self._n_packed - len(self._packed[-1])

    def _fill(self, entry: np.ndarray, row: int, step: Step) -> None:
        """Fill a row of the table, and pack its weights."""
        operation = step.first
        settings = operation.settings
        entry[table.KIND] = table.LAYER if step.is_layer else operation.kind
        entry[table.SOURCE] = operation.source.number
        entry[table.TARGET] = step.writes[-1].number
        entry[table.IN], entry[table.OUT] = operation.source.channels, operation.target.channels
        entry[table.FACTOR], entry[table.PHASE] = operation.factor, operation.phase
        entry[table.HISTORY] = -1
        if operation.kind == CONV:
            self._fill_convolution(entry, row, operation)
        if operation.kind in (LSTM, GRU):
            self._fill_recurrence(entry, operation)
        if step.mix is not None:
            entry[table.MIX], entry[table.MIX_IN] = step.mix.source.number, step.mix.source.channels
            entry[table.MIX_WEIGHT] = self._pack(_by_outputs(step.mix))
        if step.activation is not None:
            entry[table.ACTIVATION] = step.activation.kind
            settings = step.activation.settings
        if step.head is not None and step.residual is not None:
            entry[table.WIDTH] = step.result.channels
            entry[table.HEAD] = step.head.target.number
            entry[table.HEAD_ACCUMULATE] = step.head.kind != COPY
            entry[table.RESIDUAL] = self._pack(_by_channel(step.residual))
            entry[table.RESIDUAL_BIAS] = self._pack(_bias(step.residual))
        entry[table.SETTINGS] = self._pack(np.array([*settings, *_NO_SETTINGS]))

    def _fill_convolution(self, entry: np.ndarray, row: int, operation: Operation) -> None:
        bias = _bias(operation)
        if self.steps[row].mix is not None:
            bias = bias + _bias(self.steps[row].mix)
        weights = _by_outputs(operation)
        entry[table.OUT] = len(weights) * OUTPUTS
        entry[table.TAPS], entry[table.DILATION] = weights.shape[2], operation.dilation
        entry[table.WEIGHT] = self._pack(weights)
        entry[table.BIAS] = self._pack(np.pad(bias, (0, len(weights) * OUTPUTS - len(bias))))
        entry[table.POSITION] = row
        entry[table.ACCUMULATE] = operation.accumulate
        if operation.past:
            chunk = math.ceil(self._capacity * operation.source.rate)
            length = _padded(operation.past + _CHUNKS_OF_HISTORY * chunk + 4 * LANES, 2 * LANES)
            # The chunk behind the past begins at a whole register.
            offset = -operation.past % LANES
            entry[table.HISTORY], entry[table.HISTORY_ROW] = self.size + offset, length
            self.size += operation.source.channels * length + LANES

    def _fill_recurrence(self, entry: np.ndarray, operation: Operation) -> None:
        units = operation.target.channels
        row = math.ceil(units / LANES) * LANES
        entry[table.WIDTH] = units
        entry[table.WEIGHT] = self._pack(_by_units(_weight(operation)[:, :, 0], row))
        entry[table.BIAS] = self._pack(_by_units(_bias(operation)[:, None], row))
        entry[table.HISTORY], entry[table.HISTORY_ROW] = self.size, row
        self.size += 3 * row


def _weight(operation: Operation) -> np.ndarray:
    assert operation.weight is not None
    return operation.weight


def _bias(operation: Operation | None) -> np.ndarray:
    assert operation is not None
    assert operation.bias is not None
    return operation.bias


def _by_outputs(operation: Operation) -> np.ndarray:
    """Weights of ``OUTPUTS`` output channels at a time, ``[out / OUTPUTS, in, taps, OUTPUTS]``."""
    weight = _weight(operation)
    out, n_in, taps = weight.shape
    padded = math.ceil(out / OUTPUTS) * OUTPUTS
    full = np.zeros((padded, n_in, taps), np.float32)
    full[:out] = weight
    return full.reshape(-1, OUTPUTS, n_in, taps).transpose(0, 2, 3, 1)


def _by_channel(operation: Operation) -> np.ndarray:
    """Weights of a projection of at most ``OUTPUTS`` channels, ``[out, OUTPUTS]``."""
    weight = _weight(operation)[:, :, 0]
    return np.pad(weight, ((0, 0), (0, OUTPUTS - weight.shape[1])))


def _by_units(values: np.ndarray, row: int) -> np.ndarray:
    """Weights of four gates by register, ``[row / LANES, in, 4, LANES]``, zeros behind the last."""
    units = len(values) // 4
    full = np.zeros((4, row, values.shape[1]), np.float32)
    full[:, :units] = values.reshape(4, units, -1)
    return full.reshape(4, -1, LANES, values.shape[1]).transpose(1, 3, 0, 2)


def _padded(n: int, multiple: int) -> int:
    """Round n up to a multiple, and add one: the kernel may write one tile beyond the end."""
    return (n + multiple - 1) // multiple * multiple + multiple
