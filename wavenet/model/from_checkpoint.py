"""A ``WaveNet`` from its checkpoint, if configuration and weights fit each other."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from wavenet.features.mel_config import MelConfig
from wavenet.model import WaveNet
from wavenet.model.config import ADDED_KEYS, WaveNetConfig
from wavenet.model.shapes import described_tensors
from wavenet.storage.checkpoint import CheckpointError, load_weights, read_licences, weights_bytes

LEAST_LAYER_BYTES = 256
"""Of a layer in ``model.safetensors``: six tensors, each with its name and shape in the header."""


def from_checkpoint(
    folder: Path, content: dict[str, Any], device: torch.device | str = "cpu"
) -> WaveNet:
    """The model of a checkpoint, in evaluation mode.

    Args:
        folder: as ``WaveNet.save`` wrote it.
        content: its ``config.json``, by ``wavenet.storage.checkpoint.read_config``.
        device: where the model goes.

    Raises:
        CheckpointError: if the configuration is damaged, or the weights are not its own.
    """
    known = [key for key in WaveNetConfig().to_dict() if key not in ADDED_KEYS]
    missing = [key for key in known if key not in content["config"]]
    if missing:
        raise CheckpointError(
            f"{folder}: config.json has no {', '.join(missing)}; save the model anew"
        )
    try:
        config = WaveNetConfig.from_dict(content["config"])
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder}: {error}") from None
    _require_affordable(config, folder)
    model = WaveNet(config)
    load_weights(model, folder, content.get("dtype"))
    model.licences = read_licences(folder)
    return model.to(device).eval()


def _require_affordable(config: WaveNetConfig, folder: Path) -> None:
    """Raise CheckpointError if the settings ask for far more memory than the weights have bytes.

    The model is built without memory for that. Shapes that are merely wrong are named later.
    """
    n_bytes = weights_bytes(folder)
    n_layers, wanted = config.layers_per_stack * config.stacks, math.inf
    if n_layers * LEAST_LAYER_BYTES <= max(n_bytes, 2**14):
        wanted = 4 * sum(part.numel() for part in described_tensors(config).values())
    if wanted > 4 * n_bytes + 2**20:
        raise CheckpointError(
            f"{folder}: config.json describes a model that is far larger than the {n_bytes} bytes "
            "of its weights; the two do not belong together"
        )


def mel_difference(own: MelConfig | None, other: MelConfig) -> str:
    """Describe, for an error message, the settings that differ, with both values."""
    if own is None:
        return "the model takes no mel, but one was given; choose a mel-conditioned model"
    pairs = ((name, value, getattr(other, name)) for name, value in vars(own).items())
    different = [f"{name}={a} in the model, {b} here" for name, a, b in pairs if a != b]
    return f"mel settings differ: {', '.join(different)}; make the mel with the model's"
