"""Blocks one after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wavenet.nn.causal import Causal, chained_rates, farthest_reach
from wavenet.nn.graph import Buffer, Graph
from wavenet.nn.state import State


class Chain(Causal):
    """Causal blocks and pointwise modules, each fed with what the one before gives.

    >>> body = Chain(CausalConv1d(1, 16, 3), nn.Tanh(), CausalConv1d(16, 1, 3, dilation=2))
    >>> body.past
    6

    A module that is no ``Causal`` must act on each sample alone (activations, convolutions of
    kernel size 1); it has no state. A block that returns several tensors hands on the tuple, from
    which ``Select`` takes one. Conditioning goes to every block that takes some.

    Args:
        modules: at least one of them a ``Causal``.

    Raises:
        TypeError: if a module is known to look along time without being a ``Causal``.
        ValueError: if there is no ``Causal``, or blocks disagree on the channels of ``cond``.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        for module in modules:
            _refuse_looking_along_time(module)
        self.blocks = nn.ModuleList(modules)
        causal = self._causal()
        if not causal:
            raise ValueError("Chain needs at least one causal block; nn.Sequential fits the rest")
        # A pointwise convolution in front, such as an input projection, says what x has.
        self.in_channels = next(
            part.in_channels
            for module in modules
            for part in module.modules()
            if isinstance(part, Causal | nn.Conv1d)
        )
        widths = {b.cond_channels for b in causal if b.cond_channels is not None}
        if len(widths) > 1:
            raise ValueError(f"Chain: blocks take cond of different widths: {sorted(widths)}")
        self.cond_channels = widths.pop() if widths else None
        self.step, self.rate = chained_rates(causal)

    @property
    def past(self) -> int:
        """The farthest reach of any output in one period of the sample rates."""
        return farthest_reach(self._causal())

    def oldest_input(self, n: int) -> int:
        """Follow output n back through the blocks."""
        for block in reversed(self._causal()):
            n = block.oldest_input(n)
        return n

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """One state per module; a pointwise module has the empty one."""
        factory: dict[str, Any] = self._factory(device, dtype)
        return tuple(
            block.init_state(batch_size, **factory) if isinstance(block, Causal) else ()
            for block in self.blocks
        )

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle module after module, each on the period that the one before answers with."""
        states: list[State] = []
        for block in self.blocks:
            if isinstance(block, Causal):
                given = cond if block.cond_channels is not None else None
                states.append(block.settle(x, given))
                x = block.stream(x, states[-1], given)[0]
            else:
                states.append(())
                x = block(x)
        return tuple(states)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        """``[B, in_channels, T]`` to what the last module gives; see ``Causal.stream``."""
        self.check_call(x, cond)
        self._check_children(state, len(self.blocks))
        states: list[State] = []
        for block, before in zip(self.blocks, state, strict=True):
            if isinstance(block, Causal):
                if not isinstance(x, Tensor):
                    raise TypeError(
                        f"Chain: {type(block).__name__} got the {len(x)} tensors of the block "
                        "before it; put Select(0) or Select(1) between them to say which goes on"
                    )
                given = cond if block.cond_channels is not None else None
                x, after = block.stream(x, before, given)
            else:
                x, after = block(x), ()
            states.append(after)
        return x, tuple(states)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """See ``Causal``: module after module."""
        for block in self.blocks:
            buffers = graph.module(block, buffers)
        return buffers

    def layers(self) -> list[tuple[str, Causal]]:
        """The causal blocks among the modules, named by position."""
        return [(str(i), b) for i, b in enumerate(self.blocks) if isinstance(b, Causal)]

    def _causal(self) -> list[Causal]:
        return [block for _, block in self.layers()]


class Select(nn.Module):
    """Takes one of several tensors: ``Chain(stack, Select(1), ...)`` goes on with the skip sum.

    Args:
        index: 0 for ``y``, 1 for ``skip`` of a ``GatedResidualBlock`` or a ``DilatedStack``.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The tensor at ``index``."""
        if isinstance(tensors, Tensor):
            raise TypeError("Select got one tensor; it stands behind a block that returns several")
        return tensors[self.index]

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """See ``Causal``: the buffer at ``index``."""
        return (buffers[self.index],)

    def extra_repr(self) -> str:
        """The index."""
        return str(self.index)


_LOOKING_ALONG_TIME = (
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.GroupNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Upsample,
)
_ALONG_THE_LAST_AXIS = (nn.Linear, nn.LayerNorm)
"""Of ``[B, C, T]`` the last axis is time; a module that transposes may well hold them."""


def _refuse_looking_along_time(module: nn.Module) -> None:
    """Raise TypeError for the usual modules that would break causality in silence."""
    if isinstance(module, Causal):
        return
    if isinstance(module, nn.Sequential):
        for part in module:
            _refuse_looking_along_time(part)
    for part in module.modules():
        if isinstance(part, Causal):
            raise TypeError(
                f"Chain: {type(part).__name__} would forget its state inside "
                f"{type(module).__name__}; put it into the chain itself, or into a Chain"
            )
        wide = isinstance(part, nn.modules.conv._ConvNd) and (
            set(part.kernel_size) != {1} or set(part.stride) != {1} or part.transposed
        )
        if (
            wide
            or isinstance(part, _LOOKING_ALONG_TIME)
            or isinstance(module, _ALONG_THE_LAST_AXIS)
        ):
            raise TypeError(
                f"Chain: {type(part).__name__} looks along time and keeps no state here; use "
                "CausalConv1d, or write a Causal block around it"
            )
