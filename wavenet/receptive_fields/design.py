"""Design of dilated stacks: those that reach a target receptive field, and their costs.

Stacks of gated residual blocks as in ``wavenet.nn.DilatedStack`` (van den Oord et al. 2016):
dilations 1, 2, 4 .. 2 ** (L - 1), repeated S times, with kernel size k. Their receptive field is

    1 + S (k - 1) (2 ** L - 1) samples.

With R residual and K skip channels a layer has 2 R R k weights in its dilated convolution, R R and
R K in its projections. This is the number of multiply-adds per sample; parameters add the biases.
For streaming, each layer keeps its last (k - 1) d inputs of R channels. The stack alone is
counted: the parts of a model before and after it do not depend on the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wavenet.nn.causal import check_positive

KERNEL_SIZES = (2, 3, 4, 5)
"""Kernel sizes that are tried."""

MOST_LAYERS_PER_STACK = 20
"""Largest number of layers per stack that is tried: dilations up to 524288."""

MOST_LAYERS = 60
"""Largest number of layers in total; deeper stacks cost more than they save."""

BYTES_PER_VALUE = 4
"""State is kept in float32."""


@dataclass(frozen=True)
class Proposal:
    """One stack, and its costs.

    Attributes:
        kernel_size: taps.
        layers_per_stack: dilations 1, 2, 4 .. 2 ** (layers_per_stack - 1).
        stacks: how often that cycle is repeated.
        samples: its receptive field.
        milliseconds: the same.
        multiply_adds: per sample.
        parameters: weights and biases.
        state_bytes: state of one stream, in float32.
        real_time_factor: seconds of sound per second of work, if the machine's speed was given.
        pareto: whether no other proposal is at least as good in every cost and better in one.
    """

    kernel_size: int
    layers_per_stack: int
    stacks: int
    samples: int
    milliseconds: float
    multiply_adds: int
    parameters: int
    state_bytes: int
    real_time_factor: float | None = None
    pareto: bool = False

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilations in samples, one per layer."""
        return tuple(2**i for i in range(self.layers_per_stack)) * self.stacks

    @property
    def costs(self) -> tuple[int, int, int]:
        """Costs to be minimised: multiply-adds, parameters, state."""
        return self.multiply_adds, self.parameters, self.state_bytes

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def design(
    target_ms: float,
    sample_rate: int,
    *,
    residual_channels: int = 64,
    skip_channels: int | None = None,
    max_parameters: int | None = None,
    multiply_adds_per_second: float | None = None,
    kernel_sizes: Sequence[int] = KERNEL_SIZES,
) -> list[Proposal]:
    """Stacks whose receptive field is at least ``target_ms``, the cheapest first.

    For every kernel size and number of layers per stack there is one proposal, with the fewest
    stacks that reach the target. Fields of more than twice the target are left out.

    >>> best = design(target_ms=100, sample_rate=16000)[0]
    >>> best.samples, best.kernel_size, best.layers_per_stack, best.stacks
    (2048, 2, 11, 1)

    Args:
        target_ms: target receptive field, in milliseconds.
        sample_rate: in Hz.
        residual_channels: width of the signal between layers.
        skip_channels: width of the skip sum; default, twice the residual channels.
        max_parameters: of the stack, biases included.
        multiply_adds_per_second: of the machine, as measured, for real-time factors.
        kernel_sizes: that are tried.

    Returns:
        Proposals by multiply-adds per sample, then by state memory.

    Raises:
        ValueError: if a number is not positive, or nothing keeps to ``max_parameters``.
    """
    if not (math.isfinite(target_ms) and target_ms > 0):
        raise ValueError(f"target_ms={target_ms} must be a positive number of milliseconds")
    check_positive("sample_rate", sample_rate)
    check_positive("residual_channels", residual_channels)
    skip_channels = 2 * residual_channels if skip_channels is None else skip_channels
    check_positive("skip_channels", skip_channels)
    target = max(2, math.ceil(target_ms * sample_rate / 1000 - 1e-9))
    found = [
        proposal(*stack, sample_rate, residual_channels, skip_channels)
        for stack in _stacks_that_reach(target, kernel_sizes)
    ]
    if not found:
        raise ValueError(
            f"target_ms={target_ms:g} at {sample_rate} Hz is {target} samples, which no stack of "
            f"up to {MOST_LAYERS} layers reaches; ask for less or lower the sample rate"
        )
    if max_parameters is not None:
        check_positive("max_parameters", max_parameters)
        fewest = min(p.parameters for p in found)
        found = [p for p in found if p.parameters <= max_parameters]
        if not found:
            raise ValueError(
                f"no stack of {residual_channels} residual channels reaches {target_ms:g} ms with "
                f"max_parameters={max_parameters}: the smallest has {fewest}; allow more or take "
                "fewer residual_channels"
            )
    if multiply_adds_per_second is not None:
        speed = multiply_adds_per_second / sample_rate
        found = [replace(p, real_time_factor=speed / p.multiply_adds) for p in found]
    found.sort(key=lambda p: (p.multiply_adds, p.state_bytes, p.samples))
    return _marked(found)


def _stacks_that_reach(target: int, kernel_sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield kernel size, layers per stack and stacks for fields of ``target`` to twice as many."""
    for kernel_size in kernel_sizes:
        check_positive("kernel_size", kernel_size - 1)
        for layers in range(1, MOST_LAYERS_PER_STACK + 1):
            per_stack = (kernel_size - 1) * (2**layers - 1)
            stacks = math.ceil((target - 1) / per_stack)
            if 1 + stacks * per_stack <= 2 * target and layers * stacks <= MOST_LAYERS:
                yield kernel_size, layers, stacks


def proposal(
    kernel_size: int,
    layers_per_stack: int,
    stacks: int,
    sample_rate: int,
    residual_channels: int,
    skip_channels: int,
) -> Proposal:
    """One stack with its costs counted."""
    r, s, n = residual_channels, skip_channels, layers_per_stack * stacks
    past = stacks * (kernel_size - 1) * (2**layers_per_stack - 1)
    weights = n * (2 * r * r * kernel_size + r * r + r * s)
    biases = n * (2 * r + r + s)
    return Proposal(
        kernel_size,
        layers_per_stack,
        stacks,
        past + 1,
        1000 * (past + 1) / sample_rate,
        weights,
        weights + biases,
        past * r * BYTES_PER_VALUE,
    )


def _marked(found: list[Proposal]) -> list[Proposal]:
    return [replace(p, pareto=not _beaten(p, found)) for p in found]


def _beaten(one: Proposal, others: Iterable[Proposal]) -> bool:
    return any(
        other.costs != one.costs
        and all(a <= b for a, b in zip(other.costs, one.costs, strict=True))
        for other in others
    )


def table(proposals: Sequence[Proposal]) -> str:
    """Format one line per proposal; Pareto-optimal ones are marked ``*``."""
    header = ["", "kernel", "layers", "stacks", "samples", "ms", "multiply-adds", "parameters"]
    header += ["state", "real time"]
    rows = [
        [
            "*" if p.pareto else "",
            str(p.kernel_size),
            str(p.layers_per_stack),
            str(p.stacks),
            str(p.samples),
            f"{p.milliseconds:.1f}",
            f"{p.multiply_adds:,}",
            f"{p.parameters:,}",
            f"{p.state_bytes / 1024:,.1f} KiB",
            "" if p.real_time_factor is None else f"{p.real_time_factor:.2f} x",
        ]
        for p in proposals
    ]
    n_columns = len(header) if any(row[-1] for row in rows) else len(header) - 1
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(n_columns)]
    return "\n".join(
        "  ".join(row[i].rjust(widths[i]) for i in range(n_columns)) for row in [header, *rows]
    )
