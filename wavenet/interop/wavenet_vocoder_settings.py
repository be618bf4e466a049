"""The settings of r9y9/wavenet_vocoder (``hparams.json``), and the tensors that they ask for.

Its two networks are those of the releases up to 0.1.1 and of the main branch, which calls itself
0.2.0. Settings do not name their version; the first has some that the second has not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavenet.model.config import FeatureConfig, UpsamplingConfig, WaveNetConfig
from wavenet.storage.checkpoint import CheckpointError
from wavenet.storage.json_files import read_json
from wavenet.values.text import short

MAX_SETTINGS_BYTES = 1 << 20
"""Longest ``hparams.json`` that is read; its own program writes 2 kB."""
MAX_DILATION = 2**20
"""The longest that is accepted, 20 times that of any known model: states are as long."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Content of a checkpoint.

    Attributes:
        config: our model.
        cin: channels of the features, 0 for none.
        gin: channels of the speaker's vector, 0 for none.
        upsample_net: ``ConvInUpsampleNetwork``, ``UpsampleNetwork``, ``upsample_conv`` (0.1) or
            None.
        first_version: it is the network of version 0.1: its conditioning has biases.
        halved_skips: the sum of the skips is scaled by sqrt(1/2) after each addition, the setting
            ``legacy`` of version 0.1.
    """

    config: WaveNetConfig
    cin: int
    gin: int
    upsample_net: str | None
    first_version: bool = False
    halved_skips: bool = False

    @property
    def n_layers(self) -> int:
        """L."""
        return self.config.layers_per_stack * self.config.stacks

    def skip_factors(self) -> list[float]:
        """Return what each layer's skip output is multiplied by in the sum that the head takes."""
        n = self.n_layers
        if self.halved_skips:  # layers 0 and 1 take part in all n - 1 additions
            return [2 ** (-(n - max(i, 1)) / 2) for i in range(n)]
        return [1.0 if self.first_version else 1 / math.sqrt(n)] * n

    def shapes(self) -> dict[str, Shape]:
        """Every key of the state dict, weight norm undone, and its shape."""
        config = self.config
        residual, skip = config.residual_channels, config.skip_channels
        gate = config.gate_channels
        assert gate is not None
        out = _output_channels(config)
        entries = out if config.one_hot_input else 1
        shapes = _with_bias("first_conv", residual, entries)
        for i in range(self.n_layers):
            layer = f"conv_layers.{i}"
            shapes |= _with_bias(f"{layer}.conv", gate, residual, config.kernel_size)
            shapes |= _with_bias(f"{layer}.conv1x1_out", residual, gate // 2)
            shapes |= _with_bias(f"{layer}.conv1x1_skip", skip, gate // 2)
            for name, channels in (("c", self.cin), ("g", self.gin)):
                if channels:
                    key = f"{layer}.conv1x1{name}"
                    shapes[f"{key}.weight"] = (gate, channels, 1)
                    if self.first_version:
                        shapes[f"{key}.bias"] = (gate,)
        shapes |= _with_bias("last_conv_layers.1", skip, skip)
        shapes |= _with_bias("last_conv_layers.3", out, skip)
        if self.gin:
            shapes["embed_speakers.weight"] = (config.speakers, self.gin)
        return shapes | self._upsampling_shapes()

    def smoothing_keys(self) -> list[str]:
        """The smoothing kernels, step after step; between them are the stretches."""
        if self.upsample_net in (None, _TRANSPOSED):
            return []
        inner = ".upsample" if self.upsample_net == _CONV_IN else ""
        steps = len(self._upsampling().scales)
        return [f"upsample_net{inner}.up_layers.{2 * i + 1}.weight" for i in range(steps)]

    def transposed_names(self) -> list[str]:
        """The transposed convolutions of version 0.1; between them are ReLUs."""
        if self.upsample_net != _TRANSPOSED:
            return []
        return [f"{_TRANSPOSED}.{2 * i}" for i in range(len(self._upsampling().scales))]

    def _upsampling_shapes(self) -> dict[str, Shape]:
        if self.upsample_net is None:
            return {}
        upsampling = self._upsampling()
        bands = upsampling.band_kernel_size
        shapes: dict[str, Shape] = {}
        if self.upsample_net == _TRANSPOSED:
            for name, scale in zip(self.transposed_names(), upsampling.scales, strict=True):
                shapes |= {f"{name}.weight": (1, 1, bands, scale), f"{name}.bias": (1,)}
            return shapes
        shapes = {
            key: (1, 1, bands, 2 * scale + 1)
            for key, scale in zip(self.smoothing_keys(), upsampling.scales, strict=True)
        }
        if self.upsample_net == _CONV_IN:
            width = 2 * upsampling.context_frames + 1
            shapes["upsample_net.conv_in.weight"] = (self.cin, self.cin, width)
        return shapes

    def _upsampling(self) -> UpsamplingConfig:
        assert self.config.features is not None
        assert self.config.features.upsampling is not None
        return self.config.features.upsampling


_CONV_IN = "ConvInUpsampleNetwork"
_TRANSPOSED = "upsample_conv"
_FIRST_VERSION = (
    "legacy",
    "builder",
    "weight_normalization",
    "upsample_scales",
    "freq_axis_kernel_size",
)
"""Settings of version 0.1 alone."""


def read_layout(path: Path) -> Layout:
    """The layout that a ``hparams.json`` describes.

    Raises:
        CheckpointError: if it is missing or damaged, or has a setting that no model of ours can
            express; the line names the setting.
    """
    try:
        content = read_json(path, max_bytes=MAX_SETTINGS_BYTES)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing; it holds the settings of the checkpoint: put it there or name it "
            "with --hparams"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings of wavenet_vocoder")
    settings = _Settings(content, path)
    try:
        return _layout(settings)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


class _Settings:
    """Typed values of a mapping from a file; errors name the file and the key."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        self.values, self.path = values, path

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.error(name, f"expected an integer of at least {least}")
        return value

    def channels(self, name: str) -> int:
        """0 where the settings have none, or a negative number."""
        return max(0, self.integer(name, -1, least=-1))

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "expected true or false")
        return value

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self.values.get(name, default)
        if value not in choices:
            raise self.error(name, f"this package reads {' and '.join(choices)}")
        return str(value)

    def error(self, name: str, expected: str) -> CheckpointError:
        found = short(self.values[name]) if name in self.values else "missing"
        return CheckpointError(f"{self.path}: {name} is {found}; {expected}")


def _layout(settings: _Settings) -> Layout:
    first_version = any(name in settings.values for name in _FIRST_VERSION)
    layers, stacks = settings.integer("layers"), settings.integer("stacks")
    if layers % stacks or 2 ** min(layers // stacks - 1, 64) > MAX_DILATION:
        raise settings.error("layers", f"it does not go with stacks={stacks}")
    cin, gin = settings.channels("cin_channels"), settings.channels("gin_channels")
    features, upsample_net = _features(settings, cin, first_version) if cin else (None, None)
    config = WaveNetConfig(
        sample_rate=settings.integer("sample_rate"),
        layers_per_stack=layers // stacks,
        stacks=stacks,
        kernel_size=settings.integer("kernel_size"),
        residual_channels=settings.integer("residual_channels"),
        gate_channels=settings.integer("gate_channels"),
        skip_channels=settings.integer("skip_out_channels"),
        features=features,
        cond_channels=cin + gin or None,
        speakers=settings.integer("n_speakers") if gin else 0,
        **_output(settings),
    )
    halved = first_version and settings.flag("legacy", True)
    return Layout(config, cin, gin, upsample_net, first_version, halved)


def _output(settings: _Settings) -> dict[str, Any]:
    """Input and output distribution: classes one-hot, or the sample itself and a mixture."""
    out = settings.integer("out_channels")
    kind = settings.choice("input_type", ("mulaw-quantize", "raw"))
    if kind == "mulaw-quantize":
        if settings.integer("quantize_channels") != out:
            raise settings.error("out_channels", "mulaw-quantize needs quantize_channels of them")
        return {"distribution": "mu_law", "distribution_size": out, "one_hot_input": True}
    family = settings.choice("output_distribution", ("Logistic", "Normal"), "Logistic")
    if family == "Normal" and out == 2:
        return {"distribution": "gaussian"}
    if out % 3:
        raise settings.error("out_channels", f"{family} needs a multiple of 3")
    name = "gaussian_mixture" if family == "Normal" else "logistic_mixture"
    return {"distribution": name, "distribution_size": out // 3}


def _features(
    settings: _Settings, cin: int, first_version: bool
) -> tuple[FeatureConfig, str | None]:
    if not settings.values.get("upsample_conditional_features", False):  # one frame a sample
        return FeatureConfig(channels=cin, hop_samples=1, upsampling=UpsamplingConfig()), None
    read = _transposed_upsampling if first_version else _smoothed_upsampling
    upsampling, net = read(settings)
    hop = math.prod(upsampling.scales)
    if settings.values.get("hop_size") not in (None, hop):
        raise settings.error("hop_size", f"upsample_scales multiply to {hop}")
    return FeatureConfig(channels=cin, hop_samples=hop, upsampling=upsampling), net


def _transposed_upsampling(settings: _Settings) -> tuple[UpsamplingConfig, str]:
    """The upsampling of version 0.1: transposed convolutions and ReLUs."""
    if "upsample_params" in settings.values:
        raise settings.error(
            "upsample_params", "it is a setting of version 0.2, beside others of version 0.1"
        )
    upsampling = UpsamplingConfig(
        scales=_scales(settings),
        band_kernel_size=settings.integer("freq_axis_kernel_size", 3),
        transposed=True,
    )
    return upsampling, _TRANSPOSED


def _smoothed_upsampling(settings: _Settings) -> tuple[UpsamplingConfig, str]:
    """The upsampling of version 0.2: columns repeated and smoothed."""
    given = settings.values.get("upsample_params")
    if not isinstance(given, dict):
        raise settings.error("upsample_params", "expected a mapping with upsample_scales")
    params = _Settings(given, settings.path)
    params.choice("upsample_activation", ("none",), "none")
    params.choice("mode", ("nearest",), "nearest")
    scales = _scales(params)
    net = settings.choice("upsample_net", (_CONV_IN, "UpsampleNetwork"), _CONV_IN)
    context = settings.integer("cin_pad", 0, least=0)
    if net != _CONV_IN and context:
        raise settings.error("cin_pad", f"{net} is read with cin_pad=0 alone")
    upsampling = UpsamplingConfig(
        scales=scales,
        context_frames=context,
        band_kernel_size=params.integer("freq_axis_kernel_size", 1),
    )
    return upsampling, net


def _scales(settings: _Settings) -> tuple[int, ...]:
    scales = settings.values.get("upsample_scales")
    if not isinstance(scales, list) or not scales or len(scales) > 64:
        raise settings.error("upsample_scales", "expected a list of integers")
    if not all(type(scale) is int and 1 <= scale <= MAX_DILATION for scale in scales):
        raise settings.error("upsample_scales", "expected a list of positive integers")
    return tuple(scales)


def _output_channels(config: WaveNetConfig) -> int:
    size = config.distribution_size
    if config.distribution == "gaussian" or size is None:
        return 2
    return size if config.distribution == "mu_law" else 3 * size


def _with_bias(name: str, *shape: int) -> dict[str, Shape]:
    """Shapes of a convolution's weight and bias; without a kernel size it has one tap."""
    weight = shape if len(shape) == 3 else (*shape, 1)
    return {f"{name}.weight": weight, f"{name}.bias": (shape[0],)}
