"""Configuration of ``Linear``, ``ConvNet`` and ``LSTM``: frozen dataclasses, numbers of weights.

Every size is checked here before anything is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wavenet.nam.activations import ActivationConfig
from wavenet.nam.config import MAX_LAYERS, MAX_STATE, SAMPLE_RATE
from wavenet.nn.causal import check_positive
from wavenet.values.size_limits import MAX_SAMPLE_RATE_HZ, check_at_most


@dataclass(frozen=True, kw_only=True)
class SimpleConfig:
    """What all of them have.

    Attributes:
        sample_rate: in Hz.
    """

    sample_rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        check_positive("sample_rate", self.sample_rate)
        check_at_most("sample_rate", self.sample_rate, MAX_SAMPLE_RATE_HZ)
        if self.n_state > MAX_STATE:
            raise ValueError(
                f"the sizes ask for {self.n_state} remembered samples, and at most {MAX_STATE} "
                "are kept; they are absurd"
            )

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return 1

    @property
    def n_weights(self) -> int:
        """Number of weights in the file's list."""
        raise NotImplementedError

    @property
    def n_state(self) -> int:
        """Numbers in the streaming state."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LinearConfig(SimpleConfig):
    """An impulse response.

    >>> config = LinearConfig(receptive_field=2048)
    >>> NamLinear(config).past, config.sample_rate
    (2047, 48000)

    Attributes:
        receptive_field: its length in samples.
        bias: whether a constant is added.
    """

    receptive_field: int
    bias: bool = False

    def __post_init__(self) -> None:
        check_positive("receptive_field", self.receptive_field)
        super().__post_init__()

    @property
    def n_weights(self) -> int:
        """The samples of the response, and the bias."""
        return self.receptive_field + self.bias

    @property
    def n_state(self) -> int:
        """Inputs that are remembered."""
        return self.receptive_field - 1


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig(SimpleConfig):
    """Convolutions of kernel size 2, each with an activation, and a 1x1 convolution.

    >>> config = ConvNetConfig(channels=8, dilations=(1, 2, 4, 8))
    >>> NamConvNet(config).past
    15

    Attributes:
        channels: of every layer.
        dilations: one for each layer.
        batchnorm: whether batch normalisation (with its stored statistics) follows a convolution,
            which then has no bias.
        activation: of every layer.
    """

    channels: int
    dilations: tuple[int, ...]
    batchnorm: bool = False
    activation: ActivationConfig = field(default_factory=ActivationConfig)

    def __post_init__(self) -> None:
        check_positive("channels", self.channels)
        if not 1 <= len(self.dilations) <= MAX_LAYERS:
            raise ValueError(
                f"dilations has {len(self.dilations)} entries; give one for each layer, "
                f"{MAX_LAYERS} at most"
            )
        for dilation in self.dilations:
            check_positive("dilation", dilation)
        self.activation.check_channels(self.channels)
        super().__post_init__()

    @property
    def widths(self) -> list[int]:
        """Input channels of each layer."""
        return [1] + [self.channels] * (len(self.dilations) - 1)

    @property
    def n_weights(self) -> int:
        """Of the layers in order, and of the last convolution with its bias."""
        each = 4 * self.channels + 1 if self.batchnorm else self.channels
        layers = sum(2 * width * self.channels + each for width in self.widths)
        return layers + self.channels + 1

    @property
    def n_state(self) -> int:
        """Inputs of the layers that are remembered."""
        pairs = zip(self.widths, self.dilations, strict=True)
        return sum(width * dilation for width, dilation in pairs)


@dataclass(frozen=True, kw_only=True)
class LstmConfig(SimpleConfig):
    """Layers of LSTM, and a 1x1 convolution.

    >>> config = LstmConfig(hidden_size=16, num_layers=2)
    >>> sum(weight.numel() for weight in NamLSTM(config).parameters())
    3409

    Attributes:
        hidden_size: of every layer.
        num_layers: layers, each on the output of the one before.
        input_size: channels of the input.
    """

    hidden_size: int
    num_layers: int = 1
    input_size: int = 1

    def __post_init__(self) -> None:
        for name in ("hidden_size", "num_layers", "input_size"):
            check_positive(name, getattr(self, name))
        check_at_most("num_layers", self.num_layers, MAX_LAYERS)
        super().__post_init__()

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return self.input_size

    @property
    def widths(self) -> list[int]:
        """Input channels of each layer."""
        return [self.input_size] + [self.hidden_size] * (self.num_layers - 1)

    @property
    def n_weights(self) -> int:
        """Of the layers with their initial states in order, and of the last with its bias."""
        size = self.hidden_size
        layers = sum(4 * size * (width + size) + 6 * size for width in self.widths)
        return layers + size + 1

    @property
    def n_state(self) -> int:
        """Hidden values and cells."""
        return 2 * self.num_layers * self.hidden_size


@dataclass(frozen=True, kw_only=True)
class SequentialConfig(SimpleConfig):
    """Models one after another.

    >>> parts = (preset("nano"), LinearConfig(receptive_field=2048))
    >>> len(SequentialConfig(models=parts).models)
    2

    Attributes:
        models: the configuration of each.
    """

    models: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("models is empty; a Sequential has one or more models")
        for i, model in enumerate(self.models):
            if model.sample_rate != self.sample_rate:
                raise ValueError(
                    f"models[{i}] works at {model.sample_rate} Hz, and the others at "
                    f"{self.sample_rate} Hz"
                )
            channels = getattr(self.models[i - 1], "out_channels", 1) if i else model.in_channels
            if model.in_channels != channels or getattr(model, "out_channels", 1) != 1:
                raise ValueError(f"models[{i}] does not take and give one channel")
        super().__post_init__()

    @property
    def in_channels(self) -> int:
        """Channels of the first model's input."""
        return int(self.models[0].in_channels)

    @property
    def n_weights(self) -> int:
        """Of all models."""
        return sum(model.n_weights for model in self.models)

    @property
    def n_state(self) -> int:
        """Of all models."""
        return sum(model.n_state for model in self.models)
