"""Amplifier models of the command line: ``.nam`` files, and checkpoints of imported ones."""

from __future__ import annotations

from pathlib import Path

from wavenet.nam.checkpoints import container_from_checkpoint, from_checkpoint
from wavenet.nam.container import CONTAINER_ARCHITECTURE, NamContainer
from wavenet.nam.network import ARCHITECTURE
from wavenet.nam.reading import AnyModel, is_nam, read_nam_whole
from wavenet.nam.values import FormatError
from wavenet.storage.checkpoint import CheckpointError, read_config
from wavenet.storage.hub import resolve
from wavenet.values.text import short


def load_model(source: str | Path, *, submodel: str | None = None) -> AnyModel:
    """Read the model in a ``.nam`` file or in a checkpoint.

    Args:
        source: the file, or whatever names a checkpoint.
        submodel: of several sizes, see ``NamContainer.choose``; default, the largest.

    Raises:
        FormatError: if the file cannot be read, or has no such size.
        CheckpointError: if it is another kind of model.
    """
    whole = load_whole(source)
    try:
        if isinstance(whole, NamContainer):
            return whole.choose(submodel)
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from None
    if submodel is not None:
        raise FormatError(
            f"{source}: holds one model alone, so there is no submodel {submodel!r}; leave out "
            "--submodel"
        )
    return whole


def load_whole(source: str | Path) -> AnyModel | NamContainer:
    """Read all that a ``.nam`` file or a checkpoint of one holds; raises as ``load_model``."""
    if is_nam(source):
        return read_nam_whole(source)
    folder = resolve(source)
    content = read_config(folder)
    architecture = content.get("architecture")
    if architecture == CONTAINER_ARCHITECTURE:
        return container_from_checkpoint(folder, content)
    if architecture != ARCHITECTURE:
        raise CheckpointError(
            f"{folder} has architecture {short(architecture)}, which generates; here one is needed "
            "that answers audio with audio, such as an imported .nam file"
        )
    return from_checkpoint(folder, content)


def summary(model: AnyModel | NamContainer) -> str:
    """Return name, number of weights, sample rate and receptive field, a line each size."""
    if isinstance(model, NamContainer):
        sizes = [f"{i}: {summary(one.model)}" for i, one in enumerate(model.submodels)]
        return "\n  ".join([f"{len(sizes)} sizes of one model", *sizes])
    name = model.metadata.get("name")
    known = f"{name[:60]!r}, " if isinstance(name, str) else ""
    field = "unbounded"
    if not model.unbounded:
        field = f"{1000 * (model.past + 1) / model.sample_rate:.1f} ms"
    return (
        f"{known}{model.config.n_weights} weights, {model.sample_rate} Hz, receptive field {field}"
    )
