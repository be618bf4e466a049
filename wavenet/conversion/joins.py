"""Modules of a converted network that no block is needed for: each column by itself.

They take one signal ``[B, C, T]`` or several of the same time, and have no state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from wavenet.nn.graph import (
    ADD,
    CONV,
    MAX_DENSE,
    MULTIPLY,
    SUBTRACT,
    Buffer,
    Graph,
    NotCompilable,
)
from wavenet.nn.hooks import may_differ

CANONICAL = ("B", "C", "T")
"""Order of the axes of a signal."""


@dataclass(frozen=True)
class Slot:
    """Stands in the arguments of ``Function`` for the signal of an index."""

    index: int


class _Arithmetic(nn.Module):
    """Base of the operations on two signals of one shape, or one of which has one channel."""

    _operation: int
    _function: Any  # of torch

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """``[B, C, T]`` each, or ``[B, 1, T]``."""
        y: Tensor = type(self)._function(a, b)
        return y

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append a copy of the first signal, and the operation with the second."""
        n = max(one.channels for one in buffers)
        first, second = (_widened(graph, one, n) for one in buffers)
        y = graph.copy(first)
        graph.add(self._operation, second, y)
        return (y,)


def _widened(graph: Graph, x: Buffer, channels: int) -> Buffer:
    """Return a buffer of as many channels: x itself, or its one channel repeated."""
    if x.channels == channels:
        return x
    y, ones = graph.buffer(channels, x.rate), np.ones((channels, 1, 1), np.float32)
    graph.add(CONV, x, y, weight=ones, bias=np.zeros(channels, np.float32))
    return y


class Sum(_Arithmetic):
    """``a + b``."""

    _operation, _function = ADD, torch.add


class Difference(_Arithmetic):
    """``a - b``."""

    _operation, _function = SUBTRACT, torch.sub


class Product(_Arithmetic):
    """``a * b``."""

    _operation, _function = MULTIPLY, torch.mul


class Concatenation(nn.Module):
    """The channels of all signals, one signal after another."""

    def forward(self, *signals: Tensor) -> Tensor:
        """``[B, C_i, T]`` each, to ``[B, sum of C_i, T]``."""
        return torch.cat(signals, dim=1)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append 1x1 convolutions that put the channels below each other."""
        n, at = sum(buffer.channels for buffer in buffers), 0
        y, bias = graph.buffer(n, buffers[0].rate), np.zeros(n, np.float32)
        for i, one in enumerate(buffers):
            rows = np.eye(n, one.channels, -at, dtype=np.float32)[:, :, None]
            graph.add(CONV, one, y, weight=rows, bias=bias, accumulate=i > 0)
            at += one.channels
        return (y,)


class Channels(nn.Module):
    """Channels ``start .. start + length - 1`` of a signal.

    Args:
        start: the first channel.
        length: number of channels.
    """

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self.start, self.length = start, length

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T]`` to ``[B, length, T]``."""
        return x.narrow(1, self.start, self.length)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append a 1x1 convolution."""
        (x,) = buffers
        y = graph.buffer(self.length, x.rate)
        rows = np.eye(self.length, x.channels, self.start, dtype=np.float32)[:, :, None]
        graph.add(CONV, x, y, weight=rows, bias=np.zeros(self.length, np.float32))
        return (y,)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.start}, {self.length}"


class Affine(nn.Module):
    """``scale * x + shift`` with two numbers.

    Args:
        scale: factor.
        shift: addend.
    """

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T]`` to the same shape."""
        y = x * self.scale if self.scale != 1 else x
        return y + self.shift if self.shift != 0 else y

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append a 1x1 convolution, diagonal."""
        (x,) = buffers
        y, n = graph.buffer(x.channels, x.rate), x.channels
        rows = self.scale * np.eye(n, dtype=np.float32)[:, :, None]
        graph.add(CONV, x, y, weight=rows, bias=np.full(n, self.shift, np.float32))
        return (y,)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.scale}, {self.shift}"


class InLayout(nn.Module):
    """A module that takes a signal with its axes in another order, such as ``[B, T, C]``.

    Args:
        module: pointwise in time.
        before: axes that it takes; see ``Signal``.
        after: axes of what it returns.
        groups: of each signal, sizes of its axes of channels; default, one such axis at most.
    """

    def __init__(
        self,
        module: nn.Module,
        before: tuple[str, ...],
        after: tuple[str, ...],
        groups: Sequence[tuple[int, ...]] = (),
    ) -> None:
        super().__init__()
        self.module, self.before, self.after, self.groups = module, before, after, tuple(groups)

    def forward(self, *signals: Tensor) -> Tensor:
        """``[B, C, T]`` to ``[B, C', T]``."""
        groups = self.groups or ((-1,) * ("C" in self.before),) * len(signals)
        given = zip(signals, groups, strict=True)
        return from_layout(
            self.module(*(to_layout(signal, self.before, sizes) for signal, sizes in given)),
            self.after,
        )

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append what the function inside computes, see ``Function``, or ``nn.Linear``."""
        if isinstance(self.module, Function):
            self.module.require_affine()
        elif type(self.module) is not nn.Linear or may_differ(self.module):
            raise NotCompilable(type(self.module).__name__)
        return (lower_affine(self, graph, buffers),)


_SUMS = (
    "add", "__add__", "__radd__", "sub", "__sub__", "rsub", "__rsub__", "subtract", "neg",
    "__neg__", "negative", "mean", "sum", "stack", "cat", "concat", "flip", "roll", "cumsum",
    "diff", "repeat", "tile", "expand", "permute", "transpose", "swapaxes", "swapdims", "select",
    "narrow", "__getitem__", "index_select", "einsum", "matmul", "__matmul__", "linear",
)  # fmt: skip
"""Functions whose results are sums of their arguments, or of these times constants."""
_SCALED = ("mul", "__mul__", "__rmul__", "multiply")
_DIVIDED = ("div", "__truediv__", "divide")


class Function(nn.Module):
    """A function of torch that takes every column by itself.

    Args:
        function: of torch.
        args: its arguments; a ``Slot`` in the place of each signal. Parameters, also in another
            shape, are trained as before; other tensors become buffers.
        kwargs: the same by name.
    """

    def __init__(
        self, function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__()
        self.function = function
        self._names: list[str] = []
        self.arguments = tree_map(self._stored, (args, kwargs))

    def _stored(self, value: Any) -> Any:
        """Register a tensor; return what stands for it."""
        if not isinstance(value, Tensor):
            return value
        name = f"constant_{len(self._names)}"
        self._names.append(name)
        source = value._base if value._is_view() else value
        if isinstance(source, nn.Parameter) and _is_reshaped(value, source):
            self.register_parameter(name, source)
        else:
            self.register_buffer(name, value.detach())
        return _Constant(name, value.shape)

    def forward(self, *signals: Tensor) -> Tensor:
        """Signals of one time, to a signal of that time."""

        def given(value: Any) -> Any:
            if isinstance(value, Slot):
                return signals[value.index]
            if isinstance(value, _Constant):
                return getattr(self, value.name).view(value.shape)
            return value

        args, kwargs = tree_map(given, self.arguments)
        return self.function(*args, **kwargs)

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append 1x1 convolutions, if the function is a sum of the signals times constants."""
        self.require_affine()
        return (lower_affine(self, graph, buffers),)

    def require_affine(self) -> None:
        """Raise NotCompilable unless it is a sum of the signals times constants, and a constant."""
        name = str(getattr(self.function, "__name__", self.function))
        slots = [one for one in tree_flatten(self.arguments)[0] if isinstance(one, Slot)]
        first = isinstance(next(iter(self.arguments[0]), None), Slot)
        scaled = len(slots) == 1 and (name in _SCALED or (first and name in _DIVIDED))
        if name not in _SUMS and not scaled:
            raise NotCompilable(f"the function {name}")

    def extra_repr(self) -> str:
        """The name of the function."""
        return str(getattr(self.function, "__name__", self.function))


def lower_affine(module: nn.Module, graph: Graph, buffers: tuple[Buffer, ...]) -> Buffer:
    """Append 1x1 convolutions of what a module makes of every channel alone; it must be affine."""
    zeros = [torch.zeros(1, one.channels, 1) for one in buffers]
    with torch.no_grad():
        constant = module(*zeros)
        y, bias = graph.buffer(constant.shape[1], buffers[0].rate), constant[0, :, 0].numpy()
        for i, one in enumerate(buffers):
            if one.channels * y.channels > MAX_DENSE:
                raise NotCompilable(f"a function of {one.channels} channels")
            given = [of.expand(one.channels, -1, -1) for of in zeros]
            given[i] = torch.eye(one.channels)[:, :, None]
            rows = (module(*given) - constant)[..., 0].T[:, :, None].numpy()
            first = i == 0
            graph.add(
                CONV, one, y, weight=rows, bias=bias if first else 0 * bias, accumulate=not first
            )
    return y


class _Constant:
    """Stands for a tensor of a ``Function``."""

    def __init__(self, name: str, shape: torch.Size) -> None:
        self.name, self.shape = name, shape


def _is_reshaped(value: Tensor, source: Tensor) -> bool:
    """Whether a view has all numbers of its source in their order, as ``source[:, None]`` has."""
    return value.numel() == source.numel() and value.is_contiguous() and source.is_contiguous()


def to_layout(signal: Tensor, axes: tuple[str, ...], groups: tuple[int, ...]) -> Tensor:
    """``[B, C, T]`` with its channels in groups and its axes in another order."""
    channels = (axis for axis in axes if axis not in "BT")
    ordered = ("B", *channels, "T")
    grouped = signal.reshape(signal.shape[0], *groups, signal.shape[-1])
    return grouped.permute([ordered.index(axis) for axis in axes])


def from_layout(signal: Tensor, axes: tuple[str, ...]) -> Tensor:
    """The inverse of ``to_layout``."""
    ordered = ("B", *(axis for axis in axes if axis not in "BT"), "T")
    moved = signal.permute([axes.index(axis) for axis in ordered])
    return moved.reshape(moved.shape[0], -1, moved.shape[-1])
