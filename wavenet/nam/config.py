"""Configuration of a NAM network: frozen dataclasses, and their numbers of weights.

    arrays of layers, one after another, each with a convolution over the sum of its layers' outputs
    (the "head"); the next array takes both; a stack of convolutions may follow the last array

Every size is checked here before anything is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wavenet.nam.activations import ActivationConfig
from wavenet.nn.causal import check_positive
from wavenet.values.size_limits import MAX_SAMPLE_RATE_HZ, check_at_most

SAMPLE_RATE = 48_000
"""Default sample rate of a file, in Hz."""

CONTAINER = "SlimmableContainer"
"""Architecture of a file that holds several sizes of one model."""

GATINGS = ("none", "gated", "blended")
MAX_LAYERS = 1000
MAX_STATE = 1 << 22
"""Largest streaming state in samples, all channels together (16 MiB): 50 times that of NAM's own
largest network. A dilation needs no weight, so the size of a file does not bound it."""


@dataclass(frozen=True)
class FilmConfig:
    """Feature-wise linear modulation by the condition (Perez et al. 2018): scale x + shift.

    Attributes:
        shift: whether there is a shift.
        groups: of the 1x1 convolution that computes scale and shift.
    """

    shift: bool = True
    groups: int = 1


@dataclass(frozen=True)
class HeadConfig:
    """The convolution over the sum of an array's layers."""

    out_channels: int
    kernel_size: int = 1
    bias: bool = False
    dilation: int = 1


@dataclass(frozen=True)
class PointwiseConfig:
    """An optional 1x1 convolution of each layer, towards the head."""

    out_channels: int
    groups: int = 1


@dataclass(frozen=True)
class LayerConfig:
    """One layer.

    Attributes:
        kernel_size: taps.
        dilation: samples between taps.
        activation: of the (first half of the) channels.
        gating: ``none``; ``gated``: activation(first) * secondary(second); ``blended``: with
            g = secondary(second), g * activation(first) + (1 - g) * first.
        secondary: of the second half, where there is gating.
    """

    kernel_size: int
    dilation: int
    activation: ActivationConfig = field(default_factory=ActivationConfig)
    gating: str = "none"
    secondary: ActivationConfig | None = None


@dataclass(frozen=True)
class ArrayConfig:
    """An array of layers that share their widths.

    Attributes:
        input_size: channels of the input.
        condition_size: channels of the condition, which every layer mixes in.
        channels: of the residual path.
        bottleneck: channels after the activation.
        layers: one or more.
        head: see ``HeadConfig``.
        layer1x1_groups: of the 1x1 convolution back to the residual path; None: without it, the
            activation itself is added, as in NAM's trainer (its C++ player adds nothing).
        head1x1: 1x1 convolution of each layer to the head, if any.
        groups_input: of the dilated convolution.
        groups_input_mixin: of the convolution of the condition.
        conv_pre_film: and the seven others: modulations by the condition within a layer.
    """

    input_size: int
    condition_size: int
    channels: int
    bottleneck: int
    layers: tuple[LayerConfig, ...]
    head: HeadConfig
    layer1x1_groups: int | None = 1
    head1x1: PointwiseConfig | None = None
    groups_input: int = 1
    groups_input_mixin: int = 1
    conv_pre_film: FilmConfig | None = None
    conv_post_film: FilmConfig | None = None
    input_mixin_pre_film: FilmConfig | None = None
    input_mixin_post_film: FilmConfig | None = None
    activation_pre_film: FilmConfig | None = None
    activation_post_film: FilmConfig | None = None
    layer1x1_post_film: FilmConfig | None = None
    head1x1_post_film: FilmConfig | None = None

    def __post_init__(self) -> None:
        for name in ("input_size", "condition_size", "channels", "bottleneck"):
            check_positive(name, getattr(self, name))
        if not self.layers:
            raise ValueError("dilations is empty; an array has one or more layers")
        for name in ("out_channels", "kernel_size", "dilation"):
            check_positive(f"head.{name}", getattr(self.head, name))
        for layer in self.layers:
            self._check_layer(layer)
        _check_groups("groups_input", self.groups_input, self.channels, *self._middles())
        _check_groups(
            "groups_input_mixin", self.groups_input_mixin, self.condition_size, *self._middles()
        )
        if self.layer1x1_groups is not None:
            _check_groups("layer1x1.groups", self.layer1x1_groups, self.bottleneck, self.channels)
        elif self.bottleneck != self.channels:
            raise ValueError(
                f"bottleneck={self.bottleneck} must be channels={self.channels} without layer1x1"
            )
        if self.head1x1 is not None:
            check_positive("head1x1.out_channels", self.head1x1.out_channels)
            _check_groups(
                "head1x1.groups", self.head1x1.groups, self.bottleneck, self.head1x1.out_channels
            )
        for name, needed in (("layer1x1", self.layer1x1_groups), ("head1x1", self.head1x1)):
            if getattr(self, f"{name}_post_film") is not None and needed is None:
                raise ValueError(f"{name}_post_film is active, but {name} is not")
        for layer in self.layers:
            for name, width in self.film_widths(layer).items():
                film = getattr(self, name)
                if film is not None:
                    out = (1 + film.shift) * width
                    _check_groups(f"{name}.groups", film.groups, self.condition_size, out)

    def _check_layer(self, layer: LayerConfig) -> None:
        check_positive("kernel_size", layer.kernel_size)
        check_positive("dilation", layer.dilation)
        layer.activation.check_channels(self.bottleneck)
        if layer.gating not in GATINGS:
            raise ValueError(
                f"gating_mode {layer.gating[:40]!r} is unknown; it is one of {', '.join(GATINGS)}"
            )
        if (layer.secondary is None) != (layer.gating == "none"):
            raise ValueError(f"secondary_activation does not belong to gating_mode {layer.gating}")
        if layer.secondary is not None:
            layer.secondary.check_channels(self.bottleneck)

    def middle(self, layer: LayerConfig) -> int:
        """Channels before the activation: two halves with gating."""
        return self.bottleneck * (1 if layer.gating == "none" else 2)

    def _middles(self) -> set[int]:
        return {self.middle(layer) for layer in self.layers}

    @property
    def head_channels(self) -> int:
        """Channels of the sum over the layers' outputs to the head."""
        return self.bottleneck if self.head1x1 is None else self.head1x1.out_channels

    def film_widths(self, layer: LayerConfig) -> dict[str, int]:
        """Channels of each possible modulation, in the order of the weights."""
        middle = self.middle(layer)
        return {
            "conv_pre_film": self.channels,
            "conv_post_film": middle,
            "input_mixin_pre_film": self.condition_size,
            "input_mixin_post_film": middle,
            "activation_pre_film": middle,
            "activation_post_film": self.bottleneck,
            "layer1x1_post_film": self.channels,
            "head1x1_post_film": self.head_channels,
        }

    @property
    def n_weights(self) -> int:
        """Number of weights in the file, head included."""
        count = self.input_size * self.channels + sum(map(self._layer_weights, self.layers))
        per_output = self.head_channels * self.head.kernel_size + self.head.bias
        return count + per_output * self.head.out_channels

    def _layer_weights(self, layer: LayerConfig) -> int:
        middle = self.middle(layer)
        count = middle * (self.channels // self.groups_input * layer.kernel_size + 1)
        count += middle * self.condition_size // self.groups_input_mixin
        if self.layer1x1_groups is not None:
            count += self.channels * (self.bottleneck // self.layer1x1_groups + 1)
        if self.head1x1 is not None:
            count += self.head_channels * (self.bottleneck // self.head1x1.groups + 1)
        for name, width in self.film_widths(layer).items():
            film = getattr(self, name)
            if film is not None:
                out = (1 + film.shift) * width
                count += out * (self.condition_size // film.groups + 1)
        return count

    @property
    def n_state(self) -> int:
        """Samples of the array's streaming state, all channels together."""
        taps = sum((layer.kernel_size - 1) * layer.dilation for layer in self.layers)
        head = (self.head.kernel_size - 1) * self.head.dilation * self.head_channels
        return taps * self.channels + head


@dataclass(frozen=True)
class PostHeadConfig:
    """Convolutions after all arrays, each preceded by an activation."""

    channels: int
    out_channels: int
    kernel_sizes: tuple[int, ...]
    activation: ActivationConfig

    def __post_init__(self) -> None:
        check_positive("head.channels", self.channels)
        check_positive("head.out_channels", self.out_channels)
        if not self.kernel_sizes:
            raise ValueError(
                "head.kernel_sizes is empty; give one for each convolution, or no head"
            )
        for kernel_size in self.kernel_sizes:
            check_positive("head.kernel_sizes", kernel_size)
        if len(self.kernel_sizes) > 1:
            self.activation.check_channels(self.channels)

    def sizes(self, in_channels: int) -> list[tuple[int, int, int]]:
        """Input channels, output channels and taps of each convolution."""
        ins = [in_channels, *[self.channels] * (len(self.kernel_sizes) - 1)]
        outs = [*ins[1:], self.out_channels]
        return list(zip(ins, outs, self.kernel_sizes, strict=True))


@dataclass(frozen=True)
class NamConfig:
    """A whole network.

    >>> config = preset("standard")
    >>> [(len(array.layers), array.channels) for array in config.arrays], config.head_scale
    ([(10, 16), (10, 8)], 0.02)

    Attributes:
        arrays: one or more.
        head_scale: factor of the last array's head.
        head: convolutions after it, if any.
        in_channels: of the audio.
        condition: network that computes the condition from the audio; None: it is the audio.
        sample_rate: in Hz.
    """

    arrays: tuple[ArrayConfig, ...]
    head_scale: float = 1.0
    head: PostHeadConfig | None = None
    in_channels: int = 1
    condition: NamConfig | None = None
    sample_rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        if not self.arrays:
            raise ValueError("layers is empty; a network has one or more layer arrays")
        check_positive("in_channels", self.in_channels)
        check_positive("sample_rate", self.sample_rate)
        check_at_most("sample_rate", self.sample_rate, MAX_SAMPLE_RATE_HZ)
        self._check_widths()
        n_layers = sum(len(array.layers) for array in self.arrays)
        n_layers += 0 if self.head is None else len(self.head.kernel_sizes)
        if n_layers > MAX_LAYERS:
            raise ValueError(f"there are {n_layers} layers, and at most {MAX_LAYERS} are read")
        if self.n_state > MAX_STATE:
            raise ValueError(
                f"kernel sizes and dilations ask for {self.n_state} remembered samples, and at "
                f"most {MAX_STATE} are kept; the dilations are absurd"
            )

    def _check_widths(self) -> None:
        """Check that the output channels of each part are the input channels of the next."""
        condition = self.in_channels if self.condition is None else self.condition.out_channels
        if self.condition is not None and self.condition.in_channels != self.in_channels:
            raise ValueError(
                f"condition_dsp takes {self.condition.in_channels} channels, but in_channels="
                f"{self.in_channels}"
            )
        width, head = self.in_channels, None
        for i, array in enumerate(self.arrays):
            for name, found, expected in (
                ("input_size", array.input_size, width),
                ("condition_size", array.condition_size, condition),
                ("the sum towards the head", array.head_channels, head),
            ):
                if expected is not None and found != expected:
                    raise ValueError(
                        f"layers[{i}]: {name} has {found} channels, but what comes in has "
                        f"{expected}"
                    )
            width, head = array.channels, array.head.out_channels
        if self.head is not None and head is not None:
            self.head.activation.check_channels(head)

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        head = self.head
        return self.arrays[-1].head.out_channels if head is None else head.out_channels

    @property
    def n_weights(self) -> int:
        """Number of weights in the file's list; ``condition`` has a list of its own."""
        count = sum(array.n_weights for array in self.arrays) + 1
        if self.head is not None:
            sizes = self.head.sizes(self.arrays[-1].head.out_channels)
            count += sum(out * (each * taps + 1) for each, out, taps in sizes)
        return count

    @property
    def n_state(self) -> int:
        """Samples of the network's streaming state, all channels together."""
        count = sum(array.n_state for array in self.arrays)
        if self.head is not None:
            sizes = self.head.sizes(self.arrays[-1].head.out_channels)
            count += sum(each * (taps - 1) for each, _, taps in sizes)
        return count + (0 if self.condition is None else self.condition.n_state)


def _check_groups(name: str, groups: int, *channels: int) -> None:
    check_positive(name, groups)
    for count in channels:
        if count % groups:
            raise ValueError(f"{name}={groups} must divide the {count} channels of its convolution")
