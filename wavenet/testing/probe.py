"""A block to be examined: a copy with random weights, what draws its inputs, and comparisons."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from wavenet.nn.causal import Causal
from wavenet.nn.state import State, flatten_state, map_state

TOLERANCE = 1e-10
"""Largest relative difference between two ways of computing the same in float64.

Where large terms cancel, rounding makes more of a difference than that; see ``Rounding``.
"""

NOISE = 4e-15
"""Relative; some twenty roundings of float64 (2e-16 each)."""

BATCH = 3
"""Rows of the inputs."""

STREAMED_STEPS = 24
"""Length of the inputs, in steps of the block."""

_GAINS = (1.0, 0.5, 0.2, 0.05)
_MODERATE = 1e30
"""Of outputs: their products with gradients of the same size are numbers, too."""


class ContractError(AssertionError):
    """A block breaks the contract; the message names the part, the place and the amount.

    >>> class Wrong(wavenet.CausalConv1d):
    ...     past = 3  # of three taps it is 2
    >>> check_causal(Wrong(1, 1, 3))
    Traceback (most recent call last):
        ...
    wavenet.testing.probe.ContractError: output 0 of two streams taken in turns, a ...
    """


class Rounding(TorchDispatchMode):
    """Makes every operation wrong by ``NOISE``, forward and backward, as rounding does.

    What is summed is so wrong by a share of its own size, however small the sum: what the results
    then differ by bounds what rounding makes of them.

    Args:
        seed: of the errors.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation's results, each number wrong."""
        results = func(*args, **(kwargs or {}))
        arguments = func._schema.arguments
        if any(argument.alias_info is not None for argument in arguments):
            return results  # a view, or in place: other tensors share the memory
        return tree_map(self._wrong, results)

    def _wrong(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float64:
            return value
        error = torch.randn(value.shape, generator=self._generator, dtype=value.dtype)
        return value * (1 + NOISE * error.to(value.device))


@dataclass(frozen=True)
class Comparison:
    """Two results that must agree, and what it means if they do not."""

    what: str
    a: Tensor
    b: Tensor

    @property
    def difference(self) -> float:
        """The largest, of shapes that agree."""
        if self.a.shape != self.b.shape:
            raise ContractError(
                f"{self.what}: shapes {tuple(self.a.shape)} and {tuple(self.b.shape)} differ"
            )
        return float((self.a - self.b).detach().abs().max()) if self.a.numel() else 0.0

    @property
    def scale(self) -> float:
        """The size of the results, at least 1."""
        return max(1.0, float(self.b.detach().abs().max())) if self.b.numel() else 1.0

    def require(self, rounding: float = 0.0) -> None:
        """Raise ContractError unless the two agree, but for rounding."""
        difference, allowed = self.difference, max(TOLERANCE * self.scale, rounding)
        if not difference <= allowed:
            raise ContractError(
                f"{self.what}: relative difference {difference / self.scale:.2e}, "
                f"allowed {allowed / self.scale:.0e}"
            )


@dataclass
class Probe:
    """A float64 copy of the block with random weights, and what draws its inputs.

    Attributes:
        block: the copy.
        generator: of all that is drawn, on the CPU: every device sees the same numbers.
        device: of the copy and its inputs.
    """

    block: Causal
    generator: torch.Generator
    device: torch.device

    @classmethod
    def of(cls, module: Causal, seed: int, device: torch.device) -> Probe:
        """A probe of this block, which stays as it is, with weights that answer noise with numbers.

        Where signals are multiplied in layer after layer they may grow beyond all that float64
        can hold: then all weights are drawn smaller.
        """
        for gain in _GAINS:
            probe = cls._drawn(module, seed, gain, device)
            with torch.no_grad():
                answer = probe.copy(probe.generator.get_state()).answer()
            if all(float(part.abs().max()) < _MODERATE for part in answer if part.numel()):
                break
        return probe

    def answer(self) -> tuple[Tensor, ...]:
        """Outputs for a few steps of noise."""
        x, cond = self.inputs(BATCH, STREAMED_STEPS * self.block.step)
        return outputs_of(self.block.stream(x, self.random_state(BATCH), cond)[0])

    @classmethod
    def _drawn(cls, module: Causal, seed: int, gain: float, device: torch.device) -> Probe:
        # A weight that a hook has computed is no leaf of the graph, and torch copies none.
        computed = (value for part in module.modules() for value in vars(part).values())
        memo: dict[int, Any] = {
            id(value): value.detach().clone() for value in computed if isinstance(value, Tensor)
        }
        block = copy.deepcopy(module, memo).to(device, torch.float64).eval()
        generator = torch.Generator().manual_seed(seed)
        for parameter in block.parameters():
            fan_in = max(1, parameter.numel() // max(1, parameter.shape[0]))
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            values = values / math.sqrt(fan_in) if parameter.ndim > 1 else 0.1 * values
            parameter.data = (gain * values).to(device)
            parameter.requires_grad_(True)
        return cls(block, generator, device)

    def copy(self, generator_state: Tensor) -> Probe:
        """The same block, and the same draws from a state of the generator on."""
        generator = torch.Generator()
        generator.set_state(generator_state)
        return Probe(copy.deepcopy(self.block), generator, self.device)

    def randn(self, *shape: int) -> Tensor:
        """Noise of this shape, in float64."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.device)

    def inputs(self, batch: int, n: int) -> tuple[Tensor, Tensor | None]:
        """x ``[batch, C, n]`` and, where the block takes it, cond of the same time."""
        channels = self.block.cond_channels
        cond = None if channels is None else self.randn(batch, channels, n)
        return self.randn(batch, self.block.in_channels, n), cond

    def random_state(self, batch: int) -> State:
        """The shapes of ``init_state``, filled with noise (counters stay as they are)."""
        fresh = self.fresh_state(batch)
        return map_state(
            lambda part: self.randn(*part.shape) if part.is_floating_point() else part, fresh
        )

    def fresh_state(self, batch: int) -> State:
        """``init_state`` in float64 on the device."""
        return self.block.init_state(batch, device=self.device, dtype=torch.float64)

    def split(self, n: int) -> list[int]:
        """Random lengths, multiples of ``step``, that add up to n."""
        step, lengths = self.block.step, []
        while n:
            draw = int(torch.randint(1, 9, (), generator=self.generator)) * step
            lengths.append(min(draw, n))
            n -= lengths[-1]
        return lengths


def outputs_of(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Outputs of a block, as a tuple also where it is one tensor."""
    return (y,) if isinstance(y, Tensor) else tuple(y)


def stream_in_pieces(
    block: Causal, x: Tensor, cond: Tensor | None, state: State, lengths: list[int]
) -> tuple[tuple[Tensor, ...], State]:
    """Stream x in pieces of these lengths, and join the outputs."""
    pieces, start = [], 0
    for length in lengths:
        part = None if cond is None else cond[..., start : start + length]
        y, state = block.stream(x[..., start : start + length], state, part)
        pieces.append(outputs_of(y))
        start += length
    return tuple(torch.cat(parts, dim=-1) for parts in zip(*pieces, strict=True)), state


def compare_states(a: State, b: State, what: str) -> Iterator[Comparison]:
    """Compare the tensors of two states, one after another."""
    if shapes_of(a) != shapes_of(b):
        raise ContractError(f"{what}: shapes {shapes_of(a)} and {shapes_of(b)} differ")
    for i, (one, other) in enumerate(zip(flatten_state(a), flatten_state(b), strict=True)):
        yield Comparison(f"{what}, tensor {i}", one, other)


def shapes_of(state: State) -> State:
    """The state with the shape of each tensor in its place."""
    return tuple(tuple(p.shape) if isinstance(p, Tensor) else shapes_of(p) for p in state)
