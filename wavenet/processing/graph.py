"""A feed-forward network as a list of operations on chunks of samples.

A *wire* is a signal between operations, ``[channels, T]`` for the chunk at hand. A network becomes
a few kinds of operation, which the kernel runs one after another:

    CONV        causal dilated convolution at stride 1; with one tap, a 1x1 projection
    DECIMATE    every s-th sample (a strided convolution is CONV and DECIMATE)
    INTERLEAVE  a wire into every s-th sample of another (a transposed convolution is one CONV for
                each of its phases, interleaved)
    GATE        tanh of the first half of the channels times sigmoid of the second
    COPY        of a whole wire
    ADD, SUBTRACT, MULTIPLY    the target by the source, sample by sample
    TANH ...    activations, each sample by itself; see ``activations``

A convolution's history is its last ``past`` inputs: just the state that ``stream`` hands around.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wavenet.nn import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    DilatedStack,
    GatedResidualBlock,
    Select,
    State,
)
from wavenet.processing.activations import activation_of

# From COPY on: each sample by itself.
CONV, DECIMATE, INTERLEAVE, GATE, COPY, ADD, SUBTRACT, MULTIPLY = range(8)
LANES = 16
OUTPUTS = 4
"""The kernel computes the outputs of a convolution 4 channels by 32 samples at a time."""
MAX_DENSE = 1 << 22
"""Most weights of one convolution, those between its groups counted, which are zeros here."""


class NotCompilable(Exception):
    """A module that is none of our blocks and no known activation, or whose groups are too many."""


@dataclass(frozen=True)
class Wire:
    """A signal: its channels, and its samples per sample of the network's input."""

    number: int
    channels: int
    rate: Fraction


@dataclass
class Operation:
    """One step of the program.

    Attributes:
        kind: one of the constants above.
        source: wire that is read.
        target: wire that is written.
        weight: of CONV, ``[out, in, taps]``, dense.
        bias: of CONV, ``[out]``.
        dilation: of CONV.
        accumulate: CONV adds to what the target holds.
        factor: of DECIMATE and INTERLEAVE.
        phase: of INTERLEAVE.
        settings: what an activation needs, such as a slope.
    """

    kind: int
    source: Wire
    target: Wire
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


@dataclass
class Program:
    """What a module became.

    Attributes:
        wires: all signals; number 0 is the input.
        operations: in order.
        outputs: the wires that the module returns.
        several: whether it returns a tuple.
        cond: wire of the conditioning, if the module takes one.
        memories: for each convolution of the module, in the order of its state, the operations that
            keep its history.
    """

    wires: list[Wire] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    outputs: tuple[Wire, ...] = ()
    several: bool = False
    cond: Wire | None = None
    memories: list[list[Operation]] = field(default_factory=list)

    def wire(self, channels: int, rate: Fraction) -> Wire:
        """A new signal."""
        self.wires.append(Wire(len(self.wires), channels, rate))
        return self.wires[-1]

    def add(self, kind: int, source: Wire, target: Wire, **details: Any) -> Operation:
        """Append an operation."""
        self.operations.append(Operation(kind, source, target, **details))
        return self.operations[-1]


def compile_module(module: Causal) -> Program:
    """The program of a causal block.

    Raises:
        NotCompilable: if some part of it is none of our blocks and no known activation.
    """
    program = Program()
    x = program.wire(module.in_channels, Fraction(1))
    if module.cond_channels is not None:
        program.cond = program.wire(module.cond_channels, Fraction(1))
    outputs = add_block(program, module, (x,))
    program.outputs, program.several = outputs, isinstance(module, _PAIRS) or len(outputs) > 1
    return program


_PAIRS = (GatedResidualBlock, DilatedStack)

Lowering = Callable[[Program, Any, tuple[Wire, ...]], tuple[Wire, ...]]
_LOWERINGS: dict[type[nn.Module], Lowering] = {}
_CHILDREN: dict[type[nn.Module], Callable[[Any], Sequence[nn.Module]]] = {}


def lowers(
    kind: type[nn.Module], *, children: Callable[[Any], Sequence[nn.Module]]
) -> Callable[[Lowering], Lowering]:
    """Say how blocks of a kind that is defined elsewhere become operations.

    Args:
        kind: the class itself, none derived from it.
        children: of such a block: the blocks whose states make up its own, by position. Their
            convolutions must be added to ``Program.memories`` in this order.
    """

    def register(lowering: Lowering) -> Lowering:
        _LOWERINGS[kind], _CHILDREN[kind] = lowering, children
        return lowering

    return register


def add_block(program: Program, module: nn.Module, wires: tuple[Wire, ...]) -> tuple[Wire, ...]:
    """Append a module that reads the given wires; returns what it gives."""
    if type(module) in _LOWERINGS:
        return _LOWERINGS[type(module)](program, module, wires)
    if type(module) is Select:
        return (wires[module.index],)
    if type(module) is Chain:
        for block in module.blocks:
            wires = add_block(program, block, wires)
        return wires
    (x,) = wires
    if type(module) is CausalConv1d:
        return (add_causal_conv(program, module, x),)
    if type(module) is CausalConvTranspose1d:
        return (_transposed(program, module, x),)
    if type(module) is GatedResidualBlock:
        return _residual(program, module, x, None)
    if type(module) is DilatedStack:
        skip_sum: Wire | None = None
        for block in module.blocks:
            x, skip_sum = _residual(program, block, x, skip_sum)
        assert skip_sum is not None
        return (x, skip_sum)
    if type(module) is nn.Sequential:
        for part in module:
            wires = add_block(program, part, wires)
        return wires
    if type(module) is nn.Conv1d and module.kernel_size == (1,) and module.stride == (1,):
        y = program.wire(module.out_channels, x.rate)
        add_projection(program, module, x, y, accumulate=False)
        return (y,)
    return (add_activation(program, module, x),)


def _residual(program: Program, block: Any, x: Wire, skip_sum: Wire | None) -> tuple[Wire, Wire]:
    """z = conv(x) + V cond; y = x + R gate(z); skip_sum += S gate(z)."""
    z = add_causal_conv(program, block.conv, x)
    if block.cond_channels is not None:
        assert program.cond is not None
        add_projection(program, block.cond_projection, program.cond, z, accumulate=True)
    gated = program.wire(block.gate_channels // 2, x.rate)
    program.add(GATE, z, gated)
    y = program.wire(block.residual_channels, x.rate)
    program.add(COPY, x, y)
    add_projection(program, block.residual_projection, gated, y, accumulate=True)
    first = skip_sum is None
    total = program.wire(block.skip_channels, x.rate) if skip_sum is None else skip_sum
    add_projection(program, block.skip_projection, gated, total, accumulate=not first)
    return y, total


def add_causal_conv(program: Program, conv: Any, x: Wire, *, scale: float = 1.0) -> Wire:
    """A causal convolution, its output times ``scale``; gives the wire of its output."""
    y = program.wire(conv.out_channels, x.rate)
    weight, bias = scale * dense(conv), scale * bias_of(conv)
    operation = program.add(CONV, x, y, weight=weight, bias=bias, dilation=conv.dilation)
    program.memories.append([operation])
    if conv.stride == 1:
        return y
    decimated = program.wire(conv.out_channels, x.rate / conv.stride)
    program.add(DECIMATE, y, decimated, factor=conv.stride)
    return decimated


def _transposed(program: Program, conv: Any, x: Wire) -> Wire:
    """y[s j + p] = b + sum_m W[s m + p] x[j - m]: a convolution for each phase p."""
    y = program.wire(conv.out_channels, x.rate * conv.stride)
    by_input = conv.weight.unflatten(0, (conv.groups, -1))  # [groups, in / groups, out / groups, k]
    kernel = _ungrouped(by_input.transpose(1, 2).flatten(0, 1), conv.groups)  # [out, in, k]
    memory = []
    for phase in range(conv.stride):
        taps = kernel[:, :, phase :: conv.stride][:, :, ::-1]  # the oldest first
        missing = conv.past + 1 - taps.shape[2]
        taps = np.pad(taps, ((0, 0), (0, 0), (missing, 0)))
        one = program.wire(conv.out_channels, x.rate)
        memory.append(program.add(CONV, x, one, weight=taps, bias=bias_of(conv)))
        program.add(INTERLEAVE, one, y, factor=conv.stride, phase=phase)
    program.memories.append(memory)
    return y


def add_projection(program: Program, conv: Any, x: Wire, y: Wire, *, accumulate: bool) -> None:
    """A 1x1 convolution of x into y, or added to what y holds."""
    program.add(CONV, x, y, weight=dense(conv), bias=bias_of(conv), accumulate=accumulate)


def add_activation(program: Program, module: nn.Module, x: Wire) -> Wire:
    """Activations act in place on a wire of their own."""
    if isinstance(module, nn.Identity | nn.Dropout):
        return x
    found = activation_of(module)
    if found is None:
        raise NotCompilable(type(module).__name__)
    y = program.wire(x.channels, x.rate)
    program.add(found[0], x, y, settings=found[1])
    return y


def dense(conv: Any) -> np.ndarray:
    """A convolution's ``[out, in, k]`` with zeros between groups."""
    return _ungrouped(conv.weight, conv.groups)


def _ungrouped(weight: Tensor, groups: int) -> np.ndarray:
    """``[out, in / groups, k]`` as the dense ``[out, in, k]`` with zeros between groups."""
    parts = weight.detach().float().cpu().chunk(groups)
    out, each, taps = weight.shape
    if groups > 1 and out * each * groups * taps > MAX_DENSE:
        raise NotCompilable(f"a convolution of {groups} groups")
    dense = torch.zeros(out, each * groups, taps)
    for group, part in enumerate(parts):
        rows = slice(group * (out // groups), (group + 1) * (out // groups))
        dense[rows, group * each : (group + 1) * each] = part
    return dense.numpy()


def bias_of(conv: Any) -> np.ndarray:
    """Its bias ``[out]``, or zeros."""
    if conv.bias is None:
        return np.zeros(conv.out_channels, np.float32)
    values: np.ndarray = conv.bias.detach().float().cpu().numpy()
    return values


def nest_state(module: nn.Module, tensors: list[Tensor]) -> State:
    """The canonical state of a block from the histories of its convolutions, in order."""
    if isinstance(module, CausalConv1d | CausalConvTranspose1d):
        return (tensors.pop(0),)
    if isinstance(module, GatedResidualBlock):
        return (nest_state(module.conv, tensors),)
    if isinstance(module, DilatedStack | Chain):
        return tuple(nest_state(block, tensors) for block in module.blocks)
    if type(module) in _CHILDREN:
        return tuple(nest_state(child, tensors) for child in _CHILDREN[type(module)](module))
    return ()
