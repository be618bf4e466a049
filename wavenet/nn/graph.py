"""A feed-forward network as a graph of operations on chunks of samples, for live processing.

A *buffer* is a signal between operations, ``[channels, T]`` for the chunk at hand. A block adds its
operations in its method ``lower``; there are a few kinds, which a compiled kernel runs in order:

    CONV        causal dilated convolution at stride 1; with one tap, a 1x1 projection
    DECIMATE    every s-th sample (a strided convolution is CONV and DECIMATE)
    INTERLEAVE  a buffer into every s-th sample of another (a transposed convolution is one CONV
                for each of its phases, interleaved)
    GATE        tanh of the first half of the channels times sigmoid of the second
    COPY        of a whole buffer
    ADD, SUBTRACT, MULTIPLY    the target by the source, sample by sample
    NORMALIZE   each sample over its channels; the settings are eps, 1 to subtract the mean or 0,
                then a weight per channel, then a bias per channel
    LSTM, GRU   a layer, sample after sample
    TANH ...    activations, each sample by itself; see ``graph_activations``

The history of a convolution is its last ``past`` inputs: the state that ``stream`` returns. Of an
LSTM the state is hidden values and cells, of a GRU hidden values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from wavenet.nn.exact import class_of, difference
from wavenet.nn.graph_activations import SNAKE, activation_of
from wavenet.nn.hooks import may_differ, without_compiler

# From COPY on: each sample by itself.
CONV, DECIMATE, INTERLEAVE, GATE, COPY, ADD, SUBTRACT, MULTIPLY = range(8)
NORMALIZE, LSTM, GRU = 8, 9, 31  # activations and the kernel's layer have 10 to 30
_UNCHANGED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.AlphaDropout, nn.FeatureAlphaDropout)
"""Modules that return their input in evaluation mode."""
MAX_DENSE = 1 << 22
"""Largest number of weights of one dense convolution; zeros between its groups count."""


class NotCompilable(Exception):
    """Raised for a module without a lowering that is no known activation, or with many groups."""


@dataclass(frozen=True)
class Buffer:
    """A signal: its number, channels, and sample rate relative to the network's input."""

    number: int
    channels: int
    rate: Fraction


@dataclass
class Operation:
    """One step of the graph.

    Attributes:
        kind: one of the constants above.
        source: buffer that is read.
        target: buffer that is written.
        weight: of CONV, ``[out, in, taps]``, dense; of LSTM, of its inputs and then of its hidden
            values, ``[4 hidden, in + hidden, 1]``, the gates in the order of torch; of GRU the same
            of reset, update, and the new values' two parts, of the inputs and of the hidden values.
        bias: of CONV, ``[out]``; of LSTM and GRU, ``[4 hidden]``.
        dilation: of CONV.
        accumulate: CONV adds to the target instead of overwriting it.
        factor: of DECIMATE and INTERLEAVE.
        phase: of INTERLEAVE.
        settings: parameters of an activation, such as a slope.
    """

    kind: int
    source: Buffer
    target: Buffer
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    dilation: int = 1
    accumulate: bool = False
    factor: int = 1
    phase: int = 0
    settings: tuple[float, ...] = ()

    @property
    def past(self) -> int:
        """Samples of history."""
        return 0 if self.weight is None else (self.weight.shape[2] - 1) * self.dilation


@dataclass(frozen=True)
class Recurrence:
    """A tensor of the state of LSTM or GRU layers, ``[B, layers, hidden]``.

    Attributes:
        layers: the operations, in order.
        part: 0 for the hidden values, 1 for the cells.
    """

    layers: tuple[Operation, ...]
    part: int


@dataclass
class Graph:
    """The operations of a module; made by ``Graph.of``, filled by the ``lower`` of its blocks.

    Attributes:
        buffers: all signals; number 0 is the input.
        operations: in order.
        outputs: the buffers that the module returns.
        cond: buffer of the conditioning, if the module takes one.
        memories: for each tensor of the module's state, in order, the operations that keep it: of a
            convolution's, all those that have its history.
    """

    buffers: list[Buffer] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    outputs: tuple[Buffer, ...] = ()
    cond: Buffer | None = None
    memories: list[list[Operation] | Recurrence] = field(default_factory=list)

    @classmethod
    def of(cls, module: Any) -> Graph:
        """Return the graph of a ``Causal`` block.

        Raises:
            NotCompilable: if some part of it defines no lowering and is no known activation.
        """
        graph = cls()
        x = graph.buffer(module.in_channels, Fraction(1))
        if module.cond_channels is not None:
            graph.cond = graph.buffer(module.cond_channels, Fraction(1))
        graph.outputs = graph.module(module, (x,))
        return graph

    def buffer(self, channels: int, rate: Fraction) -> Buffer:
        """Add a signal."""
        self.buffers.append(Buffer(len(self.buffers), channels, rate))
        return self.buffers[-1]

    def add(self, kind: int, source: Buffer, target: Buffer, **details: Any) -> Operation:
        """Append an operation."""
        self.operations.append(Operation(kind, source, target, **details))
        return self.operations[-1]

    def module(self, module: nn.Module, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append a module that reads the given buffers; return those that it writes.

        Raises:
            NotCompilable: for a module that defines no lowering and is no known activation.
        """
        module = without_compiler(module)
        kind = class_of(module)
        if may_differ(module):
            raise NotCompilable(f"a {kind.__name__} with forward hooks")
        if defines_lowering(kind):
            lower = cast("Callable[..., tuple[Buffer, ...]]", module.lower)
            return lower(self, buffers)
        if kind is nn.Sequential:
            for part in module.children():
                buffers = self.module(part, buffers)
            return buffers
        if len(buffers) != 1:
            raise NotCompilable(f"a {kind.__name__} of {len(buffers)} signals")
        (x,) = buffers
        if isinstance(module, nn.Conv1d) and module.kernel_size == module.stride == (1,):
            return (self.projection(module, x),)
        if kind is nn.BatchNorm1d:
            return (self.batch_norm(module, x).target,)
        if isinstance(module, nn.GLU) and kind is nn.GLU and module.dim in (1, -2):
            return (self.glu(x),)
        return (self.activation(module, x),)

    def check(self, module: nn.Module) -> None:
        """Raise NotCompilable for a block whose class does not define its own lowering."""
        kind = class_of(module)
        if may_differ(module) or not defines_lowering(kind):
            raise NotCompilable(kind.__name__)

    def check_projection(self, conv: nn.Module) -> None:
        """Raise NotCompilable for anything else than a ``Conv1d`` without hooks."""
        found = difference(conv, nn.Conv1d, "a projection")
        if found is not None:
            raise NotCompilable(found)

    def convolution(self, conv: Any, x: Buffer, *, scale: float = 1.0) -> Buffer:
        """Append a ``CausalConv1d``, its output times ``scale``; return the buffer it writes."""
        self.check(conv)
        y = self.buffer(conv.out_channels, x.rate)
        weight, bias = scale * dense(conv), scale * bias_of(conv)
        operation = self.add(CONV, x, y, weight=weight, bias=bias, dilation=conv.dilation)
        self.memories.append([operation])
        if conv.stride == 1:
            return y
        decimated = self.buffer(conv.out_channels, x.rate / conv.stride)
        self.add(DECIMATE, y, decimated, factor=conv.stride)
        return decimated

    def projection(
        self, conv: nn.Module, x: Buffer, y: Buffer | None = None, *, accumulate: bool = False
    ) -> Buffer:
        """Append a 1x1 convolution of x into y (a new buffer by default), or added to y."""
        self.check_projection(conv)
        weight, bias = dense(conv), bias_of(conv)
        y = self.buffer(len(weight), x.rate) if y is None else y
        self.add(CONV, x, y, weight=weight, bias=bias, accumulate=accumulate)
        return y

    def batch_norm(self, module: Any, x: Buffer) -> Operation:
        """Append a batch norm by its running statistics: a 1x1 convolution, diagonal."""
        scale = torch.rsqrt(module.running_var + module.eps)
        scale = (scale if module.weight is None else scale * module.weight).detach()
        shift = -module.running_mean * scale
        shift = shift if module.bias is None else shift + module.bias.detach()
        y = self.buffer(x.channels, x.rate)
        kernel = ungrouped(scale[:, None, None], x.channels)
        return self.add(CONV, x, y, weight=kernel, bias=shift.float().cpu().numpy())

    def glu(self, x: Buffer) -> Buffer:
        """Append the first half of the channels times the sigmoid of the second."""
        n = x.channels // 2
        half, gate = self.buffer(n, x.rate), self.buffer(n, x.rate)
        for first, y in ((0, half), (n, gate)):
            rows = np.eye(n, x.channels, first, dtype=np.float32)[:, :, None]
            self.add(CONV, x, y, weight=rows, bias=np.zeros(n, np.float32))
        self.add(MULTIPLY, self.activation(nn.Sigmoid(), gate), half)
        return half

    def activation(self, module: nn.Module, x: Buffer) -> Buffer:
        """Append an activation, which writes to a new buffer."""
        if class_of(module) in _UNCHANGED:
            return x
        found = activation_of(module)
        if found is None or may_differ(module):
            raise NotCompilable(type(module).__name__)
        kind, settings = found
        if kind == SNAKE and len(settings) == 1:  # one frequency for all channels
            settings *= x.channels
        y = self.buffer(x.channels, x.rate)
        self.add(kind, x, y, settings=settings)
        return y

    def copy(self, x: Buffer) -> Buffer:
        """Append a copy of a buffer."""
        y = self.buffer(x.channels, x.rate)
        self.add(COPY, x, y)
        return y


def defines_lowering(kind: type[object]) -> bool:
    """Return true if a class defines its own lowering.

    A subclass that overrides ``stream`` or ``forward`` may compute another function, so it must
    override ``lower`` too.
    """
    for cls in kind.__mro__:
        if "lower" in vars(cls):
            return True
        if "stream" in vars(cls) or "forward" in vars(cls):
            return False
    return False


def dense(conv: Any) -> np.ndarray:
    """Return the weight of a convolution, ``[out, in, k]``, with zeros between groups."""
    return ungrouped(conv.weight, conv.groups)


def ungrouped(weight: Tensor, groups: int) -> np.ndarray:
    """Return ``[out, in / groups, k]`` as the dense ``[out, in, k]`` with zeros between groups."""
    parts = weight.detach().float().cpu().chunk(groups)
    out, each, taps = weight.shape
    if groups > 1 and out * each * groups * taps > MAX_DENSE:
        raise NotCompilable(f"a convolution of {groups} groups")
    whole = torch.zeros(out, each * groups, taps)
    for group, part in enumerate(parts):
        rows = slice(group * (out // groups), (group + 1) * (out // groups))
        whole[rows, group * each : (group + 1) * each] = part
    return whole.numpy()


def bias_of(conv: Any) -> np.ndarray:
    """Return the bias of a convolution, ``[out]``, or zeros."""
    if conv.bias is None:
        return np.zeros(conv.out_channels, np.float32)
    values: np.ndarray = conv.bias.detach().float().cpu().numpy()
    return values
