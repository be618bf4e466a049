"""``wavenet.load``: the checkpoint names its architecture, and this table knows who builds it.

A ``.nam`` file of Neural Amp Modeler is read in place, without being imported first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wavenet import nam
from wavenet.features.mel_config import MelConfig
from wavenet.model import from_checkpoint as model_loading
from wavenet.storage.checkpoint import CheckpointError, read_config
from wavenet.storage.hub import resolve

Loader = Callable[[str | Path, dict[str, Any], torch.device | str], Any]

LOADERS: dict[str, Loader] = {nam.ARCHITECTURE: nam.from_checkpoint}
"""What is no ``WaveNet``, by the architecture's name: from the folder, the content of its
``config.json`` and a device to the model."""


def load(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    sample_rate: int | None = None,
    mel: MelConfig | None = None,
    revision: str | None = None,
) -> Any:
    """Read a model from a checkpoint, in evaluation mode.

    Args:
        folder: as a model's ``save``, training or ``wavenet import`` wrote it, the name of a
            bundled model (``wavenet.storage.pretrained``), ``owner/name`` on the Hugging Face Hub,
            or a ``.nam`` file.
        device: where the model goes.
        sample_rate: of the audio it shall work on, in Hz; a model for another rate is refused.
        mel: the settings of the mels it shall get; a model for others is refused.
        revision: branch, tag or commit on the Hub.

    Returns:
        What the folder holds: a ``WaveNet``, or a ``NamWaveNet``.

    Raises:
        FormatError: if a ``.nam`` file cannot be read.
        CheckpointError: if there is no checkpoint, it is damaged, was written in a format this
            package does not know, or does not fit ``sample_rate`` or ``mel``.
    """
    if nam.is_nam(folder):
        if revision is not None:
            raise ValueError(f"revision={revision!r} of {folder}: a file has no revisions")
        folder = Path(folder)
        found = nam.read_nam(folder).to(device)
    else:
        folder = resolve(folder, revision)
        content = read_config(folder)
        loader = LOADERS.get(str(content.get("architecture")))
        if loader is None:
            return model_loading.load(folder, device=device, sample_rate=sample_rate, mel=mel)
        found = loader(folder, content, device)
    model_loading.require_sample_rate(folder, found.sample_rate, sample_rate)
    if mel is not None:
        raise CheckpointError(f"{folder} takes audio and no mel, but one was given; leave it out")
    return found
