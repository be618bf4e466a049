"""The receptive field of causal blocks, which declare it: ``past + 1`` (``wavenet.nn.causal``).

Also of a configuration and of a plain list of dilations. In a stack, every layer adds what its
effective kernel has beyond one sample, counted in samples of the network's input (Yu and Koltun
2016, section 3; van den Oord et al. 2016, section 2.1):

    receptive field = 1 + sum over layers of (k - 1) d j,

with j the input samples per sample of that layer (1 unless the sample rate changes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch

from wavenet.nn.causal import Causal
from wavenet.nn.convolution import CausalConv1d
from wavenet.nn.steps import SAMPLES_PER_STEP, Pairs, StepOutputs
from wavenet.receptive_fields.arithmetic import effective_kernel
from wavenet.receptive_fields.field import (
    LayerField,
    OutputField,
    ReceptiveField,
    milliseconds,
    stride_number,
)


class StackSettings(Protocol):
    """Settings that determine a receptive field; ``WaveNetConfig`` has them.

    >>> settings: StackSettings = wavenet.WaveNetConfig(layers_per_stack=8, stacks=1)
    >>> receptive_field(settings).samples
    256
    """

    @property
    def dilations(self) -> tuple[int, ...]:
        """Dilations in samples, one per layer."""

    @property
    def kernel_size(self) -> int:
        """Taps of every layer."""

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz."""

    def predictor(self) -> Causal | None:
        """Return the block that precedes the layers, or None."""


def of_block(block: Causal, sample_rate: int | None) -> ReceptiveField:
    """Return the receptive field that a causal block declares, layer by layer."""
    return _of_leaves(list(causal_leaves(block)), sample_rate)


def of_settings(settings: StackSettings, sample_rate: int | None) -> ReceptiveField:
    """The receptive field of the model that a configuration describes."""
    predictor = settings.predictor()
    before: list[tuple[str, Causal]] = [] if predictor is None else [("predictor", predictor)]
    layers = _plain_layers(settings.dilations, settings.kernel_size)
    if getattr(settings, "samples_per_step", 1) == SAMPLES_PER_STEP:
        layers = [("pairs", Pairs(1)), *layers, ("step_outputs", StepOutputs(1))]
    return _of_leaves([*before, *layers], sample_rate)


def of_dilations(
    dilations: Sequence[int], kernel_size: int, sample_rate: int | None
) -> ReceptiveField:
    """The receptive field of one causal convolution per dilation."""
    return _of_leaves(_plain_layers(dilations, kernel_size), sample_rate)


def causal_leaves(block: Causal, path: str = "") -> Iterator[tuple[str, Causal]]:
    """Yield path and block of those that look along time, in the order of the signal.

    A block that names no layers of its own counts as one.
    """
    children = block.layers()
    if not children:
        yield path or type(block).__name__, block
    for name, child in children:
        yield from causal_leaves(child, f"{path}.{name}" if path else name)


def _plain_layers(dilations: Sequence[int], kernel_size: int) -> list[tuple[str, Causal]]:
    """One single-channel convolution per dilation (on the meta device: nothing is drawn)."""
    with torch.device("meta"):
        return [
            (f"layer {i + 1}", CausalConv1d(1, 1, kernel_size, dilation=dilation))
            for i, dilation in enumerate(dilations)
        ]


def _of_leaves(leaves: list[tuple[str, Causal]], sample_rate: int | None) -> ReceptiveField:
    if not leaves:
        raise ValueError("dilations is empty; give one per layer, such as [1, 2, 4, 8]")
    layers = []
    chain = _Prefix(1, Fraction(1), (0,))
    for name, leaf in leaves:
        kernel_size = getattr(leaf, "kernel_size", leaf.past + 1)
        dilation = getattr(leaf, "dilation", 1)
        chain = chain.followed_by(leaf)
        samples = chain.past + 1
        layers.append(
            LayerField(
                name,
                kernel_size,
                dilation,
                effective_kernel(kernel_size, dilation),
                samples,
                milliseconds(samples, sample_rate),
                samples - 1,
                0,
                stride_number(1 / chain.rate),
                type(leaf).__name__,
            )
        )
    last = layers[-1]
    back = last.samples - 1
    output = OutputField("output", last.samples, back, 0, last.stride, back)
    return ReceptiveField(
        last.samples, sample_rate, tuple(layers), back, 0, last.stride, back, (output,)
    )


@dataclass(frozen=True)
class _Prefix:
    """The first blocks of a chain, as one block; the next one is added in constant time.

    Attributes:
        period, rate: see ``Causal``.
        oldest: the earliest input of outputs 0 .. P - 1, P = ``period * rate``. Output ``n + P``
            begins ``period`` inputs after output n.
    """

    period: int
    rate: Fraction
    oldest: tuple[int, ...]

    @property
    def past(self) -> int:
        """Reach of the input in samples; see ``Causal.past``."""
        return max(math.floor(n / self.rate) - first for n, first in enumerate(self.oldest))

    def followed_by(self, block: Causal) -> _Prefix:
        """Return this chain with one more block behind it."""
        period = self.period * (self.period * self.rate / block.period).denominator
        rate = self.rate * block.rate
        oldest = (self._oldest(block.oldest_input(n)) for n in range(math.ceil(period * rate)))
        return _Prefix(period, rate, tuple(oldest))

    def _oldest(self, n: int) -> int:
        periods, phase = divmod(n, len(self.oldest))
        return self.oldest[phase] + periods * self.period
