"""``wavenet import`` and ``wavenet export`` of ``.nam`` files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from wavenet.nam.checkpoints import from_checkpoint
from wavenet.nam.network import ARCHITECTURE, NamWaveNet
from wavenet.nam.reading import is_nam, read_nam
from wavenet.nam.writing import write_nam
from wavenet.storage.checkpoint import CheckpointError, read_config
from wavenet.storage.hub import resolve


def import_nam(file: Path, folder: Path, submodel: str | None) -> str:
    """Write the model of a ``.nam`` file as a checkpoint; returns what to say.

    Raises:
        FormatError: if the file cannot be read.
        WriteError: if the folder cannot be written.
    """
    model = read_nam(file, submodel=submodel)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    model.save(folder, provenance={"imported_from": file.name, "sha256": digest})
    return f"{folder}: {_summary(model)}"


def export_nam(source: str, file: Path) -> str:
    """Write a checkpoint, or another ``.nam`` file, as a ``.nam`` file; returns what to say.

    Raises:
        CheckpointError: if the source holds no such model.
        WriteError: if the file cannot be written.
    """
    model = load_model(source)
    write_nam(file, model)
    return f"{file}: {_summary(model)}"


def load_model(source: str | Path) -> NamWaveNet:
    """Read the model in a ``.nam`` file or in a checkpoint.

    Args:
        source: the file, or whatever names a checkpoint.

    Raises:
        FormatError: if the file cannot be read.
        CheckpointError: if it is another kind of model.
    """
    if is_nam(source):
        return read_nam(source)
    folder = resolve(source)
    content = read_config(folder)
    architecture = content.get("architecture")
    if architecture != ARCHITECTURE:
        raise CheckpointError(
            f"{folder} has architecture {architecture!r}, which generates; here one is needed that "
            "answers audio with audio, such as an imported .nam file"
        )
    return from_checkpoint(folder, content)


def _summary(model: NamWaveNet) -> str:
    name = model.metadata.get("name")
    known = f"{name[:60]!r}, " if isinstance(name, str) else ""
    milliseconds = 1000 * (model.past + 1) / model.sample_rate
    return (
        f"{known}{model.config.n_weights} weights, {model.sample_rate} Hz, "
        f"receptive field {milliseconds:.1f} ms"
    )
