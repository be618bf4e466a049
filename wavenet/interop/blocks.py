"""Any causal block as a program of one ``stream`` call, for hosts without this package.

    x [B, C, T], (cond [B, D, T],) state_00, state_01 ..  ->  y, next_state_00, next_state_01 ..

The tensors of the state are inputs and outputs of their own, in the order of ``flatten_state``,
without those that hold no numbers. Streaming begins with zeros.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from wavenet.interop.cells import unrolled
from wavenet.interop.onnx import require_onnx, to_onnx
from wavenet.nn.causal import Causal, check_positive
from wavenet.nn.hooks import unwrapped
from wavenet.nn.state import State, flatten_state, map_state
from wavenet.storage.files import atomic_write
from wavenet.values.meta_device import require_values
from wavenet.values.text import printable

SUFFIXES = (".onnx", ".pt2")
METADATA = "wavenet.json"
"""Name of the extra file with the metadata in a ``.pt2``."""
_ROWS = 2
"""Rows to trace with where the batch is free."""


class ExportError(ValueError):
    """Raised for a block that torch cannot export; one line."""


def export(
    block: Causal,
    file: str | Path,
    *,
    chunk: int | None = None,
    batch: int | None = None,
    sample_rate: int | None = None,
) -> Path:
    """Write a causal block as one step, ``(x, cond, state) -> (y, state')``, for other programs.

    An ``.onnx`` file runs in onnxruntime; a ``.pt2`` file is what ``torch.export.load`` reads. The
    inputs are named ``x``, ``cond`` (of a block that takes one) and ``state_00``, ..., the outputs
    ``y`` (``y_0``, ... of a block that returns several) and ``next_state_00``, ... The metadata
    say ``step`` (T is a multiple of it), ``rate``, ``delay`` (samples), ``chunk``, ``sample_rate``
    (Hz) if it is known, and ``states``: a JSON object of the shape and type of each state without
    its batch. ``initial_state`` makes the first ones of it.

    The block is exported as it computes in evaluation mode, on the CPU. Of a strided block, torch
    guards a ``.pt2`` of any length against calls of one ``step``, which it computes right all the
    same: load it with ``torch.export.load(file).module(check_guards=False)``.

    >>> net = wavenet.Chain(wavenet.CausalConv1d(1, 8, 3), nn.ReLU())
    >>> export(net.eval(), "net.onnx", sample_rate=16000).name
    'net.onnx'

    Args:
        block: any causal block, such as ``Chain`` or what ``wavenet.causal`` returns.
        file: to be written; its suffix chooses the format, ``.onnx`` or ``.pt2``.
        chunk: samples of every call, for hosts with fixed buffers; default, any multiple of
            ``block.step``.
        batch: rows of every call; default, any number.
        sample_rate: of the input in Hz; default, the block's own if it has one.

    Returns:
        The file.

    Raises:
        TypeError: if block is no causal block.
        ValueError: for another suffix, a chunk that is no multiple of ``block.step``, a block on
            the meta device, or one in another type than float32 for ``.onnx``.
        ExportError: a ValueError, if torch cannot export the block.
        WriteError: as ``atomic_write``.
        ModuleNotFoundError: for ``.onnx`` without the packages of the extra ``onnx``.
    """
    # Of torch.compile: the export traces the block itself.
    inside = unwrapped(block) if isinstance(block, nn.Module) else block
    block = inside if isinstance(inside, Causal) else block
    if not isinstance(block, Causal):
        raise TypeError(
            f"block is a {type(block).__name__}, not a Causal; wavenet.causal(module) makes one of "
            "an ordinary module"
        )
    require_values(block, "block")
    target = Path(file)
    if target.suffix not in SUFFIXES:
        raise ValueError(f"file={str(file)!r} ends in neither {' nor '.join(SUFFIXES)}; rename it")
    dtype = _dtype(block)
    if target.suffix == ".onnx":
        require_onnx()
        if dtype != torch.float32:
            found = str(dtype).removeprefix("torch.")
            raise ValueError(f"block is in {found}, and .onnx is written in float32: block.float()")
    if chunk is not None and check_positive("chunk", chunk) % block.step:
        raise ValueError(f"chunk={chunk} must be a multiple of {block.step}, the block's step")
    batch = None if batch is None else check_positive("batch", batch)
    with _in_evaluation(block), _refusing(block, chunk):
        step = _Step(block)
        metadata = _metadata(step, chunk, sample_rate)
        program = _traced(step, chunk, batch)
        content = _content(target.suffix, program, step, metadata)
    with atomic_write(target) as temporary:
        temporary.write_bytes(content)
    return target


def initial_state(metadata: Mapping[str, str], batch: int = 1) -> dict[str, np.ndarray]:
    """The states with which a stream begins, by the names of the inputs.

    >>> import onnxruntime
    >>> export(wavenet.CausalConv1d(1, 1, 3).eval(), "net.onnx").name
    'net.onnx'
    >>> session = onnxruntime.InferenceSession("net.onnx")
    >>> state = initial_state(session.get_modelmeta().custom_metadata_map)
    >>> {name: value.shape for name, value in state.items()}
    {'state_00': (1, 1, 2)}

    Args:
        metadata: of the file; in onnxruntime ``session.get_modelmeta().custom_metadata_map``.
        batch: rows.

    Raises:
        ValueError: if the metadata are not those of ``export``.
    """
    if "states" not in metadata:
        raise ValueError("metadata has no states; pass those of a file that wavenet.export wrote")
    states = json.loads(metadata["states"])
    return {name: np.zeros((batch, *shape), kind) for name, (shape, kind) in states.items()}


class _Step(nn.Module):
    """``block.stream`` with a flat state.

    Attributes:
        states: tensors of ``init_state(1)`` by name, without those that hold no numbers.
        outputs: number of tensors that the block returns.
    """

    def __init__(self, block: Causal) -> None:
        super().__init__()
        self.block = block
        self._like = block.init_state(1, device="cpu")
        parts = [part for part in flatten_state(self._like) if part.numel()]
        self.states = {f"state_{i:02}": part for i, part in enumerate(parts)}
        with torch.no_grad():
            self.outputs = len(self(*self.example(1, block.step))) - len(parts)

    def example(self, rows: int, columns: int) -> tuple[Tensor | None, ...]:
        """Inputs of this size, zeros: x, cond and the states."""
        dtype = _dtype(self.block)
        x = torch.zeros(rows, self.block.in_channels, columns, dtype=dtype)
        channels = self.block.cond_channels
        cond = None if channels is None else torch.zeros(rows, channels, columns, dtype=dtype)
        states = (part.repeat(rows, *[1] * (part.ndim - 1)) for part in self.states.values())
        return x, cond, *states

    def forward(self, x: Tensor, cond: Tensor | None, *states: Tensor) -> list[Tensor]:
        """``[y, ..., *next states]``."""
        y, after = self.block.stream(x, self._nested(x, iter(states)), cond)
        outputs = [y] if isinstance(y, Tensor) else list(y)
        return [*outputs, *(part for part in flatten_state(after) if _holds_numbers(part))]

    def _nested(self, x: Tensor, states: Iterator[Tensor]) -> State:
        def fill(part: Tensor) -> Tensor:
            if part.numel():
                return next(states)
            return part.new_zeros(x.shape[0], *part.shape[1:])

        return map_state(fill, self._like)


def _dtype(block: Causal) -> torch.dtype:
    """Type of the block's samples."""
    dtype: torch.dtype | None = block._factory(None, None)["dtype"]
    return torch.float32 if dtype is None else dtype


def _holds_numbers(part: Tensor) -> bool:
    """Whether a tensor of a state with a free number of rows has any numbers."""
    return all(size != 0 for size in part.shape[1:])


def _traced(step: _Step, chunk: int | None, batch: int | None) -> ExportedProgram:
    """The step as a program of torch."""
    block = step.block
    rows = batch or _ROWS
    # Lengths to trace with that no size of a layer equals by chance.
    columns = chunk or 3 * block.step
    dims: dict[int, Any] = {} if batch else {0: Dim("batch", min=1)}
    steps = Dim("steps", min=1)
    timed = dims if chunk else dims | {2: steps if block.step == 1 else block.step * steps}
    example = step.example(rows, columns)
    states = [(dims,) * len(step.states)] if step.states else []
    shapes = (timed, None if block.cond_channels is None else timed, *states)
    with unrolled(block):
        return torch.export.export(step, example, dynamic_shapes=shapes)


def _metadata(step: _Step, chunk: int | None, sample_rate: int | None) -> dict[str, str]:
    block = step.block
    for name, part in step.states.items():
        if bool(part.any()):
            raise ExportError(
                f"{type(block).__name__} does not begin with zeros ({name}), as hosts do; stream it"
            )
    kinds = {
        name: (list(part.shape[1:]), str(part.dtype).removeprefix("torch."))
        for name, part in step.states.items()
    }
    known = {
        "step": str(block.step),
        "rate": str(block.rate),
        "delay": str(block.delay),
        "chunk": "" if chunk is None else str(chunk),
        "states": json.dumps(kinds),
    }
    own = getattr(block, "sample_rate", None) if sample_rate is None else sample_rate
    if isinstance(own, int):
        known["sample_rate"] = str(check_positive("sample_rate", own))
    return known


def _content(suffix: str, program: ExportedProgram, step: _Step, metadata: dict[str, str]) -> bytes:
    if suffix == ".pt2":
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={METADATA: json.dumps(metadata)})
        return buffer.getvalue()
    cond = ["cond"] * (step.block.cond_channels is not None)
    several = [f"y_{i}" for i in range(step.outputs)]
    outputs = ["y"] if step.outputs == 1 else several
    after = [f"next_{name}" for name in step.states]
    return to_onnx(program, ["x", *cond, *step.states], [*outputs, *after], metadata)


@contextlib.contextmanager
def _in_evaluation(block: Causal) -> Iterator[None]:
    """Within, the block is in evaluation mode."""
    modes = {part: part.training for part in block.modules()}
    block.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextlib.contextmanager
def _refusing(block: Causal, chunk: int | None) -> Iterator[None]:
    """Within, what torch raises becomes an ``ExportError`` of one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ModuleNotFoundError, ExportError):
        raise
    except Exception as error:
        cause = error.__cause__ or error
        lines = [line.strip() for line in str(cause).split("\n") if line.strip()]
        reason = printable((lines or [type(cause).__name__])[0])[:200]
        if "Constraints violated" in reason and not chunk:
            reason = "its code depends on the number of samples of a call; fix it: chunk=N"
        raise ExportError(f"torch cannot export this {type(block).__name__}: {reason}") from error
