"""Amplifier models of the command line: ``.nam`` files, and checkpoints of imported ones."""

from __future__ import annotations

from pathlib import Path

from wavenet.nam.checkpoints import from_checkpoint
from wavenet.nam.network import ARCHITECTURE
from wavenet.nam.reading import AnyModel, is_nam, read_nam
from wavenet.storage.checkpoint import CheckpointError, read_config
from wavenet.storage.hub import resolve


def load_model(source: str | Path, *, submodel: str | None = None) -> AnyModel:
    """Read the model in a ``.nam`` file or in a checkpoint.

    Args:
        source: the file, or whatever names a checkpoint.
        submodel: see ``read_nam``.

    Raises:
        ValueError: for a submodel of a checkpoint.
        FormatError: if the file cannot be read.
        CheckpointError: if it is another kind of model.
    """
    if is_nam(source):
        return read_nam(source, submodel=submodel)
    if submodel is not None:
        raise ValueError(f"--submodel belongs to a .nam file, not to {source}; leave it out")
    folder = resolve(source)
    content = read_config(folder)
    architecture = content.get("architecture")
    if architecture != ARCHITECTURE:
        raise CheckpointError(
            f"{folder} has architecture {architecture!r}, which generates; here one is needed that "
            "answers audio with audio, such as an imported .nam file"
        )
    return from_checkpoint(folder, content)


def summary(model: AnyModel) -> str:
    """Return name, number of weights, sample rate and receptive field in a line."""
    name = model.metadata.get("name")
    known = f"{name[:60]!r}, " if isinstance(name, str) else ""
    field = "unbounded"
    if not model.unbounded:
        field = f"{1000 * (model.past + 1) / model.sample_rate:.1f} ms"
    return (
        f"{known}{model.config.n_weights} weights, {model.sample_rate} Hz, receptive field {field}"
    )
