"""The field of what cannot be followed, from the gradient alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from wavenet.receptive_fields.field import (
    LayerField,
    OutputField,
    ReceptiveField,
    squeezed,
    stride_number,
)
from wavenet.receptive_fields.gradient import (
    LARGEST_INPUT,
    MOST_OUTPUTS,
    MOST_PHASES,
    Support,
    supports,
)
from wavenet.receptive_fields.linear import CannotMeasure, Endless, Run, run_linear
from wavenet.receptive_fields.module_tracker import spatial_axes

_MORE_SAMPLES = {1: 20160, 2: 960, 3: 96}
"""By how much an input of so many dimensions grows to show the stride: a multiple of most."""


def make_field(
    outputs: list[OutputField],
    rate: int | None,
    layers: tuple[LayerField, ...],
    method: str,
    notes: tuple[str, ...],
    reasons: tuple[str, ...],
) -> ReceptiveField:
    """The result, headed by the output that hears most."""

    def size(output: OutputField) -> Any:
        samples = output.samples
        return math.prod(samples) if isinstance(samples, tuple) else samples

    largest = max(outputs, key=size)
    return ReceptiveField(
        largest.samples,
        rate,
        layers,
        largest.look_back,
        largest.look_ahead,
        largest.stride,
        largest.padding,
        tuple(outputs),
        method,
        notes,
        reasons,
    )


def measured_field(
    module: nn.Module,
    rate: int | None,
    shapes: list[tuple[int, ...]],
    notes: tuple[str, ...],
) -> ReceptiveField:
    """The field of any module, measured on inputs that grow from these shapes.

    Args:
        module: see ``run_linear``.
        rate: of its input, in Hz; None for no milliseconds.
        shapes: of the first inputs that are tried; time comes last.
        notes: what else the result is to say.

    Raises:
        ValueError: if the module does not accept the shapes.
    """
    n = len(spatial_axes(shapes[0]))
    try:
        run, found = _measure_freely(module, shapes)
    except Endless as error:
        endless = squeezed([math.inf] * n)
        nothing = squeezed([None] * n)
        output = OutputField("output", endless, endless, endless, nothing, nothing)
        return make_field([output], rate, (), "gradient", notes, (str(error),))
    strides = _measured_strides(module, shapes, run)
    if any(len(s.outputs) >= MOST_OUTPUTS for columns in found.values() for s in columns):
        notes = (*notes, f"{MOST_OUTPUTS} neighbouring outputs were measured; others may hear more")
    outputs = [
        OutputField(name, *_measured_numbers(strides[name], columns))
        for name, columns in found.items()
    ]
    return make_field(outputs, rate, (), "gradient", notes, ())


def _measure_freely(
    module: nn.Module, shapes: list[tuple[int, ...]]
) -> tuple[Run, dict[str, list[Support]]]:
    """Measure on inputs that grow until no output hears the border.

    Raises:
        Endless: if there is no such input.
        ValueError: if the module does not accept the first.
    """
    shape = shapes[0]
    accepted: tuple[int, ...] | None = None
    cut_off = False  # before, at a size that should have held every layer
    while True:
        try:
            run = run_linear(module, shape, stretched(shapes, shape))
        except CannotMeasure as error:
            if accepted is None:
                raise refusal(module, shapes, error) from error
            raise Endless(
                f"an output hears both ends of an input of shape {accepted}, and the module "
                "accepts no longer one"
            ) from error
        accepted = shape
        axes = spatial_axes(shape)
        needed = 2 * run.extent + 8
        if all(shape[axis] >= needed for axis in axes):
            found = {
                name: supports(run, tensor, _last_axes(tensor, axes), _counts(run, tensor, axes))
                for name, tensor in run.outputs.items()
            }
            if not _touches(found, shape, axes):
                return run, found
            if cut_off:
                raise Endless(f"an output hears both ends of an input of shape {shape}")
            cut_off = True
        factor = max(2, *(math.ceil(needed / shape[axis]) for axis in axes))
        shape = tuple(size * factor if a in axes else size for a, size in enumerate(shape))
        if math.prod(shape[axis] for axis in axes) > LARGEST_INPUT:
            raise Endless(f"an output hears both ends of an input of shape {accepted}")


def stretched(shapes: list[tuple[int, ...]], shape: Sequence[int]) -> list[tuple[int, ...]]:
    """Further inputs grow with the first one."""
    factor = Fraction(shape[-1], shapes[0][-1])
    return [(*other[:-1], math.ceil(other[-1] * factor)) for other in shapes[1:]]


def _last_axes(tensor: Tensor, axes: tuple[int, ...]) -> list[int | None]:
    """Time comes last in an output of as many axes as the input; else it is gone."""
    missing = max(0, axes[-1] + 1 - tensor.ndim)
    return [axis if axis < tensor.ndim and not missing else None for axis in axes]


def _counts(run: Run, tensor: Tensor, axes: tuple[int, ...]) -> list[int]:
    """Two periods of outputs, where a period is what one sample of the coarsest layer gives.

    Of a long period only one: the field is then known, and how it moves is not.
    """
    finest = max(1, math.ceil(tensor.shape[-1] / max(1.0, run.coarsest)))
    wanted = 2 * finest + 1 if finest <= MOST_PHASES else finest + 1
    return [min(MOST_OUTPUTS, wanted)] * len(axes)


def _touches(found: dict[str, list[Support]], shape: Sequence[int], axes: tuple[int, ...]) -> bool:
    for columns in found.values():
        for axis, support in zip(axes, columns, strict=True):
            if any(first is not None and first <= 0 for first in support.first):
                return True
            if any(last is not None and last >= shape[axis] - 1 for last in support.last):
                return True
    return False


def _measured_strides(
    module: nn.Module, shapes: list[tuple[int, ...]], run: Run
) -> dict[str, list[Fraction | None]]:
    """Input samples per output sample, from how much longer the outputs of a longer input are."""
    shape = tuple(run.x.shape)
    axes = spatial_axes(shape)
    unknown: dict[str, list[Fraction | None]] = {name: [None] * len(axes) for name in run.outputs}
    extra = _MORE_SAMPLES[len(axes)]
    more = tuple(size + extra if a in axes else size for a, size in enumerate(shape))
    try:
        longer = run_linear(module, more, stretched(shapes, more))
    except (CannotMeasure, Endless):
        return unknown
    for name, tensor in run.outputs.items():
        for d, axis in enumerate(_last_axes(tensor, axes)):
            if axis is not None:
                gained = longer.outputs[name].shape[axis] - tensor.shape[axis]
                unknown[name][d] = Fraction(extra, gained) if gained > 0 else None
    return unknown


def _measured_numbers(
    strides: list[Fraction | None], columns: list[Support]
) -> tuple[Any, Any, Any, Any, Any]:
    rows: list[tuple[Any, Any, Any, Any, Any]] = []
    for stride, support in zip(strides, columns, strict=True):
        heard = [
            (n, first, last)
            for n, first, last in zip(support.outputs, support.first, support.last, strict=True)
            if first is not None and last is not None
        ]
        if not heard:
            raise ValueError("the output does not depend on the input")
        samples = max(last - first + 1 for _, first, last in heard)
        if stride is None or not _keeps_step(heard, stride):
            rows.append((samples, None, None, None, None))
            continue
        back = max(math.floor(n * stride) - first for n, first, _ in heard)
        ahead = max(last - math.floor(n * stride) for n, _, last in heard)
        shown = stride_number(stride)
        rows.append((samples, max(0, back), max(0, ahead), shown, _padding(heard, stride)))
    samples, back, ahead, shown, padding = (squeezed(row) for row in zip(*rows, strict=True))
    return samples, back, ahead, shown, padding


def _keeps_step(heard: list[tuple[int, int, int]], stride: Fraction) -> bool:
    """Whether outputs one period apart begin to hear as far apart as the stride says."""
    first = {n: begin for n, begin, _ in heard}
    for period in range(stride.denominator, len(first) // 2 + 1, stride.denominator):
        pairs = [(n, n + period) for n in first if n + period in first]
        if all(first[b] - first[a] == stride * period for a, b in pairs):
            return True
    return False


def _padding(heard: list[tuple[int, int, int]], stride: Fraction) -> int | None:
    """How far before input 0 the field of output 0 begins, from an output of the same phase."""
    for n, first, _ in heard:
        if (n * stride).denominator == 1:
            return int(n * stride) - first
    return None


def refusal(module: nn.Module, shapes: list[tuple[int, ...]], error: Exception) -> ValueError:
    """What to raise where a module does not run on the shapes that the user gave."""
    shown = shapes[0] if len(shapes) == 1 else shapes
    return ValueError(f"{type(module).__name__} does not accept input_shape={shown}: {error}")
