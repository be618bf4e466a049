"""The sizes of networks that Neural Amp Modeler's own trainers offer, by name."""

from __future__ import annotations

from dataclasses import dataclass

from wavenet.nam.activations import SETTINGS, ActivationConfig
from wavenet.nam.config import ArrayConfig, HeadConfig, LayerConfig, NamConfig

_DOUBLING = tuple(2**i for i in range(10))
_TWICE = (_DOUBLING, _DOUBLING)
_SPLIT = (_DOUBLING[:7], _DOUBLING[7:] + _DOUBLING)

# The second architecture ("A2"): train/_resources/config_model_packed.json of
# neural-amp-modeler 0.13.0.
_A2_BLOCK = (1, 3, 7, 17, 41, 101, 239)
_A2_DILATIONS = (*_A2_BLOCK, *_A2_BLOCK, 1, 13, *_A2_BLOCK)
_A2_KERNEL_SIZES = (6,) * 14 + (15,) * 2 + (6,) * 7
_HEAD = HeadConfig(1, bias=True)
_A2_HEAD = HeadConfig(1, kernel_size=16, bias=True)


@dataclass(frozen=True)
class _Preset:
    """Channels and dilations of each array, and what all layers share."""

    channels: tuple[int, ...]
    dilations: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[int, ...] | None = None
    activation: str = "Tanh"
    head: HeadConfig = _HEAD
    head_scale: float = 0.02


def _a2(channels: int) -> _Preset:
    return _Preset(
        (channels,), (_A2_DILATIONS,), _A2_KERNEL_SIZES, "LeakyReLU", _A2_HEAD, head_scale=0.01
    )


PRESETS: dict[str, _Preset] = {
    "standard": _Preset((16, 8), _TWICE),
    "lite": _Preset((12, 6), _SPLIT),
    "feather": _Preset((8, 4), _SPLIT),
    "nano": _Preset((4, 2), _SPLIT),
    "a2": _a2(8),
    "a2-lite": _a2(3),
}
"""By name; the settings are those of ``preset``."""


def preset(name: str, *, activation: str | None = None, sample_rate: int = 48_000) -> NamConfig:
    """Return the configuration of that name.

    The first architecture has two arrays of tanh layers, kernel size 3, head_scale 0.02; the second
    ("a2") one array of 23 layers with LeakyReLU, kernels of 6 and 15 samples, a head of 16 taps,
    head_scale 0.01 and a receptive field of 6347 samples.

    >>> config = preset("nano", sample_rate=44100)
    >>> NamWaveNet(config).past, config.sample_rate
    (4092, 44100)

    Args:
        name: standard (13802 weights), lite (6554), feather (3026), nano (842), a2 (12146) or
            a2-lite (1871).
        activation: of all layers; None is the preset's own.
        sample_rate: in Hz.

    Raises:
        ValueError: if there is no such size or activation.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset {name!r} is unknown; known are {', '.join(PRESETS)}")
    found = PRESETS[name]
    kind = found.activation if activation is None else activation
    acts = ActivationConfig(kind, tuple(SETTINGS.get(kind, {}).values()))
    arrays, input_size = [], 1
    for i, channels in enumerate(found.channels):
        dilations = found.dilations[i]
        taps = found.kernel_sizes or (3,) * len(dilations)
        layers = tuple(map(LayerConfig, taps, dilations, [acts] * len(dilations)))
        is_last = i == len(found.channels) - 1
        head = found.head if is_last else HeadConfig(found.channels[i + 1])
        arrays.append(ArrayConfig(input_size, 1, channels, channels, layers, head))
        input_size = channels
    return NamConfig(tuple(arrays), head_scale=found.head_scale, sample_rate=sample_rate)
