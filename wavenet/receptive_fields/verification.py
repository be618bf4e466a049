"""The proof: does the gradient say what the formula says, and if not, from which layer on?"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor, nn

from wavenet.nn.causal import Causal
from wavenet.receptive_fields.causal import causal_leaves, of_block
from wavenet.receptive_fields.field import (
    LayerField,
)
from wavenet.receptive_fields.gradient import LARGEST_INPUT, MOST_OUTPUTS, MOST_PHASES, supports
from wavenet.receptive_fields.linear import CannotMeasure, Endless, Run, run_linear
from wavenet.receptive_fields.measurement import refusal, stretched
from wavenet.receptive_fields.module_tracker import spatial_axes
from wavenet.receptive_fields.rules import Heard
from wavenet.receptive_fields.tracing import Traced, trace
from wavenet.receptive_fields.windows import CannotTrace, Reach


class VerificationError(ValueError):
    """Formula and measurement differ; the message names the first layer where they do."""


def verify_trace(module: nn.Module, shapes: list[tuple[int, ...]], traced: Traced) -> None:
    """Measure where the formula has given numbers, and raise at the first layer that differs."""
    traced, run = _long_enough(module, shapes, traced)
    for name, heard, _ in traced.outputs:
        if name in run.outputs and _differs(run, run.outputs[name], heard):
            for layer in traced.layers:
                if layer.name in run.layers:
                    difference = _differs(run, run.layers[layer.name], layer.heard)
                    if difference:
                        raise VerificationError(f"layer {layer.name} ({layer.kind}): {difference}")
            difference = _differs(run, run.outputs[name], heard)
            raise VerificationError(f"output {name}, behind every layer: {difference}")


def _long_enough(
    module: nn.Module, shapes: list[tuple[int, ...]], traced: Traced
) -> tuple[Traced, Run]:
    """A trace and a run at one size, at which no field of an output in the middle is cut off."""
    shape = traced.shape
    for _ in range(4):
        axes = spatial_axes(shape)
        grown = list(shape)
        for d, axis in enumerate(axes):
            needed = max((_room(heard.reaches[d]) for _, heard, _ in traced.outputs), default=1)
            grown[axis] = shape[axis] * max(1, math.ceil(needed / shape[axis]))
        if math.prod(grown[axis] for axis in axes) > 4 * LARGEST_INPUT:
            break
        others = stretched(shapes, grown)
        if tuple(grown) == shape:
            try:
                return traced, run_linear(module, shape, stretched(shapes, shape))
            except (CannotMeasure, Endless) as error:
                if isinstance(error, Endless) and traced.unbounded:
                    raise _Agreed from error
                raise VerificationError(
                    f"the formula has an answer, the run has none: {error}"
                ) from error
        shape = tuple(grown)
        try:
            traced = trace(module, shape, others)
        except CannotTrace as error:
            raise ValueError(
                f"cannot verify: the field is longer than the input, and the module takes no "
                f"input of shape {shape}: {error}"
            ) from error
    raise ValueError(
        f"cannot verify: an input that holds the whole field would be larger than {shape}"
    )


class _Agreed(Exception):
    """Formula and measurement both say that there is no end."""


def _room(reach: Reach | str) -> int:
    """Input samples that hold the field of outputs in the middle, from end to end."""
    if isinstance(reach, str):
        return 1
    samples, back, ahead, padding = reach.summary()
    side = max(back or 0, ahead or 0, abs(padding or 0), samples)
    return 2 * side + math.ceil(abs(reach.stride)) * (2 * reach.period + 2) + 2


def _differs(run: Run, tensor: Tensor, heard: Heard) -> str | None:
    """What differs between the measured support and the formula's, in words."""
    shape = tuple(run.x.shape)
    axes = [reach.axis if isinstance(reach, Reach) else None for reach in heard.reaches]
    if any(
        isinstance(r, Reach) and (r.folded is not None or r.axis is None) for r in heard.reaches
    ):
        return None
    counts = [reach.period if isinstance(reach, Reach) else 1 for reach in heard.reaches]
    measured = supports(run, tensor, axes, counts, spread=MOST_PHASES)
    for d, (reach, support) in enumerate(zip(heard.reaches, measured, strict=True)):
        if isinstance(reach, str):
            continue
        lo, hi = reach.at(np.array(support.outputs, np.int64))
        end = shape[spatial_axes(shape)[d]] - 1
        rows = zip(support.outputs, lo, hi, support.first, support.last, strict=True)
        for n, a, b, first, last in rows:
            said = None if a > b else (int(a), int(b))
            seen = None if first is None else (first, last)
            inside = said is None or (said[0] >= 0 and said[1] <= end)
            if inside and said != seen:
                return (
                    f"by formula output {n} hears inputs {_span(said)}, by gradient {_span(seen)}"
                )
    return None


def _span(pair: Any) -> str:
    return "none" if pair is None else f"{pair[0]} to {pair[1]}"


def verify_block(block: Causal, shapes: list[tuple[int, ...]]) -> None:
    """Measure every leaf of a causal block against the field that it declares."""
    paths = {id(part): path for path, part in block.named_modules()}
    field = of_block(block, None)
    shape = shapes[0]
    needed = 2 * field.samples + 4 * block.step * math.ceil(Fraction(1) / block.rate) + 16
    multiple = shape[-1] * math.ceil(needed / shape[-1])
    shape = (*shape[:-1], -(-multiple // block.step) * block.step)
    try:
        run = run_linear(block, shape, stretched(shapes, shape))
    except CannotMeasure as error:
        raise refusal(block, shapes, error) from error
    for (name, leaf), layer in zip(causal_leaves(block), field.layers, strict=True):
        output = run.modules.get(paths[id(leaf)])
        if output is None and paths[id(leaf)] == "":
            output = next(iter(run.outputs.values()))
        tensor = output[0] if isinstance(output, tuple) else output
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            difference = _differs_from_law(run, tensor, layer)
            if difference:
                raise VerificationError(f"layer {name} ({layer.kind}): {difference}")


def _differs_from_law(run: Run, tensor: Tensor, layer: LayerField) -> str | None:
    stride = Fraction(layer.stride)
    (support,) = supports(
        run, tensor, [tensor.ndim - 1], [min(MOST_OUTPUTS, 2 * stride.denominator)]
    )
    heard = [
        (math.floor(n * stride), first, last)
        for n, first, last in zip(support.outputs, support.first, support.last, strict=True)
        if first is not None and last is not None
    ]
    back = max((own - first for own, first, _ in heard), default=0)
    ahead = max((last - own for own, _, last in heard), default=0)
    if back + 1 == layer.samples and ahead <= 0:
        return None
    return (
        f"it declares a field of {layer.samples} samples, by gradient an output hears "
        f"{back} samples back and {max(0, ahead)} ahead"
    )
