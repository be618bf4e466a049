"""NAM models in the package's own checkpoint folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from wavenet.nam.config import NamConfig
from wavenet.nam.network import NamWaveNet
from wavenet.storage.checkpoint import CheckpointError, load_weights, weights_bytes
from wavenet.storage.settings import from_dict


def from_checkpoint(
    folder: str | Path, content: dict[str, Any], device: torch.device | str = "cpu"
) -> NamWaveNet:
    """Load the model of a checkpoint, in evaluation mode.

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
    n_bytes = weights_bytes(folder)
    if 4 * _all_weights(config) > 4 * n_bytes + 2**20:  # before anything is allocated
        raise CheckpointError(
            f"{folder}: config.json describes a model that is far larger than the {n_bytes} bytes "
            "of its weights; the two do not belong together"
        )
    metadata = content["provenance"].get("nam_metadata")
    model = NamWaveNet(config, metadata if isinstance(metadata, dict) else None)
    load_weights(model, folder, content.get("dtype"))
    return model.to(device).eval()


def _all_weights(config: NamConfig) -> int:
    """Count the weights of a network and of the network of its condition, recursively."""
    return config.n_weights + (0 if config.condition is None else _all_weights(config.condition))
