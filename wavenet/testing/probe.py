"""A block to be examined: a copy with random weights, what draws its inputs, and comparisons."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavenet.nn.causal import Causal
from wavenet.nn.state import State, flatten_state, map_state

TOLERANCE = 1e-10
"""Largest relative difference between two ways of computing the same in float64."""

BATCH = 3
"""Rows of the inputs."""


class ContractError(AssertionError):
    """A block breaks the law; the message says which part, where, and by how much."""


@dataclass
class Probe:
    """A float64 copy of the block with random weights, and what draws its inputs."""

    block: Causal
    generator: torch.Generator

    @classmethod
    def of(cls, module: Causal, seed: int) -> Probe:
        """A probe of this block; the block stays as it is."""
        # A weight that a hook has computed is no leaf of the graph, and torch copies none.
        computed = (value for part in module.modules() for value in vars(part).values())
        memo: dict[int, Any] = {
            id(value): value.detach().clone() for value in computed if isinstance(value, Tensor)
        }
        block = copy.deepcopy(module, memo).to("cpu", torch.float64).eval()
        generator = torch.Generator().manual_seed(seed)
        for parameter in block.parameters():
            fan_in = max(1, parameter.numel() // max(1, parameter.shape[0]))
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = values / math.sqrt(fan_in) if parameter.ndim > 1 else 0.1 * values
            parameter.requires_grad_(True)
        return cls(block, generator)

    def randn(self, *shape: int) -> Tensor:
        """Noise of this shape, in float64."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def inputs(self, batch: int, n: int) -> tuple[Tensor, Tensor | None]:
        """x ``[batch, C, n]`` and, where the block takes it, cond of the same time."""
        channels = self.block.cond_channels
        cond = None if channels is None else self.randn(batch, channels, n)
        return self.randn(batch, self.block.in_channels, n), cond

    def random_state(self, batch: int) -> State:
        """The shapes of ``init_state``, filled with noise (counters stay as they are)."""
        fresh = self.block.init_state(batch, dtype=torch.float64)
        return map_state(
            lambda part: self.randn(*part.shape) if part.is_floating_point() else part, fresh
        )

    def split(self, n: int) -> list[int]:
        """Random lengths, multiples of ``step``, that add up to n."""
        step, lengths = self.block.step, []
        while n:
            draw = int(torch.randint(1, 9, (), generator=self.generator)) * step
            lengths.append(min(draw, n))
            n -= lengths[-1]
        return lengths


def outputs_of(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a block gives, as a tuple also where it is one tensor."""
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


def require_equal(a: Tensor, b: Tensor, what: str) -> None:
    """Raise ContractError, which begins with ``what``, unless a and b agree to rounding."""
    if a.shape != b.shape:
        raise ContractError(f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
    if a.numel() == 0:
        return
    scale = max(1.0, float(b.detach().abs().max()))
    worst = float((a - b).detach().abs().max()) / scale
    if not worst <= TOLERANCE:
        raise ContractError(f"{what}: relative difference {worst:.2e}, allowed {TOLERANCE:.0e}")


def require_equal_states(a: State, b: State, what: str) -> None:
    """As ``require_equal``, tensor by tensor."""
    if shapes_of(a) != shapes_of(b):
        raise ContractError(f"{what}: shapes {shapes_of(a)} and {shapes_of(b)} differ")
    for i, (one, other) in enumerate(zip(flatten_state(a), flatten_state(b), strict=True)):
        require_equal(one, other, f"{what}, tensor {i}")


def shapes_of(state: State) -> State:
    """The state with the shape of each tensor in its place."""
    return tuple(tuple(p.shape) if isinstance(p, Tensor) else shapes_of(p) for p in state)
