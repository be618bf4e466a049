"""The ``config`` of ``Linear``, ``ConvNet`` and ``LSTM`` in a ``.nam`` file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from wavenet.nam.config import MAX_LAYERS
from wavenet.nam.layers_json import parse_activation
from wavenet.nam.model import NamModel
from wavenet.nam.simple import NamConvNet, NamLinear, NamLSTM
from wavenet.nam.simple_config import ConvNetConfig, LinearConfig, LstmConfig, SimpleConfig
from wavenet.nam.values import FormatError, Node, integer

SimpleMaker: TypeAlias = tuple[SimpleConfig, Callable[[Any], NamModel]]


def _linear(config: Node, sample_rate: int) -> LinearConfig:
    _one(config, "in_channels", "out_channels")
    return LinearConfig(
        receptive_field=config.integer("receptive_field"),
        bias=config.flag("bias", False),
        sample_rate=sample_rate,
    )


def _conv_net(config: Node, sample_rate: int) -> ConvNetConfig:
    _one(config, "in_channels", "out_channels", "groups")
    listed, where = config.items("dilations"), config.path("dilations")
    if len(listed) > MAX_LAYERS:
        raise FormatError(f"{where} has {len(listed)} entries; {MAX_LAYERS} at most")
    return ConvNetConfig(
        channels=config.integer("channels"),
        dilations=tuple(integer(value, where) for value in listed),
        batchnorm=config.flag("batchnorm", False),
        activation=parse_activation(config.get("activation"), config.path("activation")),
        sample_rate=sample_rate,
    )


def _lstm(config: Node, sample_rate: int) -> LstmConfig:
    _one(config, "in_channels", "out_channels")
    return LstmConfig(
        hidden_size=config.integer("hidden_size"),
        num_layers=config.integer("num_layers", 1),
        input_size=config.integer("input_size", 1),
        sample_rate=sample_rate,
    )


def _one(config: Node, *keys: str) -> None:
    """Raise FormatError unless each number is 1 or missing."""
    for key in keys:
        if config.integer(key, 1) != 1:
            raise FormatError(f"{config.path(key)} is {config.integer(key)}; only 1 can be read")


SIMPLE: dict[str, Callable[[Node, int], SimpleConfig]] = {
    "Linear": _linear,
    "ConvNet": _conv_net,
    "LSTM": _lstm,
}
"""By the architecture's name: from ``config`` and the sample rate to the configuration."""


_KEYS = {
    "models": "Sequential",
    "layers": "WaveNet",
    "dilations": "ConvNet",
    "hidden_size": "LSTM",
    "receptive_field": "Linear",
}
"""A key of ``config`` that its architecture alone has."""


def architecture_of(config: Node) -> str:
    """Return the architecture that a ``config`` without a name is of.

    Raises:
        FormatError: if it has the keys of none.
    """
    for key, architecture in _KEYS.items():
        if config.has(key):
            return architecture
    raise FormatError(f"{config.where} has neither an architecture nor the keys of one")


def simple_model(config: SimpleConfig) -> SimpleMaker:
    """Return the configuration, and the class that takes it."""
    kinds: dict[type, Callable[[Any], NamModel]] = {
        LinearConfig: NamLinear,
        ConvNetConfig: NamConvNet,
        LstmConfig: NamLSTM,
    }
    return config, kinds[type(config)]
