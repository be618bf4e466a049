"""Parallel composition of causal blocks, whose delays are aligned.

    Parallel(f, g)      y = f(x) + g(x)
    Residual(f)         y = x + f(x)                       (He et al. 2016, equation 1)
    Concat(f, g)        y = [f(x), g(x)], channels of f first, then those of g

A block's ``delay`` says how many samples its output lags behind its input. Before a branch that
lags less than another, x waits for the difference, so that all branches give the same time. An
output of strided and transposed convolutions has the time of the input that it is computed for,
whatever their kernels: a branch down and up again is aligned with the signal itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from wavenet.nn.causal import Causal, common_period, is_causal, stream_child
from wavenet.nn.chain import Chain, apply_beside, refuse_looking_along_time
from wavenet.nn.composition import farthest_reach
from wavenet.nn.delay import Delay
from wavenet.nn.graph import ADD, CONV, Buffer, Graph, NotCompilable
from wavenet.nn.state import State


class _Branches(Causal):
    """Base: branches of one input, aligned when they are put together.

    Attributes:
        branches: as given; one that lags less than another is a ``Chain(Delay(...), branch)``.

    Args:
        branches: causal blocks and modules pointwise in time, such as ``nn.Identity()``.

    Raises:
        TypeError: if a module is known to look along time without being a ``Causal``.
        ValueError: if there is no ``Causal``, or branches differ in their channels of x, in their
            channels of cond, or in their rate, or their delays differ by a part of a sample.
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for branch in branches:
            refuse_looking_along_time(branch)
        blocks, widths = _causal(branches), [_in_channels(branch) for branch in branches]
        if not blocks:
            raise ValueError(f"{type(self).__name__} needs a causal block; add one, as Delay(C, 0)")
        rates = [_causal_or(branch, "rate", Fraction(1)) for branch in branches]
        self.in_channels = self._common("take x of different channels", widths)
        self.rate = self._common("give different output samples per input sample", rates)
        conds = [block.cond_channels for block in blocks]
        self.cond_channels = self._common("take cond of different widths", conds)
        self.step = math.lcm(*(block.step for block in blocks))
        self.delay = max(_causal_or(branch, "delay", Fraction(0)) for branch in branches)
        self.branches = nn.ModuleList(self._aligned(branch) for branch in branches)

    def _common(self, what: str, values: list[Any]) -> Any:
        """Return the value of all branches that have one; None if none has."""
        known = sorted({value for value in values if value is not None})
        if len(known) > 1:
            found = " and ".join(map(str, known))
            raise ValueError(f"{type(self).__name__}: branches {what}, {found}; make them equal")
        return known[0] if known else None

    def _aligned(self, branch: nn.Module) -> nn.Module:
        """Return the branch, behind a ``Delay`` where it lags less than another."""
        wait = self.delay - _causal_or(branch, "delay", Fraction(0))
        if wait.denominator != 1:
            raise ValueError(
                f"{type(self).__name__}: the delays of two branches differ by {wait} samples of x; "
                "put a Delay into one of them, so that they differ by a whole number"
            )
        return Chain(Delay(self.in_channels, int(wait)), branch) if wait else branch

    @property
    def period(self) -> int:
        """The common period of the branches, in samples."""
        return common_period(self.step, ((Fraction(1), block) for block in _causal(self.branches)))

    @property
    def unbounded(self) -> bool:
        """Whether a branch depends on its whole past."""
        return any(block.unbounded for block in _causal(self.branches))

    @property
    def past(self) -> int:
        """Largest left context of any branch, its waiting included."""
        return farthest_reach([self])

    def oldest_input(self, n: int) -> int:
        """The earliest input that a branch's output n depends on."""
        oldest = [block.oldest_input(n) for block in _causal(self.branches)]
        if len(oldest) < len(self.branches):  # a pointwise one, at the rate of x
            oldest.append(n)
        return min(oldest)

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Return one state per branch; that of a pointwise module is empty."""
        factory = self._factory(device, dtype)
        return tuple(
            cast(Causal, branch).init_state(batch_size, **factory) if is_causal(branch) else ()
            for branch in self.branches
        )

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle every branch."""
        return tuple(
            cast(Causal, branch).settle(x, _given(branch, cond)) if is_causal(branch) else ()
            for branch in self.branches
        )

    def _outputs(
        self, x: Tensor, state: State, cond: Tensor | None
    ) -> tuple[list[Tensor], tuple[State, ...]]:
        """Check the call; return outputs and states of all branches."""
        self.check_call(x, cond)
        self._check_children(state, len(self.branches))
        outputs: list[Tensor] = []
        states: list[State] = []
        for branch, before in zip(self.branches, state, strict=True):
            if is_causal(branch):
                y, after = stream_child(branch, x, before, _given(branch, cond))
            else:
                y, after = apply_beside(branch, x, x), ()
            outputs.append(self._one(branch, y))
            states.append(after)
        return outputs, tuple(states)

    def _one(self, branch: nn.Module, y: Any) -> Tensor:
        """Return the output of a branch, checked to be one tensor."""
        if isinstance(y, Tensor):
            return y
        raise TypeError(
            f"{type(self).__name__}: {type(branch).__name__} returns {len(y)} tensors; put it into "
            "a Chain with Select(0) or Select(1) behind it to select one"
        )

    def _lowered(self, graph: Graph, x: Buffer) -> list[Buffer]:
        """Append every branch; return the buffers that they write."""
        outputs = []
        for branch in self.branches:
            written = graph.module(branch, (x,))
            if len(written) != 1:
                raise NotCompilable(f"a branch of {len(written)} outputs")
            outputs.append(written[0])
        return outputs


class Parallel(_Branches):
    """The sum of causal blocks and pointwise modules: ``[B, C, T]`` to ``[B, C', T * rate]``.

    >>> multi_scale = Parallel(CausalConv1d(4, 8, 3), CausalConv1d(4, 8, 3, dilation=9))
    >>> multi_scale.past
    18

    Branches may delay their output by different numbers of samples (``Delay``, ``CausalSTFT``):
    they are aligned when they are put together here, by letting x wait before the faster ones.
    Column t of cond goes to a branch with the sample that it gets at time t, waiting or not.

    Args:
        branches: see ``Chain`` for what a pointwise module is; at least one is a ``Causal``.

    Raises:
        TypeError: if a module is known to look along time without being a ``Causal``.
        ValueError: if there is no ``Causal``, if branches differ in channels of x or cond or in
            their rate, or if their delays differ by a part of a sample; and, at a call, if
            branches have outputs of different shapes.
    """

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """The sum of the branches; see ``Causal.stream``."""
        outputs, states = self._outputs(x, state, cond)
        y = outputs[0]
        for other in outputs[1:]:
            if other.shape[1] != y.shape[1]:
                raise ValueError(
                    f"{type(self).__name__}: outputs of {y.shape[1]} and {other.shape[1]} channels "
                    "cannot be added; make them equal, as nn.Conv1d(C, C', 1) does"
                )
            y = y + other
        return y, states

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the branches, and add their outputs."""
        outputs = self._lowered(graph, buffers[0])
        if len({(buffer.channels, buffer.rate) for buffer in outputs}) != 1:
            raise NotCompilable("a sum of branches of different shapes")
        y = graph.copy(outputs[0])
        for other in outputs[1:]:
            graph.add(ADD, other, y)
        return (y,)


class Residual(Parallel):
    """A chain of modules and a connection around it: y = x + f(x) (He et al. 2016, equation 1).

    >>> block = Residual(CausalConv1d(8, 8, 3), nn.ReLU(), CausalConv1d(8, 8, 3))
    >>> block.past
    4

    x waits as long as f delays its output. The state is ``(that of the shortcut, that of f)``.

    Args:
        modules: f, one causal block, or several modules that a ``Chain`` is made of.
        shortcut: a pointwise module or a causal block in place of x, such as
            ``nn.Conv1d(C, C', 1)`` where f changes the channels.

    Raises:
        TypeError: see ``Parallel``.
        ValueError: see ``Parallel``.
    """

    def __init__(self, *modules: nn.Module, shortcut: nn.Module | None = None) -> None:
        one = len(modules) == 1 and is_causal(modules[0])
        body = modules[0] if one else Chain(*modules)
        super().__init__(nn.Identity() if shortcut is None else shortcut, body)


class Concat(_Branches):
    """The channels of all branches, one branch after another: ``[B, C, T]`` to ``[B, sum, T']``.

    ``Concat(nn.Identity(), inner)`` is the connection of a U-Net (Ronneberger et al. 2015), from
    before the blocks that lower the rate to behind those that raise it again:

    >>> inner = Chain(CausalConv1d(4, 8, 4, stride=2), CausalConvTranspose1d(8, 4, 4, stride=2))
    >>> level = Chain(Concat(nn.Identity(), inner), nn.ReLU(), CausalConv1d(8, 4, 3))
    >>> level.rate, level.step, level.past
    (Fraction(1, 1), 2, 8)

    Args:
        branches: see ``Parallel``; they may differ in their output channels.

    Raises:
        TypeError: see ``Parallel``.
        ValueError: see ``Parallel``.
    """

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """The outputs of the branches, joined; see ``Causal.stream``."""
        outputs, states = self._outputs(x, state, cond)
        return torch.cat(outputs, dim=1), states

    def lower(self, graph: Graph, buffers: tuple[Buffer, ...]) -> tuple[Buffer, ...]:
        """Append the branches, and 1x1 convolutions that put them below each other."""
        outputs = self._lowered(graph, buffers[0])
        n = sum(buffer.channels for buffer in outputs)
        if len({buffer.rate for buffer in outputs}) != 1:
            raise NotCompilable("branches of different rates")
        y, bias, at = graph.buffer(n, outputs[0].rate), np.zeros(n, np.float32), 0
        for i, one in enumerate(outputs):
            rows = np.eye(n, one.channels, -at, dtype=np.float32)[:, :, None]
            graph.add(CONV, one, y, weight=rows, bias=bias, accumulate=i > 0)
            at += one.channels
        return (y,)


def _causal(branches: Sequence[nn.Module] | nn.ModuleList) -> list[Causal]:
    return [cast(Causal, branch) for branch in branches if is_causal(branch)]


def _causal_or(branch: nn.Module, name: str, pointwise: Fraction) -> Fraction:
    """Return the rate or the delay of a branch."""
    return getattr(branch, name) if is_causal(branch) else pointwise


def _in_channels(branch: nn.Module) -> int | None:
    """Channels of x that a branch takes; None if it takes any number."""
    parts = (part for part in branch.modules() if isinstance(part, Causal | nn.Conv1d))
    return next((part.in_channels for part in parts), None)


def _given(branch: nn.Module, cond: Tensor | None) -> Tensor | None:
    """Return the conditioning that a causal branch takes."""
    return cond if branch.cond_channels is not None else None
