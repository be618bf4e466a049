"""Fusion of operations that follow each other in a graph into steps of the compiled kernel.

A chunk of live audio is short, so loads, stores and the dispatch of each step take as long as its
arithmetic. Two patterns are fused:

- a convolution, a projection of a second signal added to it, and an activation;
- all of a layer of few channels: these three, then its output copied or added to one buffer (the
  sum of the skip outputs), and its projection added to its own input.

A buffer between two fused operations gets no memory: so nothing else may read it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from wavenet.nn.graph import ADD, CONV, COPY, Buffer, Graph, Operation
from wavenet.processing.activations import FUSED
from wavenet.processing.table import OUTPUTS


@dataclass(frozen=True)
class Step:
    """An operation, with those that are fused into it.

    Attributes:
        first: the operation; a convolution if anything is fused into it.
        mix: projection of another signal that is added to it.
        activation: its activation.
        head: copy or addition of the result to another buffer.
        residual: projection of the result that is added to the input of ``first``.
    """

    first: Operation
    mix: Operation | None = None
    activation: Operation | None = None
    head: Operation | None = None
    residual: Operation | None = None

    @property
    def is_layer(self) -> bool:
        """Whether all of a layer is fused."""
        return self.residual is not None

    @property
    def operations(self) -> list[Operation]:
        """All operations of the step, in order."""
        parts = [self.first, self.mix, self.activation, self.head, self.residual]
        return [part for part in parts if part is not None]

    @property
    def result(self) -> Buffer:
        """Buffer of the result; of a layer, it needs no memory."""
        return self.first.target if self.activation is None else self.activation.target

    @property
    def reads(self) -> list[Buffer]:
        """Buffers that are read and need memory."""
        return [self.first.source] + ([] if self.mix is None else [self.mix.source])

    @property
    def writes(self) -> list[Buffer]:
        """Buffers that are written and need memory."""
        if self.head is None or self.residual is None:
            return [self.result]
        return [self.head.target, self.residual.target]


def fuse(graph: Graph) -> list[Step]:
    """Return the steps of a graph, in order."""
    rest = list(reversed(graph.operations))
    readers = Counter(operation.source.number for operation in graph.operations)
    readers.update(buffer.number for buffer in graph.outputs)
    steps = []
    while rest:
        step = Step(rest.pop())
        if step.first.kind == CONV and not step.first.accumulate:
            step = _with_mix(step, rest)
            step = _with_activation(step, rest, readers)
            step = _as_layer(step, rest, readers)
        steps.append(step)
    return steps


def _with_mix(step: Step, rest: list[Operation]) -> Step:
    if not rest or not _is_added_projection(rest[-1], step.result):
        return step
    return replace(step, mix=rest.pop()) if rest[-1].source != step.result else step


def _with_activation(step: Step, rest: list[Operation], readers: Counter[int]) -> Step:
    if not rest or rest[-1].kind not in FUSED or rest[-1].source != step.result:
        return step
    return replace(step, activation=rest.pop()) if readers[step.result.number] == 1 else step


def _as_layer(step: Step, rest: list[Operation], readers: Counter[int]) -> Step:
    x, a = step.first.source, step.result
    if len(rest) < 2 or readers[a.number] != 2 or not step.first.past:
        return step
    head, residual = rest[-1], rest[-2]
    to_head = head.kind in (ADD, COPY) and head.source == a and head.target not in (a, x)
    if not to_head or residual.source != a or not _is_added_projection(residual, x):
        return step
    if max(x.channels, a.channels) > OUTPUTS:
        return step
    del rest[-2:]
    return replace(step, head=head, residual=residual)


def _is_added_projection(operation: Operation, target: Buffer) -> bool:
    """Whether an operation is a convolution with one tap that is added to a buffer."""
    is_added = operation.kind == CONV and operation.accumulate and operation.target == target
    return is_added and operation.weight is not None and operation.weight.shape[2] == 1
