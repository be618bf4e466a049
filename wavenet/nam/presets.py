"""The four sizes that Neural Amp Modeler's own trainer offers (its first architecture)."""

from __future__ import annotations

from wavenet.nam.activations import ActivationConfig
from wavenet.nam.config import ArrayConfig, HeadConfig, LayerConfig, NamConfig

_DOUBLING = tuple(2**i for i in range(10))
_TWICE = (_DOUBLING, _DOUBLING)
_SPLIT = (_DOUBLING[:7], _DOUBLING[7:] + _DOUBLING)

PRESETS: dict[str, tuple[tuple[int, int], tuple[tuple[int, ...], ...]]] = {
    "standard": ((16, 8), _TWICE),
    "lite": ((12, 6), _SPLIT),
    "feather": ((8, 4), _SPLIT),
    "nano": ((4, 2), _SPLIT),
}
"""Channels of the two arrays, and their dilations."""


def preset(name: str, *, activation: str = "Tanh", sample_rate: int = 48_000) -> NamConfig:
    """Return the configuration of that name: two arrays, kernel size 3, ungated, head_scale 0.02.

    Args:
        name: standard (13802 weights), lite (6554), feather (3026) or nano (842).
        activation: of all layers.
        sample_rate: in Hz.

    Raises:
        ValueError: if there is no such size or activation.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown; known are {', '.join(PRESETS)}")
    widths, dilations = PRESETS[name]
    acts = ActivationConfig(activation)
    arrays, input_size = [], 1
    for i, channels in enumerate(widths):
        layers = tuple(LayerConfig(3, dilation, acts) for dilation in dilations[i])
        head = HeadConfig(widths[1]) if i == 0 else HeadConfig(1, bias=True)
        arrays.append(ArrayConfig(input_size, 1, channels, channels, layers, head))
        input_size = channels
    return NamConfig(tuple(arrays), head_scale=0.02, sample_rate=sample_rate)
