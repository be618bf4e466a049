"""The gated residual block of WaveNet, and stacks of it.

One layer (van den Oord et al. 2016, equations 2 and 3, figure 4), with conditioning h:

    z     = W * x + V h                       dilated causal convolution; V a 1x1 convolution
    gated = tanh(z_first) . sigmoid(z_second)        the two halves of z's channels
    skip  = S gated                           1x1 convolution, summed over all layers
    y     = x + R gated                       1x1 convolution, input of the next layer
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavenet.nn.causal import Causal, check_positive, require_causal, stream_child
from wavenet.nn.convolution import CausalConv1d
from wavenet.nn.exact import class_of, difference
from wavenet.nn.graph import ADD, COPY, GATE, Buffer, Graph
from wavenet.nn.state import State
from wavenet.values.text import short


class GatedResidualBlock(Causal):
    """One WaveNet layer: ``[B, residual_channels, T]`` to ``(y, skip)``.

    ``y`` is ``[B, residual_channels, T]``, ``skip`` ``[B, skip_channels, T]``.

    >>> block = GatedResidualBlock(32, 64, dilation=4, cond_channels=16)
    >>> x, cond = torch.randn(1, 32, 100), torch.randn(1, 16, 100)
    >>> y, skip = block(x, cond=cond)
    >>> tuple(y.shape), tuple(skip.shape), block.past
    ((1, 32, 100), (1, 64, 100), 4)

    Args:
        residual_channels: channels of x and y.
        skip_channels: channels of skip.
        kernel_size: taps of the dilated convolution.
        dilation: samples between taps.
        gate_channels: channels of both halves of the gate together, an even number;
            default ``2 * residual_channels``.
        cond_channels: channels of the conditioning, or None for an unconditional block.

    Raises:
        ValueError: if a size is not a positive integer or gate_channels is odd.
    """

    def __init__(
        self,
        residual_channels: int,
        skip_channels: int,
        *,
        kernel_size: int = 2,
        dilation: int = 1,
        gate_channels: int | None = None,
        cond_channels: int | None = None,
    ) -> None:
        super().__init__()
        residual_channels = check_positive("residual_channels", residual_channels)
        skip_channels = check_positive("skip_channels", skip_channels)
        gate_channels = 2 * residual_channels if gate_channels is None else gate_channels
        gate_channels = check_positive("gate_channels", gate_channels)
        if gate_channels % 2:
            raise ValueError(f"gate_channels={gate_channels} must be even: it counts both halves")
        self.in_channels = self.residual_channels = residual_channels
        self.skip_channels, self.gate_channels = skip_channels, gate_channels
        if cond_channels is not None:
            cond_channels = check_positive("cond_channels", cond_channels)
        self.cond_channels = cond_channels
        self.conv = CausalConv1d(residual_channels, gate_channels, kernel_size, dilation=dilation)
        if cond_channels is not None:
            self.cond_projection = nn.Conv1d(cond_channels, gate_channels, 1, bias=False)
        self.residual_projection = nn.Conv1d(gate_channels // 2, residual_channels, 1)
        self.skip_projection = nn.Conv1d(gate_channels // 2, skip_channels, 1)

    @property
    def past(self) -> int:
        """Left context of the dilated convolution."""
        return self.conv.past

    def layers(self) -> list[tuple[str, Causal]]:
        """The dilated convolution."""
        return [("conv", require_causal(self.conv, "GatedResidualBlock: conv"))]

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle the convolution."""
        return (self.conv.settle(x),)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        """``((y, skip), state')``; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_children(state, 1)
        z, after = stream_child(self.conv, x, state[0])
        if cond is not None:
            z = z + self.cond_projection(cond)
        first, second = z.chunk(2, dim=1)
        gated = torch.tanh(first) * torch.sigmoid(second)
        y = x + self.residual_projection(gated)
        return (y, self.skip_projection(gated)), (after,)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the equations of the block."""
        return self.lower_into(graph, buffers[0], None)

    def lower_into(self, graph: Graph, x: Buffer, skip_sum: Buffer | None) -> tuple[Buffer, Buffer]:
        """Append the block, its skip added to a sum if there is one; return both buffers."""
        (z,) = graph.module(self.conv, (x,))
        if self.cond_channels is not None:
            assert graph.cond is not None
            graph.projection(self.cond_projection, graph.cond, z, accumulate=True)
        gated = graph.buffer(self.gate_channels // 2, x.rate)
        graph.add(GATE, z, gated)
        y = graph.buffer(self.residual_channels, x.rate)
        graph.add(COPY, x, y)
        graph.projection(self.residual_projection, gated, y, accumulate=True)
        has_sum = skip_sum is not None
        return y, graph.projection(self.skip_projection, gated, skip_sum, accumulate=has_sum)


class DilatedStack(Causal):
    """Gated residual blocks of growing dilation: ``[B, R, T]`` to ``(y, skip_sum)``.

    ``y`` is the last block's output, ``skip_sum`` ``[B, skip_channels, T]`` the sum of all skips.

    >>> stack = DilatedStack(32, 128, dilations=[2**i for i in range(10)] * 2)
    >>> stack.past + 1
    2047

    Args:
        residual_channels: channels between blocks.
        skip_channels: channels of the skip sum.
        kernel_size: taps of every dilated convolution.
        dilations: one per block, in samples.
        gate_channels: see ``GatedResidualBlock``.
        cond_channels: see ``GatedResidualBlock``; every block takes the conditioning.

    Raises:
        ValueError: if there are no dilations, or a size is not a positive integer.
    """

    def __init__(
        self,
        residual_channels: int,
        skip_channels: int,
        *,
        kernel_size: int = 2,
        dilations: Sequence[int],
        gate_channels: int | None = None,
        cond_channels: int | None = None,
    ) -> None:
        super().__init__()
        if not hasattr(dilations, "__len__"):
            raise TypeError(f"dilations={short(dilations)} is no list; give one per block: [1, 2]")
        if not len(dilations):
            raise ValueError("dilations is empty; give one per block, such as [1, 2, 4, 8]")
        self.in_channels, self.cond_channels = residual_channels, cond_channels
        self.blocks = nn.ModuleList(
            GatedResidualBlock(
                residual_channels,
                skip_channels,
                kernel_size=kernel_size,
                dilation=dilation,
                gate_channels=gate_channels,
                cond_channels=cond_channels,
            )
            for dilation in dilations
        )

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilation of each block's convolution, in samples."""
        return tuple(block.conv.dilation for block in self._blocks())

    @property
    def past(self) -> int:
        """Sum of the blocks' left contexts."""
        return sum(block.past for block in self._blocks())

    def layers(self) -> list[tuple[str, Causal]]:
        """The blocks."""
        return [(str(i), block) for i, block in enumerate(self._blocks())]

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle block after block."""
        return self.settled(x, cond)[1]

    def settled(self, x: Tensor, cond: Tensor | None = None) -> tuple[Any, State]:
        """``((y, skip_sum), state)``: the answer to x after endless repetitions of x.

        In one pass: what a settled block answers is what the next one settles to.
        """
        skip_sum: Tensor | None = None
        states: list[State] = []
        for block in self._blocks():
            (x, skip), after = stream_child(block, x, block.settle(x, cond), cond)
            skip_sum = skip if skip_sum is None else skip_sum + skip
            states.append(after)
        return (x, skip_sum), tuple(states)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        """``((y, skip_sum), state')``; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_children(state, len(self.blocks))
        skip_sum: Tensor | None = None
        states: list[State] = []
        for block, before in zip(self.blocks, state, strict=True):
            (x, skip), after = stream_child(block, x, before, cond)
            skip_sum = skip if skip_sum is None else skip_sum + skip
            states.append(after)
        return (x, skip_sum), tuple(states)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the blocks, and sum their skips."""
        (x,), skip_sum = buffers, None
        for block in self._blocks():
            if difference(block, GatedResidualBlock, "") is None:
                x, skip_sum = block.lower_into(graph, x, skip_sum)
                continue
            x, skip = graph.module(block, (x,))
            if skip_sum is None:
                skip_sum = graph.copy(skip)
            else:
                graph.add(ADD, skip, skip_sum)
        assert skip_sum is not None
        return x, skip_sum

    def _blocks(self) -> list[GatedResidualBlock]:
        for i, block in enumerate(self.blocks):
            require_causal(block, f"DilatedStack: blocks.{i}")
        return cast("list[GatedResidualBlock]", list(self.blocks))


def stack_difference(stack: nn.Module, name: str = "stack") -> str | None:
    """Return how a stack differs from a ``DilatedStack`` of ``GatedResidualBlock``, or None."""
    return next((text for text in stack_differences(stack, name) if text), None)


def stack_differences(stack: nn.Module, name: str) -> Iterator[str | None]:
    """Yield for each part of a stack how it differs, or None."""
    yield difference(stack, DilatedStack, name)
    if class_of(stack) is not DilatedStack:
        return
    assert isinstance(stack, DilatedStack)
    for i, block in enumerate(stack.blocks):
        yield from _block_differences(block, f"{name}.blocks.{i}")


def _block_differences(block: nn.Module, name: str) -> Iterator[str | None]:
    yield difference(block, GatedResidualBlock, name)
    if class_of(block) is not GatedResidualBlock:
        return
    assert isinstance(block, GatedResidualBlock)
    yield difference(block.conv, CausalConv1d, f"{name}.conv")
    projections = ["residual_projection", "skip_projection"]
    if block.cond_channels is not None:
        projections.append("cond_projection")
    for part in projections:
        yield difference(getattr(block, part), nn.Conv1d, f"{name}.{part}")
