"""NAM models in the package's own checkpoint folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from wavenet.nam.config import NamConfig
from wavenet.nam.network import NamWaveNet
from wavenet.storage.checkpoint import CheckpointError, load_weights
from wavenet.storage.settings import from_dict


def from_checkpoint(
    folder: str | Path, content: dict[str, Any], device: torch.device | str = "cpu"
) -> NamWaveNet:
    """The model of a checkpoint, in evaluation mode.

    Args:
        folder: as ``NamWaveNet.save`` wrote it.
        content: what its ``config.json`` says, by ``wavenet.storage.checkpoint.read_config``.
        device: where the model goes.

    Raises:
        CheckpointError: if the configuration is damaged, or the weights are not its own.
    """
    try:
        config = from_dict(NamConfig, content["config"], where="config")
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}: {error}") from None
    provenance = content.get("provenance")
    metadata = provenance.get("nam_metadata") if isinstance(provenance, dict) else None
    model = NamWaveNet(config, metadata if isinstance(metadata, dict) else None)
    load_weights(model, folder)
    return model.to(device).eval()
