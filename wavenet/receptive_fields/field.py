"""Results of an analysis: the receptive field of a network, of its layers and of its outputs.

A number of samples is an int, or a tuple with one int for each of several dimensions. It is
``math.inf`` where no finite field exists; ``unbounded`` then names the layer and the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

Count: TypeAlias = Any
"""int, or ``math.inf``, or a tuple of these with one entry per dimension."""

Stride: TypeAlias = Any
"""int, or Fraction where the rate was raised, or None, or a tuple of these."""


@dataclass(frozen=True)
class LayerField:
    """One layer's share of the receptive field.

    >>> layer = receptive_field([1, 2, 4], kernel_size=3, sample_rate=16000).layers[-1]
    >>> layer.dilation, layer.effective_kernel, layer.samples, layer.milliseconds
    (4, 9, 15, 0.9375)

    Attributes:
        name: path of the layer in its network.
        kernel_size: taps.
        dilation: samples between taps, at the rate of the layer's input.
        effective_kernel: ``dilation * (kernel_size - 1) + 1``.
        samples: the receptive field of the network up to and including this layer.
        milliseconds: the same, or None without a sample rate.
        look_back: samples before its own time that an output of this layer depends on.
        look_ahead: samples after it.
        stride: input samples of the network per sample of this layer's output.
        kind: class of the module, or name of the function.
    """

    name: str
    kernel_size: Any
    dilation: Any
    effective_kernel: Any
    samples: Count
    milliseconds: float | None
    look_back: Count = None
    look_ahead: Count = None
    stride: Stride = 1
    kind: str = ""


@dataclass(frozen=True)
class OutputField:
    """The receptive field of one output of a network; attributes as in ``ReceptiveField``.

    >>> net = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 1, 5, stride=2))
    >>> output = receptive_field(net, input_shape=(1, 1, 100)).outputs[0]
    >>> output.samples, output.stride
    (7, 2)
    """

    name: str
    samples: Count
    look_back: Count
    look_ahead: Count
    stride: Stride
    padding: Count


@dataclass(frozen=True)
class ReceptiveField:
    """Number of input samples that one output depends on, from the first to the last.

    The own time of output n is input ``floor(n * stride)``, from where look-back and look-ahead
    count. With upsampling, outputs between two inputs differ, and the largest number is given.

    >>> field = receptive_field(wavenet.WaveNetConfig.preset("small"))
    >>> field.samples, field.milliseconds, len(field.layers)
    (2047, 127.9375, 20)

    Attributes:
        samples: the receptive field; of several outputs, the largest. What causal blocks declare
            is ``past + 1``, which counts the output's own time even if it does not depend on it.
        sample_rate: in Hz, or None if unknown.
        layers: from input to output, those that look along time.
        look_back: samples before the output's own time.
        look_ahead: samples after it; 0 for a causal network.
        stride: input samples per output sample (Araujo et al. 2019: effective stride).
        padding: samples before input 0 at which the field of output 0 begins (effective padding).
        outputs: one per tensor that the network returns.
        method: ``law`` (declared by causal blocks), ``trace`` (formula) or ``gradient`` (measured).
        notes: remarks on how the numbers were obtained.
        unbounded: layers with an unbounded field, and the reason; empty for a finite field.
    """

    samples: Count
    sample_rate: int | None
    layers: tuple[LayerField, ...]
    look_back: Count = None
    look_ahead: Count = None
    stride: Stride = 1
    padding: Count = None
    outputs: tuple[OutputField, ...] = ()
    method: str = "law"
    notes: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """The receptive field in seconds; None without a sample rate."""
        return None if self.milliseconds is None else self.milliseconds / 1000

    @property
    def milliseconds(self) -> float | None:
        """The receptive field in milliseconds; None without a sample rate, or on images."""
        return milliseconds(self.samples, self.sample_rate)

    @property
    def look_ahead_milliseconds(self) -> float | None:
        """Latency of an output; None without a sample rate."""
        return milliseconds(self.look_ahead, self.sample_rate)

    @property
    def is_causal(self) -> bool:
        """True if no output depends on a later input."""
        return all(samples == 0 for samples in _each(self.look_ahead))

    @property
    def is_finite(self) -> bool:
        """True if every dimension has a finite field."""
        return is_finite(self.samples)

    def to_dict(self) -> dict[str, Any]:
        """Return the output of ``wavenet receptive-field --json``; null is an unbounded field."""
        return {
            "samples": _plain(self.samples),
            "sample_rate": self.sample_rate,
            "seconds": self.seconds,
            "milliseconds": self.milliseconds,
            "look_back": _plain(self.look_back),
            "look_ahead": _plain(self.look_ahead),
            "causal": self.is_causal,
            "stride": _plain(self.stride),
            "padding": _plain(self.padding),
            "method": self.method,
            "notes": list(self.notes),
            "unbounded": list(self.unbounded),
            "outputs": [_plain_dict(output) for output in self.outputs],
            "layers": [self._layer_dict(layer) for layer in self.layers],
        }

    def _layer_dict(self, layer: LayerField) -> dict[str, Any]:
        """Return a layer's values, without those that ``samples`` implies for causal blocks."""
        values = _plain_dict(layer)
        if self.method == "law":
            for name in ("look_back", "look_ahead", "stride", "kind"):
                del values[name]
        return values

    def to_json(self) -> str:
        """``to_dict`` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        """Format a table with one line per layer, then the total and the method."""
        lines = self._table() if self.layers else []
        total = f"receptive field: {size_text(self.samples)} samples"
        if not self.is_finite and not isinstance(self.samples, tuple):
            total = "receptive field: unbounded"
        if self.milliseconds is not None:
            total += f" = {self.milliseconds:.3f} ms at {self.sample_rate} Hz"
        lines.append(total)
        lines += [f"unbounded: {reason}" for reason in self.unbounded]
        if self.method != "law":
            causal = "causal" if self.is_causal else "not causal"
            lines.append(
                f"look-back {size_text(self.look_back)}, look-ahead {size_text(self.look_ahead)} "
                f"({causal}), stride {size_text(self.stride)}, "
                f"effective padding {size_text(self.padding)}; by {self.method}"
            )
            if len(self.outputs) > 1:
                lines += [
                    f"output {output.name}: {size_text(output.samples)} samples, look-ahead "
                    f"{size_text(output.look_ahead)}, stride {size_text(output.stride)}"
                    for output in self.outputs
                ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def _table(self) -> list[str]:
        header = ("layer", "kernel", "dilation", "effective kernel", "samples", "ms")
        rows = [
            (
                layer.name,
                size_text(layer.kernel_size),
                size_text(layer.dilation),
                size_text(layer.effective_kernel),
                size_text(layer.samples),
                "" if layer.milliseconds is None else f"{layer.milliseconds:.3f}",
            )
            for layer in self.layers
        ]
        n_columns = len(header) if any(row[-1] for row in rows) else len(header) - 1
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(n_columns)]
        return [
            "  ".join(
                [row[0].ljust(widths[0])] + [row[i].rjust(widths[i]) for i in range(1, n_columns)]
            )
            for row in [header, *rows]
        ]


def is_finite(samples: Count) -> bool:
    """Return true if a number of samples is finite, in every dimension."""
    return all(math.isfinite(n) for n in _each(samples))


def milliseconds(samples: Count, sample_rate: int | None) -> float | None:
    """Samples in milliseconds; None without a sample rate, without end, or on images."""
    if sample_rate is None or samples is None or isinstance(samples, tuple):
        return None
    return None if math.isinf(samples) else 1000 * samples / sample_rate


def squeezed(values: Sequence[Any]) -> Any:
    """One value for one dimension, a tuple for several."""
    return values[0] if len(values) == 1 else tuple(values)


def stride_number(stride: Fraction) -> int | Fraction:
    """Convert an integral stride to an int."""
    return int(stride) if stride.denominator == 1 else stride


def size_text(value: Any) -> str:
    """``7``, ``7x7``, ``unbounded``, ``1/2`` or ``-``."""
    if isinstance(value, tuple):
        return "x".join(size_text(part) for part in value)
    if value is None:
        return "-"
    return "unbounded" if value == math.inf else str(value)


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _plain(value: Any) -> Any:
    """Convert fractions and infinity, which JSON does not have."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Fraction):
        return float(value)
    return None if isinstance(value, float) and math.isinf(value) else value


def _plain_dict(thing: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(thing).items()}
