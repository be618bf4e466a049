"""``receptive_field``: choice of the method, and comparison of two results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from torch import nn

from wavenet.nn.causal import Causal, check_positive
from wavenet.nn.hooks import uncompiled, unwrapped
from wavenet.receptive_fields.arithmetic import effective_kernel
from wavenet.receptive_fields.causal import StackSettings, of_block, of_dilations, of_settings
from wavenet.receptive_fields.field import (
    LayerField,
    OutputField,
    ReceptiveField,
    is_finite,
    milliseconds,
    squeezed,
    stride_number,
)
from wavenet.receptive_fields.inputs import scaled, stretched
from wavenet.receptive_fields.lengths import UNBOUNDED, with_other_length
from wavenet.receptive_fields.linear import CannotMeasure, run_linear
from wavenet.receptive_fields.measurement import make_field, measured_field, refusal
from wavenet.receptive_fields.module_tracker import spatial_axes
from wavenet.receptive_fields.rules import Maskable, TensorField
from wavenet.receptive_fields.tracing import Traced, trace
from wavenet.receptive_fields.verification import verify_block, verify_trace
from wavenet.receptive_fields.windows import CannotTrace, Reach
from wavenet.values.text import short

METHODS = ("auto", "trace", "gradient")
"""Values of ``method``: by formula, by gradient, or the first of them that works."""

_ROUND_SIZES = (32, 96, 640, 11520)
"""Sizes that halve often: otherwise branches would end at different strides."""

_DEFAULT_LENGTH = 64
"""Samples of the input of a causal block that is to be measured, before it is made longer."""


def receptive_field(
    thing: nn.Module | StackSettings | Sequence[int],
    sample_rate: int | None = None,
    *,
    kernel_size: int = 2,
    input_shape: Sequence[Any] | None = None,
    method: str = "auto",
    verify: bool = False,
) -> ReceptiveField:
    """The receptive field of any module, of a configuration or of a list of dilations.

    Args:
        thing: any ``nn.Module`` (a ``Causal`` block or a ``WaveNet`` among them), a
            ``WaveNetConfig``, or the dilations of a stack.
        sample_rate: in Hz, for seconds and milliseconds; default, that of a model or configuration.
        kernel_size: taps of every layer, where only dilations are given.
        input_shape: what a module takes: ``(B, C, T)``, ``(B, C, H, W)`` or ``(B, T)``; several
            inputs as a list of such shapes, of which the first is followed. Its length matters
            only to layers whose geometry depends on it. Causal blocks need none.
        method: ``auto`` uses the declaration of a causal block, else the formula, else, where that
            cannot follow the code, the gradient, with a remark in ``notes``. ``trace`` and
            ``gradient`` use that one method.
        verify: also measure by gradient, and compare.

    Raises:
        TypeError: for anything else.
        ValueError: if a dilation, kernel size or sample rate is not a positive integer, if there
            are no layers, if the sample rate contradicts the model's, if the module does not accept
            the input, or if the method does not apply.
        VerificationError: if ``verify`` finds a difference; it names the first layer.

    >>> receptive_field([1, 2, 4], kernel_size=3, sample_rate=16000).samples
    15
    >>> conv = nn.Conv2d(1, 1, 3, dilation=6, padding=6)
    >>> receptive_field(conv, input_shape=(1, 1, 19, 19)).samples
    (13, 13)
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    if isinstance(thing, nn.Module):
        thing = unwrapped(thing)  # torch.compile and such change no dependency
    rate = _sample_rate(thing, sample_rate)
    if isinstance(thing, nn.Module):
        shapes = _shapes(thing, input_shape)
        if isinstance(thing, Causal) and method == "auto" and not thing.unbounded:
            field = of_block(thing, rate)
            if verify:
                verify_block(thing, shapes)
            return field
        with uncompiled():
            return _of_module(thing, rate, shapes, method, verify)
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return of_dilations(thing, kernel_size, rate)
    if all(hasattr(thing, name) for name in ("dilations", "kernel_size", "sample_rate")):
        return of_settings(thing, rate)
    raise TypeError(
        "receptive_field takes a module, such as a causal block of wavenet.nn or a WaveNet, a "
        f"WaveNetConfig or a list of dilations, not {type(thing).__name__}"
    )


def _sample_rate(thing: Any, given: int | None) -> int | None:
    own = getattr(thing, "sample_rate", None)
    own = own if isinstance(own, int) else None
    if given is None:
        return own
    check_positive("sample_rate", given)
    if own is not None and own != given:
        raise ValueError(f"sample_rate={given} contradicts the model's {own} Hz; leave it out")
    return given


def _shapes(module: nn.Module, given: Sequence[Any] | None) -> list[tuple[int, ...]]:
    """Return the shapes of all inputs; a causal block's follows from its declaration."""
    if given is None:
        if isinstance(module, Causal):
            n = -(-_DEFAULT_LENGTH // module.step) * module.step
            return [(1, module.in_channels, n)]
        raise ValueError(
            f"input_shape is missing; say what {type(module).__name__} takes, such as "
            "input_shape=(1, 1, 16000) for [B, C, T] or (1, 3, 224, 224) for [B, C, H, W]"
        )
    if not isinstance(given, Sequence):
        raise TypeError(f"input_shape={short(given)} is no shape; give one such as (1, 1, 16000)")
    several = bool(given) and all(isinstance(shape, Sequence) for shape in given)
    shapes = [tuple(shape) for shape in (given if several else [given])]
    for shape in shapes:
        if not shape:
            raise ValueError("input_shape is empty; give sizes such as (1, 1, 16000)")
        for size in shape:
            check_positive("input_shape", size)
    return shapes


def _of_module(
    module: nn.Module,
    rate: int | None,
    shapes: list[tuple[int, ...]],
    method: str,
    verify: bool,
) -> ReceptiveField:
    if method == "gradient":
        return measured_field(module, rate, shapes, ())
    try:
        traced, notes = _traced(module, shapes)
    except CannotTrace as error:
        if method == "trace":
            _require_accepted(module, shapes)
            raise ValueError(f"cannot trace {type(module).__name__}: {error}") from error
        note = f"could not be traced ({error}), so it was measured by gradient"
        return measured_field(module, rate, shapes, (note,))
    field = _with_length(module, shapes, traced, _traced_field(traced, rate, notes))
    if verify:
        verify_trace(module, shapes, traced)
    return _with_masks(module, shapes, traced, field)


def _with_length(
    module: nn.Module, shapes: list[tuple[int, ...]], traced: Traced, field: ReceptiveField
) -> ReceptiveField:
    """Return the field, or an unbounded one if it follows the length of the input.

    Code may compute positions and sizes from the length. So a second length is traced: a field that
    is longer there at the same stride is unbounded.
    """
    for factor in (Fraction(1, 2), Fraction(2)):
        shape = scaled(traced.shape, factor)
        try:
            other = trace(module, shape, stretched(shapes, shape))
            compared = _traced_field(other, None, ())
        except (CannotTrace, ValueError):
            continue
        return with_other_length(field, traced.shape, compared, shape)
    return field


def _with_masks(
    module: nn.Module, shapes: list[tuple[int, ...]], traced: Traced, field: ReceptiveField
) -> ReceptiveField:
    """Return the field, with those sides measured that a mask in the code may bound."""
    reaches = [reach for _, output_field, _ in traced.outputs for reach in output_field.reaches]
    if len(spatial_axes(traced.shape)) > 1 or not any(isinstance(r, Maskable) for r in reaches):
        return field
    try:
        measured = measured_field(module, field.sample_rate, shapes, ())
    except ValueError as error:
        note = f"it could not be measured whether it is causal: {error}"
        return dataclasses.replace(field, notes=(*field.notes, note))
    named = {output.name: output for output in measured.outputs}
    outputs = []
    for output, reach in zip(field.outputs, reaches, strict=True):
        known = named.get(output.name)
        outputs.append(output if known is None or not isinstance(reach, Maskable) else known)
    if outputs == list(field.outputs):
        return field
    note = "the effect of its masks was measured by gradient"
    notes = (*field.notes, note, *measured.notes)
    finite = all(is_finite(output.samples) for output in outputs)
    unbounded = () if finite else field.unbounded
    return make_field(outputs, field.sample_rate, field.layers, field.method, notes, unbounded)


def _traced(module: nn.Module, shapes: list[tuple[int, ...]]) -> tuple[Traced, tuple[str, ...]]:
    """Return the trace at the given size, or at the next one that divides evenly."""
    try:
        return trace(module, shapes[0], shapes[1:]), ()
    except CannotTrace as error:
        if "different strides" not in str(error):
            raise
        first = error
    for multiple in _ROUND_SIZES:
        shape = list(shapes[0])
        for axis in spatial_axes(shapes[0]):
            shape[axis] = -(-shape[axis] // multiple) * multiple
        try:
            traced = trace(module, shape, shapes[1:])
        except CannotTrace:
            continue
        size = "x".join(str(shape[axis]) for axis in spatial_axes(shapes[0]))
        return traced, (f"for inputs of even sizes, such as {size}: the given one is rounded",)
    raise first


def _require_accepted(module: nn.Module, shapes: list[tuple[int, ...]]) -> None:
    """Raise ValueError if the module itself refuses the input."""
    try:
        run_linear(module, shapes[0], shapes[1:])
    except CannotMeasure as error:
        raise refusal(module, shapes, error) from error


def _traced_field(traced: Traced, rate: int | None, notes: tuple[str, ...]) -> ReceptiveField:
    outputs = [
        OutputField(name, *_numbers(tensor_field)) for name, tensor_field, _ in traced.outputs
    ]
    for name, tensor_field, _ in traced.outputs:
        if any(isinstance(reach, Reach) and reach.stride < 0 for reach in tensor_field.reaches):
            notes = (*notes, f"{name} runs backwards: it was flipped an odd number of times")
    layers = []
    for layer in traced.layers:
        samples, back, ahead, stride, _ = _numbers(layer.field)
        wide = layer.kernel_size
        layers.append(
            LayerField(
                layer.name,
                wide,
                layer.dilation,
                None if wide is None else effective_kernel(wide, layer.dilation or 1),
                samples,
                milliseconds(samples, rate),
                back,
                ahead,
                stride,
                layer.kind,
            )
        )
    return make_field(outputs, rate, tuple(layers), "trace", notes, traced.unbounded)


def _numbers(field: TensorField) -> tuple[Any, Any, Any, Any, Any]:
    """(samples, look-back, look-ahead, stride, padding)."""
    columns: list[tuple[Any, Any, Any, Any, Any]] = []
    for reach in field.reaches:
        if isinstance(reach, str):
            columns.append(UNBOUNDED)
            continue
        try:
            samples, back, ahead, padding = reach.summary()
        except CannotTrace as error:
            raise ValueError(str(error)) from error
        columns.append((samples, back, ahead, stride_number(reach.stride), padding))
    samples, back, ahead, stride, padding = (squeezed(row) for row in zip(*columns, strict=True))
    return samples, back, ahead, stride, padding
