"""A model's programs as ONNX files, one file each, with the content of ``config.json`` inside.

onnxruntime, and whatever else runs ONNX, needs neither torch nor this package for them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from wavenet.interop.programs import (
    condition_path,
    read_exported,
    trace_conditioning,
    trace_step,
    write_all,
)


def export_onnx(folder: str | Path, file: str | Path, *, submodel: str | None = None) -> list[Path]:
    """Write the programs of a checkpoint as ONNX; see ``wavenet.interop.programs``.

    Their metadata has the values of ``wavenet.interop.programs.read_exported`` as JSON.

    >>> wavenet.WaveNet(wavenet.WaveNetConfig(layers_per_stack=4, stacks=1)).save("my-model")
    >>> [path.name for path in export_onnx("my-model", "step.onnx")]
    ['step.onnx']

    Args:
        folder: anything that ``wavenet.load`` takes.
        file: for the step; the conditioning goes beside it, into ``NAME.condition.onnx``.
        submodel: of several sizes of one model, the one to export; default, the largest.

    Returns:
        The files written.

    Raises:
        CheckpointError, WriteError: as ``load`` and ``atomic_write``.
        ModuleNotFoundError: without the packages of the extra ``onnx``.
    """
    require_onnx()
    model, facts = read_exported(folder, submodel)
    target = Path(file)
    metadata = {key: json.dumps(value) for key, value in facts.items()}
    contents = {target: to_onnx(*trace_step(model), metadata)}
    conditioning = trace_conditioning(model)
    if conditioning is not None:
        contents[condition_path(target)] = to_onnx(*conditioning, metadata)
    return write_all(contents)


def require_onnx() -> None:
    """Raise ModuleNotFoundError without the packages of the extra ``onnx``."""
    for package in ("onnx", "onnxscript"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(
                f"exporting to ONNX needs {package}; pip install 'wavenet-audio[onnx]'"
            )


def to_onnx(
    program: ExportedProgram, inputs: list[str], outputs: list[str], metadata: dict[str, str]
) -> bytes:
    """Return a program as the content of an ONNX file, with named inputs, outputs and axes.

    Args:
        program: of ``torch.export``.
        inputs: names, in order.
        outputs: names, in order.
        metadata: written into the file.
    """
    with _quiet():
        converted = torch.onnx.export(program, dynamo=True, verbose=False)
    assert converted is not None
    graph = converted.model.graph
    _name(graph.inputs, inputs)
    _name(graph.outputs, outputs)
    converted.model.metadata_props.update(metadata)
    content: bytes = converted.model_proto.SerializeToString()
    return content


def _name(values: Any, names: list[str]) -> None:
    """Name values and their free axes."""
    import onnx_ir

    for value, name in zip(values, names, strict=True):
        value.name = name
        last = {"features": "frames", "y": "output_time"}.get(name, "time")
        axes = ["batch", None, last]
        sizes = enumerate(value.shape)
        value.shape = onnx_ir.Shape(
            [size if isinstance(size, int) else axes[axis] for axis, size in sizes]
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's messages on itself, and on packages that no model of ours needs."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
