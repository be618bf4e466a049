"""How far back does a network hear? The receptive field, in samples, seconds and milliseconds.

A kernel of k taps with dilation d spans an effective kernel of ``d (k - 1) + 1`` samples. In a
stack, every layer adds what its effective kernel has beyond one sample, counted in samples of the
network's input (Yu and Koltun 2016, section 3; van den Oord et al. 2016, section 2.1):

    receptive field = 1 + sum over layers of (k - 1) d j,

with j the input samples per sample of that layer (1 unless the sample rate changes).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from wavenet.nn.causal import Causal, check_positive, farthest_reach
from wavenet.nn.convolution import CausalConv1d


def effective_kernel(kernel_size: int, dilation: int = 1) -> int:
    """Samples that a dilated kernel spans: ``dilation * (kernel_size - 1) + 1``."""
    check_positive("kernel_size", kernel_size)
    check_positive("dilation", dilation)
    return dilation * (kernel_size - 1) + 1


@dataclass(frozen=True)
class LayerField:
    """One layer's share of the receptive field.

    Attributes:
        name: path of the layer in its network.
        kernel_size: taps.
        dilation: samples between taps, at the rate of the layer's input.
        effective_kernel: ``dilation * (kernel_size - 1) + 1``.
        samples: the receptive field of the network up to and including this layer.
        milliseconds: the same, or None without a sample rate.
    """

    name: str
    kernel_size: int
    dilation: int
    effective_kernel: int
    samples: int
    milliseconds: float | None


@dataclass(frozen=True)
class ReceptiveField:
    """How many samples of the input one output depends on, its own time included.

    Attributes:
        samples: the receptive field.
        sample_rate: in Hz, or None if unknown.
        layers: from input to output.
    """

    samples: int
    sample_rate: int | None
    layers: tuple[LayerField, ...]

    @property
    def seconds(self) -> float | None:
        """The receptive field in seconds; None without a sample rate."""
        return None if self.sample_rate is None else self.samples / self.sample_rate

    @property
    def milliseconds(self) -> float | None:
        """The receptive field in milliseconds; None without a sample rate."""
        return _milliseconds(self.samples, self.sample_rate)

    def to_dict(self) -> dict[str, Any]:
        """What ``wavenet receptive-field --json`` prints."""
        return {
            "samples": self.samples,
            "sample_rate": self.sample_rate,
            "seconds": self.seconds,
            "milliseconds": self.milliseconds,
            "layers": [asdict(layer) for layer in self.layers],
        }

    def to_json(self) -> str:
        """``to_dict`` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        """A table with a line per layer and the total below."""
        header = ("layer", "kernel", "dilation", "effective kernel", "samples", "ms")
        rows = [
            (
                layer.name,
                str(layer.kernel_size),
                str(layer.dilation),
                str(layer.effective_kernel),
                str(layer.samples),
                "" if layer.milliseconds is None else f"{layer.milliseconds:.3f}",
            )
            for layer in self.layers
        ]
        n_columns = len(header) if self.sample_rate is not None else len(header) - 1
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(n_columns)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0])] + [row[i].rjust(widths[i]) for i in range(1, n_columns)]
            )
            for row in [header, *rows]
        ]
        total = f"receptive field: {self.samples} samples"
        if self.sample_rate is not None:
            total += f" = {self.milliseconds:.3f} ms at {self.sample_rate} Hz"
        return "\n".join([*lines, total])


class StackSettings(Protocol):
    """What a configuration must have for its receptive field: ``WaveNetConfig`` has it."""

    @property
    def dilations(self) -> tuple[int, ...]:
        """One per layer, in samples."""

    @property
    def kernel_size(self) -> int:
        """Taps of every layer."""

    @property
    def sample_rate(self) -> int:
        """In Hz."""


def receptive_field(
    thing: Causal | StackSettings | Sequence[int],
    sample_rate: int | None = None,
    *,
    kernel_size: int = 2,
) -> ReceptiveField:
    """The receptive field of a block, a stack, a model, a configuration or a list of dilations.

    Args:
        thing: a ``Causal`` block, a ``WaveNet``, a ``WaveNetConfig``, or the dilations of a stack.
        sample_rate: in Hz, for seconds and milliseconds; default, that of a model or configuration.
        kernel_size: taps of every layer, where only dilations are given.

    Raises:
        TypeError: for anything else.
        ValueError: if a dilation, kernel size or sample rate is not a positive integer, if there
            are no layers, or if the sample rate contradicts the model's.

    >>> receptive_field([1, 2, 4], kernel_size=3, sample_rate=16000).samples
    15
    """
    own_rate = getattr(thing, "sample_rate", None)
    if sample_rate is not None:
        check_positive("sample_rate", sample_rate)
        if own_rate is not None and own_rate != sample_rate:
            raise ValueError(
                f"sample_rate={sample_rate} contradicts the model's {own_rate} Hz; leave it out"
            )
    rate = own_rate if sample_rate is None else sample_rate
    if isinstance(thing, Causal):
        return _of_leaves(list(_leaves(thing)), rate)
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return _of_leaves(_plain_layers(thing, kernel_size), rate)
    if all(hasattr(thing, name) for name in ("dilations", "kernel_size", "sample_rate")):
        return _of_leaves(_plain_layers(thing.dilations, thing.kernel_size), rate)
    raise TypeError(
        "receptive_field takes a causal block of wavenet.nn, a WaveNet, a WaveNetConfig or a list "
        f"of dilations, not {type(thing).__name__}"
    )


def _plain_layers(dilations: Sequence[int], kernel_size: int) -> list[tuple[str, Causal]]:
    """One single-channel convolution per dilation (on the meta device: nothing is drawn)."""
    with torch.device("meta"):
        return [
            (f"layer {i + 1}", CausalConv1d(1, 1, kernel_size, dilation=dilation))
            for i, dilation in enumerate(dilations)
        ]


def _leaves(block: Causal, path: str = "") -> Iterator[tuple[str, Causal]]:
    """The blocks that look along time, in the order of the signal; others' blocks count whole."""
    children = block.layers()
    if not children:
        yield path or type(block).__name__, block
    for name, child in children:
        yield from _leaves(child, f"{path}.{name}" if path else name)


def _of_leaves(leaves: list[tuple[str, Causal]], sample_rate: int | None) -> ReceptiveField:
    if not leaves:
        raise ValueError("dilations is empty; give one per layer, such as [1, 2, 4, 8]")
    layers = []
    for i, (name, leaf) in enumerate(leaves):
        kernel_size = getattr(leaf, "kernel_size", leaf.past + 1)
        dilation = getattr(leaf, "dilation", 1)
        samples = farthest_reach([block for _, block in leaves[: i + 1]]) + 1
        layers.append(
            LayerField(
                name,
                kernel_size,
                dilation,
                effective_kernel(kernel_size, dilation),
                samples,
                _milliseconds(samples, sample_rate),
            )
        )
    return ReceptiveField(layers[-1].samples, sample_rate, tuple(layers))


def _milliseconds(samples: int, sample_rate: int | None) -> float | None:
    return None if sample_rate is None else 1000 * samples / sample_rate
