"""One ``stream`` step of a model as a program without Python: ``torch.export``, and ONNX from it.

    audio [B, 1, T], conditioning [B, C, T], state_00 [B, R, past_0] ..
        -> params [B, P, T], next_state_00 [B, R, past_0] ..

The conditioning is there where the model has any, and is ``[B, C, 1]`` where it has speakers
alone. A second program makes it:

    features [B, M, F], speaker [B] (int64), ...  ->  conditioning [B, C, F * hop]

B, T and F are free, from 1 on. States of zeros are ``init_state``; after ``silence`` samples of
silence from there, the last column of the params is that of the first sample, where generation
begins. Layers that remember nothing (with one tap) have no state here.

A model that answers audio with audio, such as those of Neural Amp Modeler, has the first program
alone, with ``output`` in the place of ``params``.
"""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from wavenet.loading import read_model
from wavenet.model import WaveNet
from wavenet.nam import NamModel, NamWaveNet
from wavenet.nn import State, flatten_state, map_state
from wavenet.storage.files import atomic_write
from wavenet.storage.sharing import shareable

Processor: TypeAlias = WaveNet | NamWaveNet | NamModel

CONDITION_SUFFIX = ".condition"
"""Goes before the suffix of the file that holds the second program."""
_SAMPLE_RATE = ("input_projection", "stack", "head", "second_projection")


class StreamStep(nn.Module):
    """``model.stream`` with a flat state."""

    def __init__(self, model: Processor) -> None:
        super().__init__()
        self.model = model
        self._like = model.init_state(1)

    def forward(self, audio: Tensor, conditioning: Tensor | None, *states: Tensor) -> list[Tensor]:
        """``[params or output, *next states]``."""
        params, after = self.model.stream(audio, self._nested(audio, iter(states)), conditioning)
        return [params, *(part for part in flatten_state(after) if part.shape[-1])]

    def _nested(self, audio: Tensor, states: Iterator[Tensor]) -> State:
        def fill(part: Tensor) -> Tensor:
            if part.shape[-1]:
                return next(states)
            return audio.new_zeros(audio.shape[0], part.shape[1], 0)

        return map_state(fill, self._like)


class Conditioning(nn.Module):
    """``model.condition``, without the weights that it does not need."""

    def __init__(self, model: WaveNet) -> None:
        super().__init__()
        self.model = copy.copy(model)
        needed = {name: part for name, part in model.named_children() if name not in _SAMPLE_RATE}
        self.model._modules = dict(needed)

    def forward(self, *values: Tensor | None) -> Tensor:
        """Values of the model's conditions in their order: ``[B, C, F * hop]`` or ``[B, C, 1]``."""
        pairs = zip(self.model.conditions, values, strict=True)
        given = {name: value for name, value in pairs if value is not None}
        cond = self.model.condition(conditions=given)
        assert cond is not None
        return cond


def trace_step(model: Processor) -> tuple[ExportedProgram, list[str], list[str]]:
    """The step as a program, and the names of its inputs and outputs.

    Args:
        model: on the CPU in float32.
    """
    batch, time = Dim("batch", min=1), Dim("time", min=1)
    rows, columns = 2, 3  # sizes to trace with: none equals another one by chance
    states = tuple(part for part in flatten_state(model.init_state(rows)) if part.shape[-1])
    names = [f"state_{i:02}" for i in range(len(states))]
    state_dims = tuple({0: batch} for _ in states)
    inputs, cond, cond_dims = ["audio"], None, None
    if isinstance(model, WaveNet) and model.cond_channels is not None:
        lasts = model.config.local is not None
        cond = torch.zeros(rows, model.cond_channels, columns if lasts else 1)
        cond_dims = {0: batch, 2: time} if lasts else {0: batch}
        inputs.append("conditioning")
    program = torch.export.export(
        StreamStep(model).eval(),
        (torch.zeros(rows, model.in_channels, columns), cond, *states),
        dynamic_shapes=({0: batch, 2: time}, cond_dims, *([state_dims] if states else [])),
    )
    output = "params" if isinstance(model, WaveNet) else "output"
    return program, inputs + names, [output, *(f"next_{name}" for name in names)]


def read_exported(
    folder: str | Path, submodel: str | None = None
) -> tuple[Processor, dict[str, Any]]:
    """Read a model that can be exported, and what its programs carry along.

    Args:
        folder: anything that ``wavenet.load`` takes.
        submodel: see ``wavenet.loading.read_model``.

    Returns:
        The model, and values by key: ``config`` (``config.json`` without local paths and the
        command), ``sample_rate`` (Hz), ``past`` (see ``Causal``) and ``silence`` (samples of
        silence to stream before the first sample is drawn).

    Raises:
        CheckpointError: as ``load``.
        ValueError: for a model with recurrent layers: torch's exporter fixes their number of
            samples.
    """
    model, content = read_model(folder, submodel=submodel)
    if model.unbounded:
        raise ValueError(
            f"{folder} has recurrent layers, which torch's exporter takes for one number of "
            "samples alone; run it with wavenet process, or export it to .nam"
        )
    silence = (math.ceil(model.past / model.period) + 1) * model.period
    facts = {"sample_rate": model.sample_rate, "past": model.past, "silence": silence}
    return model, {"config": shareable(content), **facts}


def trace_conditioning(model: Processor) -> tuple[ExportedProgram, list[str], list[str]] | None:
    """The second program, and the names of its inputs and outputs; None without conditioning."""
    if not isinstance(model, WaveNet) or model.cond_channels is None:
        return None
    batch, frames = Dim("batch", min=1), Dim("frames", min=1)
    examples = model.example_conditions(2, 5)
    dims = {name: {0: batch, 2: frames} if name == "mel" else {0: batch} for name in examples}
    program = torch.export.export(
        Conditioning(model).eval(),
        tuple(examples.get(name) for name in model.conditions),
        dynamic_shapes=(tuple(dims.get(name) for name in model.conditions),),
    )
    inputs = ["features" if name == "mel" else name for name in examples]
    return program, inputs, ["conditioning"]


def export_program(
    folder: str | Path, file: str | Path, *, submodel: str | None = None
) -> list[Path]:
    """Write the programs of a checkpoint as ``torch.export`` does: ``.pt2``.

    ``torch.export.load(file).module()(audio, conditioning, *states)`` runs it, with None for the
    conditioning that a model has not.

    >>> wavenet.WaveNet(wavenet.WaveNetConfig(layers_per_stack=4, stacks=1)).save("my-model")
    >>> [path.name for path in export_program("my-model", "step.pt2")]
    ['step.pt2']

    Args:
        folder: anything that ``wavenet.load`` takes.
        file: for the step; the conditioning goes beside it, into ``NAME.condition.pt2``.
        submodel: of several sizes of one model, the one to export; default, the largest.

    Returns:
        The files written.

    Raises:
        CheckpointError, WriteError: as ``load`` and ``atomic_write``.
    """
    model, facts = read_exported(folder, submodel)
    target = Path(file)
    extra = {"config.json": json.dumps(facts["config"])}
    traced = {target: trace_step(model), condition_path(target): trace_conditioning(model)}
    written = {}
    for path, one in traced.items():
        if one is not None:
            buffer = io.BytesIO()
            torch.export.save(one[0], buffer, extra_files=extra)
            written[path] = buffer.getvalue()
    return write_all(written)


def condition_path(file: Path) -> Path:
    """``out.onnx`` to ``out.condition.onnx``."""
    return file.with_name(f"{file.stem}{CONDITION_SUFFIX}{file.suffix}")


def write_all(contents: dict[Path, bytes]) -> list[Path]:
    """Write files, each whole or not at all."""
    for path, content in contents.items():
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return list(contents)
