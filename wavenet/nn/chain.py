"""Sequential composition of causal blocks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, cast

import torch
from torch import Tensor, nn

from wavenet.nn.causal import (
    Causal,
    check_inputs,
    is_causal,
    stream_child,
)
from wavenet.nn.composition import (
    chained_delay,
    chained_rates,
    chained_step,
    farthest_reach,
)
from wavenet.nn.graph import Buffer, Graph
from wavenet.nn.state import State


class Chain(Causal):
    """Causal blocks and pointwise modules, each applied to the output of the one before.

    >>> body = Chain(CausalConv1d(1, 16, 3), nn.Tanh(), CausalConv1d(16, 1, 3, dilation=2))
    >>> body.past
    6

    A module that is no ``Causal`` must be pointwise in time (activations, convolutions of kernel
    size 1); it has no state. A block that returns several tensors passes on the tuple, from which
    ``Select`` takes one. Conditioning goes to every block that has ``cond_channels``.

    ``nn.BatchNorm1d`` is pointwise by its running statistics, in evaluation mode. In training mode
    it takes the mean over the windows of a batch, later samples included, as in any other network:
    train on whole windows, and call ``eval()`` before streaming. ``wavenet.nn.BatchNorm`` has the
    same weights and is fixed in training, too.

    Modules may be replaced later (``chain.blocks[1] = torch.compile(chain.blocks[1])``): their
    attributes are read at every call.

    Args:
        modules: at least one of them a ``Causal``.

    Raises:
        TypeError: if a module is known to look along time without being a ``Causal``.
        ValueError: if there is no ``Causal``, or blocks disagree on the channels of ``cond``.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        for module in modules:
            refuse_looking_along_time(module)
        self.blocks = nn.ModuleList(modules)
        if not self._causal():
            raise ValueError("Chain needs at least one causal block; nn.Sequential fits the rest")
        _ = self.cond_channels  # the blocks agree on one

    @property
    def in_channels(self) -> int:  # type: ignore[override]  # computed, not stored
        """Input channels of the first module that has some, be it a pointwise projection."""
        return _in_channels(list(self.blocks))

    @property
    def cond_channels(self) -> int | None:  # type: ignore[override]
        """Conditioning channels of the blocks that take conditioning."""
        return _cond_channels(self._causal())

    @property
    def step(self) -> int:  # type: ignore[override]
        """Smallest number of samples that is a whole number of steps at every block."""
        return chained_step(self._causal())

    @property
    def rate(self) -> Fraction:  # type: ignore[override]
        """The product of the blocks' rates."""
        return chained_rates(self._causal())[1]

    @property
    def delay(self) -> Fraction:  # type: ignore[override]
        """The sum of the blocks' delays, in samples of the chain's input."""
        return chained_delay(self._causal())

    @property
    def past(self) -> int:
        """Largest left context of any output in one period of the sample rates."""
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
        """Return one state per module; that of a pointwise module is empty."""
        factory: dict[str, Any] = self._factory(device, dtype)
        return tuple(
            cast(Causal, block).init_state(batch_size, **factory) if is_causal(block) else ()
            for block in self.blocks
        )

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle module after module, each on the periodic output of the one before.

        Raises:
            ValueError: if a batch norm is in training mode, whose statistics silence would change.
        """
        states: list[State] = []
        kept = x
        for block in self.blocks:
            if is_causal(block):
                given = cond if block.cond_channels is not None else None
                states.append(cast(Causal, block).settle(x, given))
                x = stream_child(block, x, states[-1], given)[0]
            else:
                refuse_looking_along_time(block)
                refuse_batch_statistics(block, "Chain: warm_state")
                states.append(())
                x = apply_beside(block, x, kept)
        return tuple(states)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        """``[B, in_channels, T]`` to the output of the last module; see ``Causal.stream``."""
        blocks = self._check_call(x, cond)
        self._check_children(state, len(blocks))
        states: list[State] = []
        kept = x
        for block, before in zip(blocks, state, strict=True):
            if is_causal(block):
                if not isinstance(x, Tensor):
                    raise TypeError(
                        f"Chain: {type(block).__name__} got the {len(x)} tensors of the block "
                        "before it; put Select(0) or Select(1) between them to select one"
                    )
                given = cond if block.cond_channels is not None else None
                x, after = stream_child(block, x, before, given)
            else:
                refuse_looking_along_time(block)
                x, after = apply_beside(block, x, kept), ()
            states.append(after)
        return x, tuple(states)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the operations of module after module."""
        for block in self.blocks:
            buffers = graph.module(block, buffers)
        return buffers

    def check_call(self, x: Tensor, cond: Tensor | None) -> None:
        """Raise ValueError unless x and cond are what the blocks take."""
        self._check_call(x, cond)

    def _check_call(self, x: Tensor, cond: Tensor | None) -> list[nn.Module]:
        """Check x and cond; return the modules, which are looked up once."""
        blocks = list(self.blocks)
        causal = [cast(Causal, block) for block in blocks if is_causal(block)]
        widths = _in_channels(blocks), chained_step(causal), _cond_channels(causal)
        check_inputs(type(self).__name__, x, cond, *widths)
        return blocks

    def layers(self) -> list[tuple[str, Causal]]:
        """The causal blocks among the modules, named by position."""
        blocks = enumerate(self.blocks)
        return [(str(i), cast(Causal, block)) for i, block in blocks if is_causal(block)]

    def _causal(self) -> list[Causal]:
        return [cast(Causal, block) for block in self.blocks if is_causal(block)]


def _in_channels(blocks: list[nn.Module]) -> int:
    """Input channels of the first causal block or convolution."""
    first = blocks[0] if blocks else None
    if isinstance(first, Causal | nn.Conv1d):
        return first.in_channels
    for block in blocks:
        for part in block.modules():
            if isinstance(part, Causal | nn.Conv1d):
                return part.in_channels
    raise ValueError("Chain: no causal block is left; add one")


def _cond_channels(blocks: list[Causal]) -> int | None:
    """Conditioning channels of the blocks that take conditioning, which must agree."""
    widths = [block.cond_channels for block in blocks if block.cond_channels is not None]
    if len(set(widths)) > 1:
        raise ValueError(f"Chain: blocks take cond of different widths: {sorted(set(widths))}")
    return widths[0] if widths else None


def apply_beside(module: nn.Module, x: Any, kept: Tensor) -> Any:
    """Apply a pointwise module to x, and leave as it is what the caller and other branches read.

    Args:
        module: which may change x in place.
        x: that very tensor, or what the modules before made of it.
        kept: the tensor that others read.
    """
    if x is kept and any(getattr(part, "inplace", False) for part in module.modules()):
        x = kept.clone()
    return module(x)


class Select(nn.Module):
    """Selects one of several tensors: ``Chain(stack, Select(1), ...)`` continues with the skip sum.

    >>> stack = DilatedStack(16, 32, dilations=[1, 2, 4])
    >>> net = Chain(CausalConv1d(1, 16, 1), stack, Select(1), nn.ReLU(), CausalConv1d(32, 1, 1))
    >>> tuple(net(torch.randn(1, 1, 100)).shape), net.past
    ((1, 1, 100), 7)

    Args:
        index: 0 for ``y``, 1 for ``skip`` of a ``GatedResidualBlock`` or a ``DilatedStack``.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, tensors: tuple[Tensor, ...]) -> Tensor:
        """The tensor at ``index``."""
        if isinstance(tensors, Tensor):
            raise TypeError("Select got one tensor; put it after a block that returns several")
        return tensors[self.index]

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Return the buffer at ``index``."""
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
    nn.modules.pooling._LPPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.padding._ConstantPadNd,
    nn.modules.padding._ReflectionPadNd,
    nn.modules.padding._ReplicationPadNd,
    nn.modules.padding._CircularPadNd,
    nn.Upsample,
    nn.Flatten,
    nn.Unflatten,
    nn.Unfold,
    nn.Fold,
)
_ALONG_THE_LAST_AXIS = (nn.Linear, nn.LayerNorm)
"""Modules that act on the last axis, which is time in ``[B, C, T]``, unless a parent transposes."""
_ALONG_ITS_DIM = nn.GLU | nn.Softmax | nn.LogSoftmax | nn.Softmin
"""Modules that act on the axis of their attribute ``dim``, which must be the channels."""
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


_POINTWISE: set[type[nn.Module]] = set()
"""Classes without children that have been accepted before."""


def refuse_looking_along_time(module: nn.Module) -> None:
    """Raise TypeError for common modules that would silently break causality, and for no module."""
    kind = type(module)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"Chain: a {kind.__name__} is no module; give modules one by one, those of a list as "
            "Chain(*modules)"
        )
    if kind is nn.Conv1d and module.kernel_size == (1,) and module.stride == (1,):
        return
    if (kind in _POINTWISE and not module._modules) or is_causal(module):
        return
    if isinstance(module, nn.Sequential):
        for part in module:
            refuse_looking_along_time(part)
    if isinstance(module, _ALONG_ITS_DIM) and module.dim not in (1, -2):
        raise TypeError(
            f"Chain: {kind.__name__} with dim={module.dim} is not pointwise in time; give it "
            "dim=1, the channels of [B, C, T]"
        )
    for part in module.modules():
        if isinstance(part, _BATCH_NORM) and part.running_mean is None:
            raise TypeError(
                f"Chain: {type(part).__name__} has no running statistics and normalizes over time, "
                "later samples included; set track_running_stats=True"
            )
        if isinstance(part, Causal):
            raise TypeError(
                f"Chain: {type(part).__name__} would lose its state inside "
                f"{kind.__name__}; put it into the chain itself, or into a Chain"
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
                f"Chain: {type(part).__name__} is not pointwise in time and has no state here; use "
                "CausalConv1d, or write a Causal block around it"
            )
    of_its_kind = nn.modules.conv._ConvNd | _ALONG_ITS_DIM | _BATCH_NORM
    if not module._modules and not isinstance(module, of_its_kind):
        _POINTWISE.add(kind)


def refuse_batch_statistics(module: nn.Module, what: str) -> None:
    """Raise ValueError for a batch norm in training mode.

    Args:
        module: which may contain some.
        what: needs evaluation mode, for the message.
    """
    for part in module.modules():
        if isinstance(part, _BATCH_NORM) and part.training:
            raise ValueError(
                f"{what} takes no {type(part).__name__} in training mode, which normalizes by the "
                "mean over what it is given; call eval() before, or use wavenet.nn.BatchNorm"
            )
