"""The law of causal blocks.

A causal block is one equation, ``stream(x, state) -> (y, state')``: it takes the next samples and
what it remembers, and gives their outputs and what it remembers now. Everything else follows:

- the parallel pass is ``stream`` from a fresh state;
- one sample at a time is ``stream`` with T = 1;
- streaming ``a`` and then ``b`` equals streaming ``a ++ b``, outputs and gradients, because the
  state is exactly what the next output can still need.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.nn.state import State
from wavenet.values.integers import as_integer


class Causal(nn.Module):
    """Base class of blocks in which no output depends on a later input.

    A subclass sets ``in_channels`` (and ``cond_channels`` where it takes conditioning), and defines
    ``past``, ``init_state`` and ``stream``; ``wavenet.testing.check_causal`` verifies that the
    three belong together. One that is made of others names them in ``layers``, and then
    ``init_state`` is given. ``forward`` is given, and is never overridden inside a block.

    Attributes:
        in_channels: channels of ``x``.
        cond_channels: channels of ``cond``, or None for a block that takes none.
        rate: output samples per input sample (1 unless the block changes the sample rate).
        step: calls take a multiple of this many input samples (1 unless the block decimates).
    """

    in_channels: int
    cond_channels: int | None = None
    rate: Fraction = Fraction(1)
    step: int = 1

    @property
    def past(self) -> int:
        """Reach of the input in samples: an output at time t hears ``x[t - past .. t]``."""
        raise NotImplementedError(f"{type(self).__name__} must define `past`")

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """The state before the first sample, with zeros at the input of every layer.

        A block made of others has a tuple of theirs, in the order of ``layers``.

        Args:
            batch_size: rows B.
            device: default, that of the block's parameters.
            dtype: default, that of the block's parameters.
        """
        layers = self.layers()
        if not layers:
            raise NotImplementedError(f"{type(self).__name__} must define `init_state`")
        return tuple(
            layer.init_state(batch_size, device=device, dtype=dtype) for _, layer in layers
        )

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Any, State]:
        """The next outputs and the state after them.

        Args:
            x: ``[B, in_channels, T]``, the next T samples, T a multiple of ``step``.
            state: from ``init_state``, ``warm_state`` or the call before. It is not changed.
            cond: ``[B, cond_channels, T]``, or ``[B, cond_channels, 1]`` to hold one column.

        Returns:
            ``(y, state')`` with y ``[B, out_channels, T * rate]``, or a tuple of such tensors.

        Raises:
            ValueError: if x, the state or cond do not fit; the message says how to make them.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `stream`")

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Any:
        """The parallel pass: ``stream`` from ``init_state``. ``[B, C, T]`` to ``[B, C', T']``."""
        state = self.init_state(x.shape[0], device=x.device, dtype=x.dtype)
        return self.stream(x, state, cond)[0]

    def warm_state(
        self,
        batch_size: int,
        cond: Tensor | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """The state that streaming silence leads to: zeros at the input of the block alone.

        It differs from ``init_state``, which has zeros at the input of *every* layer, as soon as a
        layer answers silence with something else than zero (a bias, a conditioning).

        Args:
            batch_size: rows B.
            cond: the conditioning during the silence, ``[B, cond_channels, T]``. Its first column
                is held through all the silence before these T samples.
            device: default, that of the block's parameters.
            dtype: default, that of the block's parameters.

        Raises:
            ValueError: if cond does not fit; the message says what does.
        """
        factory = self._factory(device, dtype)
        silence = torch.zeros(batch_size, self.in_channels, self.step, **factory)
        first = None if cond is None else cond[..., :1]
        self.check_call(silence, first)
        state = self.settle(silence, first)
        if cond is not None and cond.shape[-1] > 1:
            state = self.stream(silence[..., :1].expand(-1, -1, cond.shape[-1]), state, cond)[1]
        return state

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """The state that an endless repetition of x leads to.

        This definition repeats x for as long as the block remembers. The blocks of this package
        override it: one period says everything, and what it leads to is again periodic.

        Args:
            x: ``[B, in_channels, step]``, one period of the input.
            cond: ``[B, cond_channels, 1]``.
        """
        repeats = max(1, math.ceil(self.past / x.shape[-1]))
        state = self.init_state(x.shape[0], device=x.device, dtype=x.dtype)
        return self.stream(x.repeat(1, 1, repeats), state, cond)[1]

    def oldest_input(self, n: int) -> int:
        """Index of the earliest input that output ``n`` hears (negative: before the start)."""
        return math.floor(n / self.rate) - self.past

    def layers(self) -> list[tuple[str, Causal]]:
        """The named causal blocks that the signal passes one after another; none in a leaf."""
        return []

    def _factory(
        self, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> dict[str, Any]:
        """Where the block's parameters live, unless the caller says otherwise."""
        if device is None or dtype is None:
            for parameter in self.parameters():
                device = parameter.device if device is None else device
                dtype = parameter.dtype if dtype is None else dtype
                break
        return {"device": device, "dtype": dtype}

    def check_call(self, x: Tensor, cond: Tensor | None) -> None:
        """Raise ValueError unless x and cond are what this block takes."""
        name = type(self).__name__
        if x.ndim != 3 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{name}: x has shape {tuple(x.shape)}, expected [B, {self.in_channels}, T]"
            )
        if x.shape[-1] == 0 or (self.step > 1 and x.shape[-1] % self.step):
            raise ValueError(
                f"{name}: x has {x.shape[-1]} samples, but a call takes a positive multiple of "
                f"{self.step}; pad x or keep the remainder for the next call"
            )
        if cond is None:
            if self.cond_channels is not None:
                raise ValueError(
                    f"{name}: cond is None, but the block was built with cond_channels="
                    f"{self.cond_channels}; pass cond [B, {self.cond_channels}, T]"
                )
        elif self.cond_channels is None:
            raise ValueError(
                f"{name}: cond was given, but the block was built without cond_channels and would "
                f"ignore it; build it with cond_channels={cond.shape[1]} or pass no cond"
            )
        elif (
            cond.ndim != 3
            or cond.shape[:2] != (x.shape[0], self.cond_channels)
            or (cond.shape[-1] != 1 and cond.shape[-1] != x.shape[-1])
        ):
            raise ValueError(
                f"{name}: cond has shape {tuple(cond.shape)}, expected "
                f"({x.shape[0]}, {self.cond_channels}, {x.shape[-1]}), the time of x, or one column"
            )

    def _check_children(self, state: State, n_children: int) -> None:
        """Raise ValueError unless the state is a tuple with one entry per child."""
        if not isinstance(state, tuple) or len(state) != n_children:
            found = f"a tuple of {len(state)}" if isinstance(state, tuple) else type(state).__name__
            raise ValueError(
                f"{type(self).__name__}: the state is {found}, expected a tuple of {n_children}, "
                "one per layer; make it with `state = block.init_state(batch_size)` and carry on "
                "with what the call returns: `y, state = block.stream(x, state)`"
            )


def farthest_reach(blocks: list[Causal]) -> int:
    """``past`` of causal blocks one after another, in samples of the first one's input.

    Follows every output of one period of the sample rates back to the earliest input it hears.
    """
    step, rate = chained_rates(blocks)

    def oldest(n: int) -> int:
        for block in reversed(blocks):
            n = block.oldest_input(n)
        return n

    return max(math.floor(n / rate) - oldest(n) for n in range(math.ceil(step * rate)))


def chained_rates(blocks: list[Causal]) -> tuple[int, Fraction]:
    """``step`` and ``rate`` of causal blocks one after another."""
    step, rate = 1, Fraction(1)
    for block in blocks:
        # A call of `step` samples leaves step * rate for this block: a multiple of its own step.
        step *= (step * rate / block.step).denominator
        rate *= block.rate
    return step, rate


def check_positive(name: str, value: int) -> int:
    """Return value as Python's int; raise ValueError unless it is an integer of at least 1."""
    return as_integer(name, value)
