"""NAM models in the package's own checkpoint folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wavenet.nam.config import NamConfig
from wavenet.nam.container import NamContainer, Submodel
from wavenet.nam.network import NamWaveNet
from wavenet.nam.values import Node, short
from wavenet.storage.checkpoint import CheckpointError, load_weights, weights_bytes
from wavenet.storage.settings import from_dict


def from_checkpoint(
    folder: str | Path, content: dict[str, Any], device: torch.device | str = "cpu"
) -> NamWaveNet:
    """Load the model of a checkpoint, in evaluation mode.

    >>> from wavenet.storage.checkpoint import read_config
    >>> NamWaveNet(preset("nano")).save("amp")
    >>> from_checkpoint("amp", read_config("amp")).config == preset("nano")
    True

    Args:
        folder: written by ``NamWaveNet.save``.
        content: of its ``config.json``, from ``wavenet.storage.checkpoint.read_config``.
        device: of the model.

    Raises:
        CheckpointError: if the configuration is damaged, or the weights do not match it.
    """
    try:
        config = from_dict(NamConfig, content["config"], where="config")
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}: {error}") from None
    _require_affordable([config], folder)
    metadata = content["provenance"].get("nam_metadata")
    model = NamWaveNet(config, metadata if isinstance(metadata, dict) else None)
    load_weights(model, folder, content.get("dtype"))
    return model.to(device).eval()


def container_from_checkpoint(
    folder: str | Path, content: dict[str, Any], device: torch.device | str = "cpu"
) -> NamContainer:
    """Load all sizes of a checkpoint that ``NamContainer.save`` wrote, as ``from_checkpoint``.

    >>> from wavenet.storage.checkpoint import read_config
    >>> NamContainer((Submodel(NamWaveNet(preset("nano")), 1.0),)).save("amp")
    >>> len(container_from_checkpoint("amp", read_config("amp")).submodels)
    1
    """
    sizes = content["config"].get("submodels")
    try:
        if not isinstance(sizes, list) or not sizes:
            raise ValueError(f"config.submodels is {short(sizes)}, expected a list of sizes")
        nodes = [Node(size, f"config.submodels[{i}]") for i, size in enumerate(sizes)]
        configs = [
            from_dict(NamConfig, node.get("config"), where=node.path("config")) for node in nodes
        ]
        limits = [node.number("max_value") for node in nodes]
        metadata = [node.get("metadata", {}) for node in nodes]
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}: {error}") from None
    _require_affordable(configs, folder)
    models = [
        NamWaveNet(config, known if isinstance(known, dict) else None)
        for config, known in zip(configs, metadata, strict=True)
    ]
    load_weights(nn.ModuleList(models), folder, content.get("dtype"))
    submodels = tuple(
        Submodel(model.to(device).eval(), limit)
        for model, limit in zip(models, limits, strict=True)
    )
    whole = content["provenance"].get("nam_metadata")
    try:
        return NamContainer(submodels, whole if isinstance(whole, dict) else {})
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None


def _require_affordable(configs: Sequence[NamConfig], folder: str | Path) -> None:
    """Raise CheckpointError, before anything is allocated, if the weights cannot be that many."""
    n_bytes = weights_bytes(folder)
    if 4 * sum(map(_all_weights, configs)) > 4 * n_bytes + 2**20:
        raise CheckpointError(
            f"{folder}: config.json describes a model that is far larger than the {n_bytes} bytes "
            "of its weights; the two do not belong together"
        )


def _all_weights(config: NamConfig) -> int:
    """Count the weights of a network and of the network of its condition, recursively."""
    return config.n_weights + (0 if config.condition is None else _all_weights(config.condition))
