"""``wavenet.load``: the checkpoint names its architecture, and this table its builder.

A ``.nam`` file of Neural Amp Modeler is read in place, without being imported first.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import torch

from wavenet import nam
from wavenet.features.mel_config import MelConfig
from wavenet.model import ARCHITECTURE, WaveNet
from wavenet.model.from_checkpoint import from_checkpoint, mel_difference
from wavenet.storage.checkpoint import CheckpointError, read_config
from wavenet.storage.hub import resolve
from wavenet.values.devices import require_device
from wavenet.values.text import short

Loaded: TypeAlias = WaveNet | nam.NamWaveNet | nam.NamModel
"""What a checkpoint holds: a causal block with a ``sample_rate``."""

Voice: TypeAlias = Literal["prompts-16k"]
"""Names of the bundled models, each of which is a ``WaveNet``."""

Loader = Callable[[Path, dict[str, Any], torch.device | str], Loaded]

LOADERS: dict[str, Loader] = {
    ARCHITECTURE: from_checkpoint,
    nam.ARCHITECTURE: nam.from_checkpoint,
}
"""By the architecture's name: from the folder, the content of its ``config.json`` and a device to
the model."""


@overload
def load(
    folder: Voice,
    *,
    device: torch.device | str = ...,
    sample_rate: int | None = ...,
    mel: MelConfig | None = ...,
    revision: str | None = ...,
) -> WaveNet: ...


@overload
def load(
    folder: str | Path,
    *,
    device: torch.device | str = ...,
    sample_rate: int | None = ...,
    mel: MelConfig,
    revision: str | None = ...,
) -> WaveNet: ...


@overload
def load(
    folder: str | Path,
    *,
    device: torch.device | str = ...,
    sample_rate: int | None = ...,
    mel: MelConfig | None = ...,
    revision: str | None = ...,
) -> Loaded: ...


def load(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    sample_rate: int | None = None,
    mel: MelConfig | None = None,
    revision: str | None = None,
) -> Loaded:
    """Read a model from a checkpoint, in evaluation mode.

    >>> model = load("prompts-16k", sample_rate=16000)
    >>> type(model).__name__, model.config.mel == wavenet.MelConfig()
    ('WaveNet', True)

    Args:
        folder: as a model's ``save``, training or ``wavenet import`` wrote it, the name of a
            bundled model (``wavenet.storage.pretrained``), ``owner/name`` on the Hugging Face Hub,
            or a ``.nam`` file.
        device: where the model goes.
        sample_rate: of the audio it shall work on, in Hz; a model for another rate is refused.
        mel: the settings of the mels it shall get; a model for others is refused.
        revision: branch, tag or commit on the Hub.

    Returns:
        What the folder holds: a ``WaveNet`` or a ``NamWaveNet``; of a ``.nam`` file also any
        ``NamModel``. Of several sizes of one model it is the largest; ``wavenet.nam`` has the
        others (``read_nam``, ``read_nam_whole``). To a type checker a bundled model, and one that
        takes a mel, is a ``WaveNet``; ``WaveNet.from_pretrained`` returns no other.

    Raises:
        FormatError: if a ``.nam`` file cannot be read.
        CheckpointError: if there is no checkpoint, it is damaged, was written in a format this
            package does not know, or does not fit ``sample_rate`` or ``mel``.
        ValueError: if there is no such device.
    """
    found, _ = read_model(folder, device=device, revision=revision)
    if sample_rate not in (None, found.sample_rate):
        raise CheckpointError(
            f"{folder} works at {found.sample_rate} Hz, but {sample_rate} Hz was asked for; "
            "resample the audio or choose another model"
        )
    if mel is None:
        return found
    if not isinstance(found, WaveNet):
        raise CheckpointError(f"{folder} takes audio and no mel, but one was given; leave it out")
    if mel != found.config.mel:
        raise CheckpointError(f"{folder}: {mel_difference(found.config.mel, mel)}")
    return found


def load_wavenet(folder: str | Path, *, device: torch.device | str = "cpu") -> WaveNet:
    """Load a model that generates, as ``load``; CheckpointError for any other."""
    return read_wavenet(folder, device=device)[0]


def read_wavenet(
    folder: str | Path, *, device: torch.device | str = "cpu"
) -> tuple[WaveNet, dict[str, Any]]:
    """Read a model that generates, as ``read_model``; CheckpointError for any other."""
    if nam.is_nam(folder):
        raise CheckpointError(
            f"{folder} is a network of Neural Amp Modeler, which processes audio and generates "
            "none; run it with wavenet process"
        )
    found, content = read_model(folder, device=device)
    if not isinstance(found, WaveNet):
        raise CheckpointError(
            f"{folder} has architecture {short(content['architecture'])}, expected "
            f"{ARCHITECTURE!r}; only that one generates"
        )
    return found, content


def read_model(
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    revision: str | None = None,
    submodel: str | None = None,
) -> tuple[Loaded, dict[str, Any]]:
    """Load a model, with the content of its ``config.json``; of a ``.nam`` file, the same keys.

    Of several sizes it is the one named ``submodel`` (``NamContainer.choose``), or the largest.
    """
    device = require_device(device)
    if nam.is_nam(folder):
        if revision is not None:
            raise ValueError(f"revision={revision!r} of {folder}: a file has no revisions")
        network = nam.read_nam(Path(folder), submodel=submodel)
        return network.to(device), network.description()
    folder = resolve(folder, revision)
    content = read_config(folder)
    architecture = content["architecture"]
    if architecture not in (*LOADERS, nam.CONTAINER_ARCHITECTURE):
        known = " or ".join(map(repr, LOADERS))
        raise CheckpointError(f"{folder} has architecture {short(architecture)}, expected {known}")
    if architecture == nam.CONTAINER_ARCHITECTURE:
        return _one_size(folder, content, device, submodel)
    if submodel is not None:
        raise CheckpointError(
            f"{folder} holds one model alone, so there is no submodel {submodel!r}; leave it out"
        )
    return LOADERS[architecture](folder, content, device), content


def _one_size(
    folder: Path, content: dict[str, Any], device: torch.device | str, submodel: str | None
) -> tuple[Loaded, dict[str, Any]]:
    """Load one of several sizes, and describe it with what the checkpoint says of its origin."""
    try:
        model = nam.container_from_checkpoint(folder, content, device).choose(submodel)
    except nam.FormatError as error:
        raise CheckpointError(f"{folder} {error}") from None
    facts = model.description()
    facts["provenance"] = {**content["provenance"], **facts["provenance"]}
    return model, facts
