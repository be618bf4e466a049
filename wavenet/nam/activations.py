"""The activations of ``.nam`` files as torch modules, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wavenet.nn import FastTanh, LeakyHardtanh, Softsigmoid

SLOPES = "PReLU"
"""The activation with one slope for all channels, or one per channel."""

SETTINGS: dict[str, dict[str, float]] = {
    "Tanh": {},
    "Hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "Fasttanh": {},
    "ReLU": {},
    "LeakyReLU": {"negative_slope": 0.01},
    SLOPES: {},
    "Sigmoid": {},
    "SiLU": {},
    "Softsign": {},
    "Softsigmoid": {},
    "Hardswish": {},
    "LeakyHardtanh": {"min_val": -1.0, "max_val": 1.0, "min_slope": 0.01, "max_slope": 0.01},
}
"""Settings of each activation, with the defaults of the format."""


@dataclass(frozen=True)
class ActivationConfig:
    """An activation by its name in the format.

    Attributes:
        type: a key of ``SETTINGS``.
        settings: in the order of ``SETTINGS``; for PReLU one slope, or one per channel.
    """

    type: str = "Tanh"
    settings: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.type not in SETTINGS:
            raise ValueError(
                f"activation {self.type[:40]!r} is unknown; known are {', '.join(SETTINGS)}"
            )
        names = ["negative_slope"] if self.type == SLOPES else list(SETTINGS[self.type])
        if len(self.settings) != len(names) and not (self.type == SLOPES and self.settings):
            raise ValueError(
                f"activation {self.type} has {len(self.settings)} settings, but takes "
                f"{', '.join(names) or 'none'}"
            )
        if not all(map(math.isfinite, self.settings)):
            raise ValueError(f"activation {self.type} has a setting that is not finite")
        if names[:2] == ["min_val", "max_val"] and not self.settings[0] < self.settings[1]:
            raise ValueError(
                f"activation {self.type} has min_val={self.settings[0]}, which must be below "
                f"max_val={self.settings[1]}"
            )

    def check_channels(self, channels: int) -> None:
        """Raise ValueError for slopes of another number of channels."""
        if self.type == SLOPES and len(self.settings) not in (1, channels):
            raise ValueError(
                f"PReLU has {len(self.settings)} slopes for {channels} channels; give one for "
                "each, or one for all"
            )


def make_activation(config: ActivationConfig) -> nn.Module:
    """Make the module of an activation."""
    return _MAKERS[config.type](*config.settings)


def describe_activation(module: nn.Module) -> ActivationConfig:
    """Return the name and settings of a module; for a PReLU with its current slopes.

    Raises:
        ValueError: for an activation that the format does not have.
    """
    name = _NAMES.get(type(module), type(module).__name__)
    if isinstance(module, nn.PReLU):
        return ActivationConfig(name, tuple(module.weight.detach().tolist()))
    return ActivationConfig(name, tuple(getattr(module, key) for key in SETTINGS.get(name, {})))


def activation_object(config: ActivationConfig) -> dict[str, Any]:
    """Return an activation as an object; default settings are omitted."""
    if config.type == SLOPES:
        several = len(config.settings) > 1
        return {
            "type": config.type,
            **(
                {"negative_slopes": list(config.settings)}
                if several
                else {"negative_slope": config.settings[0]}
            ),
        }
    names = SETTINGS[config.type]
    if config.settings == tuple(names.values()):
        return {"type": config.type}
    return {"type": config.type, **dict(zip(names, config.settings, strict=True))}


def activation_json(config: ActivationConfig) -> str | dict[str, Any]:
    """Return an activation as a name where the program's own loader takes a name alone."""
    made = activation_object(config)
    return config.type if len(made) == 1 else made


def _prelu(*slopes: float) -> nn.PReLU:
    module = nn.PReLU(len(slopes))
    with torch.no_grad():
        module.weight.copy_(torch.tensor(slopes))
    return module


_MAKERS: dict[str, Callable[..., nn.Module]] = {
    "Tanh": nn.Tanh,
    "Hardtanh": nn.Hardtanh,
    "Fasttanh": FastTanh,
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    SLOPES: _prelu,
    "Sigmoid": nn.Sigmoid,
    "SiLU": nn.SiLU,
    "Softsign": nn.Softsign,
    "Softsigmoid": Softsigmoid,
    "Hardswish": nn.Hardswish,
    "LeakyHardtanh": LeakyHardtanh,
}
_NAMES: dict[type[nn.Module], str] = {FastTanh: "Fasttanh"}
