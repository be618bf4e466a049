"""The checkpoint: a folder with ``config.json`` and ``model.safetensors``.

``config.json`` says everything that the sound depends on: the format's version, the architecture,
the model's configuration with sample rate, mel settings and output distribution, and where the
weights come from. ``model.safetensors`` holds the weights and the mel filterbank. Nothing is
unpickled. Both files are written beside the old ones and then renamed, so that a folder that could
be loaded once can be loaded after a full disk or a killed process.

This module knows the format; ``wavenet.model`` knows what to build from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from wavenet.files import atomic_write

FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


class CheckpointError(ValueError):
    """A folder that does not hold the checkpoint that was asked for."""


def write_checkpoint(
    folder: str | Path,
    *,
    architecture: str,
    config: dict[str, Any],
    tensors: Mapping[str, Tensor],
    provenance: dict[str, Any] | None = None,
) -> None:
    """Write both files into a folder, which is made if it is missing.

    Args:
        folder: where they go.
        architecture: what to build from ``config``.
        config: JSON values.
        tensors: weights and buffers, on any device.
        provenance: where the weights come from: corpus, steps, command, loss ... (JSON values).

    Raises:
        WriteError: if a file cannot be written; the old ones are as they were.
    """
    folder = Path(folder)
    content = {
        "format_version": FORMAT_VERSION,
        "architecture": architecture,
        "config": config,
        "provenance": {**(provenance or {}), "versions": _library_versions()},
    }
    text = json.dumps(content, indent=2) + "\n"
    weights = save({name: part.detach().cpu().contiguous() for name, part in tensors.items()})
    # Both are on the disk before either takes its place: a full disk must not part them.
    with atomic_write(folder / CONFIG_NAME) as config_path:
        config_path.write_text(text, encoding="utf-8")
        with atomic_write(folder / WEIGHTS_NAME) as weights_path:
            weights_path.write_bytes(weights)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The content of ``config.json``: ``architecture``, ``config``, ``provenance``.

    Raises:
        CheckpointError: if it is missing, no JSON, or of a format this package does not know.
    """
    path = Path(folder) / CONFIG_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"{folder} holds no {CONFIG_NAME}; name the folder that model.save or training wrote"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict) or "format_version" not in content:
        raise CheckpointError(f"{path} holds no model configuration; is it another program's?")
    found = content["format_version"]
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format_version {found}, this package reads {FORMAT_VERSION}; "
            "update the package or save the model anew"
        )
    if not isinstance(content.get("config"), dict):
        raise CheckpointError(f"{path} lacks the model's config; the checkpoint is damaged")
    return content


def load_weights(module: torch.nn.Module, folder: str | Path) -> None:
    """Fill a module with ``model.safetensors``, strictly: every tensor, every shape.

    Raises:
        CheckpointError: if the file is missing or damaged, or its tensors are not the module's.
    """
    path = Path(folder) / WEIGHTS_NAME
    weights_bytes(folder)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors:
            raise CheckpointError(f"{path} lacks the tensor {name} that the configuration asks for")
        if name not in expected:
            raise CheckpointError(f"{path} has a tensor {name} that the configuration has not")
        if tensors[name].shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, but the configuration "
                f"asks for {tuple(expected[name].shape)}"
            )
    module.load_state_dict(tensors)


def weights_bytes(folder: str | Path) -> int:
    """The size of ``model.safetensors``.

    Raises:
        CheckpointError: if it is missing.
    """
    path = Path(folder) / WEIGHTS_NAME
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; the checkpoint is incomplete")
    return path.stat().st_size


def _library_versions() -> dict[str, str]:
    """Versions of what made the weights."""
    try:
        own = version("wavenet-audio")
    except PackageNotFoundError:  # a checkout that is not installed
        own = "unknown"
    return {"wavenet": own, "torch": torch.__version__}
