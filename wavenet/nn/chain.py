"""Blocks one after another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wavenet.nn.causal import Causal, chained_rates, farthest_reach
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
        self.in_channels = causal[0].in_channels
        widths = {block.cond_channels for block in causal} - {None}
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
        """Settle block after block, as long as none of them changes the sample rate."""
        if any(block.rate != 1 for block in self._causal()):
            return super().settle(x, cond)  # a transposed convolution answers with a pattern
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
        self._check_call(x, cond)
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

    def extra_repr(self) -> str:
        """The index."""
        return str(self.index)


def _refuse_looking_along_time(module: nn.Module) -> None:
    """Raise TypeError for the usual modules that would break causality in silence."""
    if isinstance(module, Causal):
        return
    for part in module.modules():
        wide = isinstance(part, nn.modules.conv._ConvNd) and (
            set(part.kernel_size) != {1} or set(part.stride) != {1} or part.transposed
        )
        if wide or isinstance(part, nn.RNNBase | nn.MultiheadAttention):
            raise TypeError(
                f"Chain: {type(part).__name__} looks along time and keeps no state here; use "
                "CausalConv1d, or write a Causal block around it"
            )
