"""Verification of formulas by gradients: a difference is reported with its first layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor, nn

from wavenet.nn.causal import Causal
from wavenet.receptive_fields.causal import causal_leaves, of_block
from wavenet.receptive_fields.field import LayerField
from wavenet.receptive_fields.gradient import (
    MOST_OUTPUTS,
    MOST_PHASES,
    probed_positions,
    supports,
)
from wavenet.receptive_fields.inputs import Plans, scaled, smaller, stretched
from wavenet.receptive_fields.linear import CannotMeasure, Run, run_linear
from wavenet.receptive_fields.measurement import refusal
from wavenet.receptive_fields.memory import TooLarge
from wavenet.receptive_fields.module_tracker import spatial_axes
from wavenet.receptive_fields.rules import TensorField, alike
from wavenet.receptive_fields.tracing import Traced, trace
from wavenet.receptive_fields.windows import CannotTrace, Reach

_SMALL_RUN = 50_000_000
"""Bytes of a run that no smaller input is looked for."""

_LAYERS_AT_ONCE = 8
"""Layers whose outputs are kept in one run."""

_MOST_GROWTH = 6
"""Times that an input is made longer to hold the field."""

_MOST_SAMPLES_AFTER = 4096
"""Samples after an output of a causal block that are checked: it may depend on none of them."""

_ALL_LEAVES = 200_000_000
"""Leaves squared times samples of the input: up to here every leaf is measured, in seconds."""


class VerificationError(ValueError):
    """Formula and measurement differ; the message names the first layer where they do.

    >>> class Wrong(wavenet.CausalConv1d):
    ...     past = 1  # of three taps it is 2
    >>> receptive_field(Wrong(1, 1, 3), verify=True)
    Traceback (most recent call last):
        ...
    wavenet.receptive_fields.verification.VerificationError: layer Wrong (Wrong): ...
    """


def verify_trace(module: nn.Module, shapes: list[tuple[int, ...]], traced: Traced) -> None:
    """Measure where the formula has given numbers, and raise at the first layer that differs.

    Raises:
        VerificationError: if formula and measurement differ.
        ValueError: if no input holds the field, or measuring it needs too much memory.
    """
    plans = Plans(module, shapes)
    traced = _holding(plans, traced)
    run = _run(plans, traced.shape)
    for name, field, _ in traced.outputs:
        if name in run.outputs:
            difference = _differs(run, run.outputs[name], field)
            if difference:
                del run
                _raise_at_first_layer(plans, traced)
                raise VerificationError(f"output {name}, after all layers: {difference}")


def _run(plans: Plans, shape: tuple[int, ...], keep: Sequence[str] = ()) -> Run:
    try:
        return plans.run(shape, keep)
    except TooLarge as error:
        raise plans.refusal(shape, error) from error
    except CannotMeasure as error:
        raise VerificationError(
            f"the formula gives a field, but the module does not run: {error}"
        ) from error


def _raise_at_first_layer(plans: Plans, traced: Traced) -> None:
    """Raise VerificationError at the first layer that differs; few outputs are kept at a time."""
    for i in range(0, len(traced.layers), _LAYERS_AT_ONCE):
        layers = traced.layers[i : i + _LAYERS_AT_ONCE]
        run = _run(plans, traced.shape, [layer.name for layer in layers])
        for layer in layers:
            if layer.name in run.kept:
                difference = _differs(run, run.kept[layer.name], layer.field)
                if difference:
                    raise VerificationError(f"layer {layer.name} ({layer.kind}): {difference}")


def _holding(plans: Plans, traced: Traced) -> Traced:
    """Return a trace at a size at which no measured output's field is cut off.

    That is a part of the given input where it is enough and saves much memory, and a longer one
    where the field is longer.

    Raises:
        ValueError: if the module takes no such input.
    """
    shape = traced.shape
    if _holds(traced):
        plan = plans.at(shape)
        if plan is not None and plan.n_bytes < _SMALL_RUN:
            return traced
        parts = [_traced_at(plans, part) for part in smaller(shape)]
        return next((t for t in reversed(parts) if t and _same(t, traced)), traced)
    for _ in range(_MOST_GROWTH):
        axes = spatial_axes(shape)
        needed = [
            max((_needed_samples(field.reaches[d]) for _, field, _ in traced.outputs), default=1)
            for d in range(len(axes))
        ]
        grown = list(shape)
        for axis, n in zip(axes, needed, strict=True):
            grown[axis] = shape[axis] * max(1, math.ceil(n / shape[axis]))
        shape = tuple(grown) if tuple(grown) != shape else scaled(shape, Fraction(2))
        try:
            traced = trace(plans.module, shape, stretched(plans.shapes, shape))
        except CannotTrace as error:
            raise ValueError(
                f"cannot verify: the field is longer than the input, and the module takes no "
                f"input of shape {shape}: {error}"
            ) from error
        if _holds(traced):
            return traced
    raise ValueError(
        f"cannot verify: an input that holds the whole field would be larger than {shape}"
    )


def _traced_at(plans: Plans, shape: tuple[int, ...]) -> Traced | None:
    try:
        return trace(plans.module, shape, stretched(plans.shapes, shape))
    except CannotTrace:
        return None


def _same(part: Traced, whole: Traced) -> bool:
    """Return true if a shorter input holds the measured fields, and they are equal."""
    pairs = zip(part.outputs, whole.outputs, strict=True)
    return _holds(part) and all(alike(a[1], b[1]) for a, b in pairs)


def _holds(traced: Traced) -> bool:
    """Return true if the fields of the measured outputs are within the input."""
    inputs = spatial_axes(traced.shape)
    for _, field, size in traced.outputs:
        for d, reach in enumerate(field.reaches):
            if not isinstance(reach, Reach) or reach.axis is None or reach.folded is not None:
                continue
            n = probed_positions(size[reach.axis], reach.period, MOST_PHASES)
            lo, hi = reach.at(np.array(n, np.int64))
            some = lo <= hi
            begins = reach.unbounded_before is not None or not bool((lo[some] < 0).any())
            end = traced.shape[inputs[d]]
            if not begins or (bool((hi[some] >= end).any()) and reach.unbounded_after is None):
                return False
    return True


def _needed_samples(reach: Reach | str) -> int:
    """Input samples that hold the field of outputs in the middle, from end to end."""
    if isinstance(reach, str):
        return 1
    _, back, ahead, _ = reach.summary()
    side = max(n for n in (back or 0, ahead or 0, 1) if n != math.inf)
    return int(2 * side + math.ceil(abs(reach.stride)) * (reach.period + 2) + 2)


def _differs(run: Run, tensor: Tensor, field: TensorField) -> str | None:
    """Describe the difference between the measured support and the formula's; None if equal."""
    shape = tuple(run.x.shape)
    if any(isinstance(reach, Reach) and reach.folded is not None for reach in field.reaches):
        return None
    axes = [reach.axis if isinstance(reach, Reach) else None for reach in field.reaches]
    counts = [reach.period if isinstance(reach, Reach) else 1 for reach in field.reaches]
    measured = supports(run, tensor, axes, counts, spread=MOST_PHASES)
    for d, (reach, support) in enumerate(zip(field.reaches, measured, strict=True)):
        if isinstance(reach, str):
            continue
        end = shape[spatial_axes(shape)[d]] - 1
        lo, hi = reach.at(np.array(support.outputs, np.int64))
        some = lo <= hi
        if reach.unbounded_before is not None:
            lo = np.where(some, 0, lo)
        if reach.unbounded_after is not None:
            hi = np.where(some, end, hi)
        rows = zip(support.outputs, lo, hi, support.first, support.last, strict=True)
        for n, a, b, first, last in rows:
            traced = None if a > b else (int(a), int(b))
            found = None if first is None else (first, last)
            inside = traced is None or (traced[0] >= 0 and traced[1] <= end)
            if inside and traced != found:
                return (
                    f"output {n} depends on inputs {_span(traced)} by formula, {_span(found)} by "
                    "gradient"
                )
    return None


def _span(pair: Any) -> str:
    return "none" if pair is None else f"{pair[0]} to {pair[1]}"


def verify_block(block: Causal, shapes: list[tuple[int, ...]]) -> None:
    """Measure a causal block against the field that it declares.

    Its output is measured, and that of every leaf where they are few. Of a long chain, whose leaves
    would take hours, single ones are measured only where the output differs, to name the first.

    Raises:
        VerificationError: if they differ; the message names the first leaf that does.
        ValueError: if the block does not accept the input, or measuring it needs too much memory.
    """
    paths = {id(part): path for path, part in block.named_modules()}
    layers = of_block(block, None).layers
    leaves = [
        (paths[id(leaf)], name, layer)
        for (name, leaf), layer in zip(causal_leaves(block), layers, strict=True)
    ]
    shape = shapes[0]
    samples = layers[-1].samples
    period = 4 * block.period * math.ceil(Fraction(1) / block.rate) + 16
    needed = samples + min(samples, _MOST_SAMPLES_AFTER) + period
    multiple = shape[-1] * math.ceil(needed / shape[-1])
    shape = (*shape[:-1], -(-multiple // block.period) * block.period)
    centre = Fraction(2 * samples + period, 2 * shape[-1])
    measuring = _Leaves(block, Plans(block, shapes), shape, centre)
    if len(leaves) ** 2 * shape[-1] <= _ALL_LEAVES:
        for i in range(0, len(leaves), _LAYERS_AT_ONCE):
            measuring.compare(leaves[i : i + _LAYERS_AT_ONCE])
        return
    try:
        measuring.compare(leaves[-1:])
    except VerificationError:
        agreeing, differing = 0, len(leaves) - 1  # leaves before the one agree, the other differs
        while agreeing < differing:
            middle = (agreeing + differing) // 2
            try:
                measuring.compare(leaves[middle : middle + 1])
                agreeing = middle + 1
            except VerificationError:
                differing = middle
        measuring.compare(leaves[differing : differing + 1])
        raise


Leaf = tuple[str, str, LayerField]
"""The path of a causal block, its name in the table, and what is declared for it."""


class _Leaves:
    """Compares leaves of a causal block with what they declare, on an input of one shape.

    Args:
        block: the whole.
        plans: of the block.
        shape: of the input.
        middle: centre of the measured outputs, as a fraction of all.
    """

    def __init__(self, block: Causal, plans: Plans, shape: tuple[int, ...], middle: Fraction):
        self.period, self.plans, self.shape, self.middle = block.period, plans, shape, middle

    def compare(self, leaves: Sequence[Leaf]) -> None:
        """Raise VerificationError at the first of these that differs."""
        plans, shape = self.plans, self.shape
        try:
            others = stretched(plans.shapes, shape)  # no plan: a chain is long, and saves little
            run = run_linear(plans.module, shape, others, keep=[path for path, _, _ in leaves])
        except TooLarge as error:
            raise plans.refusal(shape, error) from error
        except CannotMeasure as error:
            raise refusal(plans.module, plans.shapes, error) from error
        for path, name, layer in leaves:
            tensor = run.kept.get(path)
            if tensor is None and path == "":
                tensor = next(iter(run.outputs.values()))
            if tensor is not None and tensor.requires_grad:
                n_outputs = math.ceil(self.period / Fraction(layer.stride))
                difference = _differs_from_declaration(run, tensor, layer, self.middle, n_outputs)
                if difference:
                    raise VerificationError(f"layer {name} ({layer.kind}): {difference}")


def _differs_from_declaration(
    run: Run, tensor: Tensor, layer: LayerField, middle: Fraction, n_outputs: int
) -> str | None:
    """Describe the difference of a layer's field from that of the outputs of one period."""
    stride = Fraction(layer.stride)
    (support,) = supports(
        run,
        tensor,
        [tensor.ndim - 1],
        [min(MOST_OUTPUTS, n_outputs)],
        middle=middle,
    )
    ranges = [
        (math.floor(n * stride), first, last)
        for n, first, last in zip(support.outputs, support.first, support.last, strict=True)
        if first is not None and last is not None
    ]
    back = max((own - first for own, first, _ in ranges), default=0)
    ahead = max((last - own for own, _, last in ranges), default=0)
    if back + 1 == layer.samples and ahead <= 0:
        return None
    return (
        f"it declares a field of {layer.samples} samples, but by gradient an output depends on "
        f"{back} samples before it and {max(0, ahead)} after it"
    )
