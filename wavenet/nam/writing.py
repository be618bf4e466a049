"""Writing a ``.nam`` file that Neural Amp Modeler's own loaders accept.

A network that version 0.5.4 can describe is written in that version, which older players read too,
and of the trainer's Python package the releases up to 0.12.3. Any other network, and all where it
is asked for, are written as version 0.7.0, which players of 2026 read, and the package from 0.13.0.
(Its readers take their own version alone: the older refuses unknown keys, the newer needs them.)
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from os import PathLike
from typing import Any, cast

from wavenet.nam.activations import (
    SETTINGS,
    activation_json,
    activation_object,
    describe_activation,
)
from wavenet.nam.config import CONTAINER, ArrayConfig, LayerConfig
from wavenet.nam.container import NamContainer, Submodel
from wavenet.nam.layer import FILMS, NamLayer
from wavenet.nam.model import NamModel
from wavenet.nam.network import NamWaveNet
from wavenet.nam.simple import NamSequential
from wavenet.nam.weights import flat
from wavenet.storage.files import atomic_write
from wavenet.storage.json_files import finite_only
from wavenet.values.meta_device import require_values

PLAIN_VERSION = "0.5.4"
VERSION = "0.7.0"
VERSIONS = (PLAIN_VERSION, VERSION)


def write_nam(
    path: str | PathLike[str],
    model: NamWaveNet | NamModel | NamContainer,
    metadata: dict[str, Any] | None = None,
    *,
    version: str | None = None,
) -> None:
    """Write a model, or several sizes of one; the file appears when it is complete.

    >>> model = NamWaveNet(preset("nano"))
    >>> write_nam("amp.nam", model, {"name": "my amplifier", "gear_type": "amp"})
    >>> read_nam("amp.nam").metadata["gear_type"]
    'amp'

    Args:
        path: the file; an existing one is replaced.
        model: on any device.
        metadata: added to the model's own: ``name``, ``modeled_by``, ``gear_type``, ``loudness`` in
            dB ... (JSON values).
        version: of the format, 0.5.4 or 0.7.0; default, the older one if it can describe the model.

    Raises:
        TypeError: if model is no model of ``wavenet.nam``.
        ValueError: if a weight is not finite or on the meta device, or the version unknown or too
            old for the model.
        WriteError: if the file cannot be written.
    """
    if version is not None and version not in VERSIONS:
        raise ValueError(f"version={version!r} cannot be written; choose {' or '.join(VERSIONS)}")
    if not isinstance(model, NamModel | NamWaveNet | NamContainer):
        raise TypeError(f"model is a {type(model).__name__}, expected a model of wavenet.nam")
    known = {**model.metadata, **(metadata or {})}
    if isinstance(model, NamContainer):
        if version == PLAIN_VERSION:
            raise ValueError(
                f"version {PLAIN_VERSION} has no files of several sizes; use {VERSION}"
            )
        content = describe_container(model, known)
    else:
        content = describe(model, known, version)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def write_nam_container(
    path: str | PathLike[str],
    models: Mapping[str, NamWaveNet],
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write several sizes of one model into a file, of which a player chooses one.

    >>> models = {"small": NamWaveNet(preset("nano")), "large": NamWaveNet(preset("feather"))}
    >>> write_nam_container("amp.nam", models, {"name": "my amplifier"})
    >>> read_nam("amp.nam", submodel="small").metadata["name"]
    'small'

    Args:
        path: the file; an existing one is replaced.
        models: by name, the smallest first; all of one sample rate.
        metadata: added to that of the largest, for the file as a whole.

    Raises:
        ValueError: if there is no model, their sample rates differ, or a weight is not finite.
        WriteError: if the file cannot be written.
    """
    sizes = []
    for number, (name, model) in enumerate(models.items(), 1):
        named = copy.copy(model)
        named.metadata = {**model.metadata, "name": name}
        sizes.append(Submodel(named, number / len(models)))
    largest = [model.metadata for model in models.values()][-1:]
    write_nam(path, NamContainer(tuple(sizes), dict(*largest)), metadata)


def describe_container(container: NamContainer, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the file as JSON values, all of version 0.7.0."""
    return {
        "version": VERSION,
        "metadata": finite_only(metadata),
        "architecture": CONTAINER,
        "config": {
            "submodels": [
                {
                    "max_value": one.max_value,
                    "model": describe(one.model, one.model.metadata, VERSION),
                }
                for one in container.submodels
            ]
        },
        "weights": [],
        "sample_rate": container.sample_rate,
    }


def describe(
    model: NamWaveNet | NamModel, metadata: dict[str, Any], version: str | None = None
) -> dict[str, Any]:
    """Return the content of the file as JSON values; raises as ``write_nam``."""
    require_values(model, "model")
    weights = model.flat() if isinstance(model, NamModel) else flat(model)
    if not bool(weights.isfinite().all()):
        raise ValueError("the model has weights that are not finite; it cannot be exported")
    plain = _is_plain(model)
    if version is None:
        version = PLAIN_VERSION if plain else VERSION
    if version == PLAIN_VERSION and not plain:
        raise ValueError(f"version {PLAIN_VERSION} cannot describe this network; use {VERSION}")
    if isinstance(model, NamModel):
        config = _simple_config(model, version)
    else:
        config = _config(model, version == PLAIN_VERSION)
    return {
        "version": version,
        "metadata": finite_only(metadata),
        "architecture": model.architecture if isinstance(model, NamModel) else "WaveNet",
        "config": config,
        "weights": weights.tolist(),
        "sample_rate": model.sample_rate,
    }


def _simple_config(model: NamModel, version: str) -> dict[str, Any]:
    if isinstance(model, NamSequential):
        models = cast("list[NamWaveNet | NamModel]", model.models())
        return {"models": [_in_sequence(one, version) for one in models]}
    return model.file_config()


def _in_sequence(model: NamWaveNet | NamModel, version: str) -> dict[str, Any]:
    """Return a model of a sequence, in the version of the whole."""
    return describe(model, model.metadata, version)


def _config(model: NamWaveNet, plain: bool) -> dict[str, Any]:
    config = model.config
    arrays = zip(config.arrays, model.stages(), strict=True)
    made: dict[str, Any] = {
        "layers": [_array(own, array.all_layers(), plain) for own, (array, _) in arrays],
        "head": None,
        "head_scale": float(model.head_scale),
    }
    if config.in_channels != 1:
        made["in_channels"] = config.in_channels
    if config.head is not None and model.post_head is not None:
        made["head"] = {
            "channels": config.head.channels,
            "out_channels": config.head.out_channels,
            "kernel_sizes": list(config.head.kernel_sizes),
            "activation": activation_json(describe_activation(model.post_head.blocks[0])),
        }
    if model.condition is not None:
        made["condition_dsp"] = describe(model.condition, {}, VERSION)
    return made


def _array(config: ArrayConfig, layers: list[NamLayer], plain: bool) -> dict[str, Any]:
    head = config.head
    common: dict[str, Any] = {
        "input_size": config.input_size,
        "condition_size": config.condition_size,
        "channels": config.channels,
        "dilations": [layer.dilation for layer in config.layers],
    }
    if plain:
        return {
            **common,
            "head_size": head.out_channels,
            "head_bias": head.bias,
            "kernel_size": config.layers[0].kernel_size,
            "activation": config.layers[0].activation.type,
            "gated": False,
        }
    head_json: dict[str, Any] = {
        "out_channels": head.out_channels,
        "kernel_size": head.kernel_size,
        "bias": head.bias,
    }
    if head.dilation != 1:
        head_json["head_dilation"] = head.dilation
    head1x1 = config.head1x1
    return {
        **common,
        "head": head_json,
        "bottleneck": config.bottleneck,
        "kernel_sizes": [layer.kernel_size for layer in config.layers],
        "activation": [
            activation_object(describe_activation(layer.activation)) for layer in layers
        ],
        "gating_mode": [layer.gating for layer in layers],
        "secondary_activation": [
            None
            if layer.secondary is None
            else activation_object(describe_activation(layer.secondary))
            for layer in layers
        ],
        "groups_input": config.groups_input,
        "groups_input_mixin": config.groups_input_mixin,
        "head1x1": {
            "active": head1x1 is not None,
            "out_channels": 1 if head1x1 is None else head1x1.out_channels,
            "groups": 1 if head1x1 is None else head1x1.groups,
        },
        "layer1x1": {
            "active": config.layer1x1_groups is not None,
            "groups": config.layer1x1_groups or 1,
        },
        **{name: _film(config, name) for name in FILMS},
    }


def _film(config: ArrayConfig, name: str) -> dict[str, Any]:
    film = getattr(config, name)
    if film is None:
        return {"active": False, "shift": True, "groups": 1}
    return {"active": True, "shift": film.shift, "groups": film.groups}


_PLAIN_ACTIVATIONS = ("Tanh", "Hardtanh", "Fasttanh", "ReLU", "Sigmoid")


def _is_plain(model: NamWaveNet | NamModel) -> bool:
    """Return true if version 0.5.4 can describe the model."""
    if isinstance(model, NamSequential):
        return all(_is_plain(cast("NamWaveNet | NamModel", one)) for one in model.models())
    if isinstance(model, NamModel):
        return True
    config = model.config
    if config.head is not None or config.condition is not None or config.in_channels != 1:
        return False
    return all(map(_is_plain_array, config.arrays))


def _is_plain_array(config: ArrayConfig) -> bool:
    first = config.layers[0]
    if first.activation.type not in _PLAIN_ACTIVATIONS or config.bottleneck != config.channels:
        return False
    if first.activation.settings != tuple(SETTINGS[first.activation.type].values()):
        return False
    same = tuple(
        LayerConfig(first.kernel_size, layer.dilation, first.activation) for layer in config.layers
    )
    sizes = config.input_size, config.condition_size, config.channels, config.channels
    return config == ArrayConfig(*sizes, same, config.head) and (
        config.head.kernel_size,
        config.head.dilation,
    ) == (1, 1)
