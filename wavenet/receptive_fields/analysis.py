"""``receptive_field``: which way to an answer is taken, and how two answers are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from torch import Tensor, nn

from wavenet.nn.causal import Causal, check_positive
from wavenet.receptive_fields.arithmetic import effective_kernel
from wavenet.receptive_fields.causal import StackSettings, causal_leaves, of_block, of_dilations
from wavenet.receptive_fields.field import (
    LayerField,
    OutputField,
    ReceptiveField,
    milliseconds,
    squeezed,
    stride_number,
)
from wavenet.receptive_fields.follower import spatial_axes
from wavenet.receptive_fields.gradient import (
    LARGEST_INPUT,
    MOST_OUTPUTS,
    MOST_PHASES,
    CannotMeasure,
    Endless,
    Run,
    Support,
    run_linear,
    supports,
)
from wavenet.receptive_fields.rules import Heard
from wavenet.receptive_fields.tracing import Traced, trace
from wavenet.receptive_fields.windows import CannotTrace, Reach

METHODS = ("auto", "trace", "gradient")

_ROUND_SIZES = (32, 96, 640, 11520)
"""Sizes that halve often: where the given one does not, branches would end at different strides."""

_MORE_SAMPLES = {1: 20160, 2: 960, 3: 96}
"""By how much an input of so many dimensions grows to show the stride: a multiple of most."""

_DEFAULT_LENGTH = 64
"""Samples of the input of a causal block that is to be measured, before it is made longer."""


class VerificationError(ValueError):
    """Formula and measurement differ; the message names the first layer where they do."""


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
        method: ``auto`` takes what a causal block declares, or else the formula, or else, where
            that cannot follow the code, the gradient, and says so in ``notes``. ``trace`` and
            ``gradient`` take that one way.
        verify: also measure by gradient, and compare.

    Raises:
        TypeError: for anything else.
        ValueError: if a dilation, kernel size or sample rate is not a positive integer, if there
            are no layers, if the sample rate contradicts the model's, if the module does not accept
            the input, or if the method cannot tell.
        VerificationError: if ``verify`` finds a difference; it names the first layer.

    >>> receptive_field([1, 2, 4], kernel_size=3, sample_rate=16000).samples
    15
    >>> conv = nn.Conv2d(1, 1, 3, dilation=6, padding=6)
    >>> receptive_field(conv, input_shape=(1, 1, 19, 19)).samples
    (13, 13)
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} is unknown; choose one of {', '.join(METHODS)}")
    rate = _sample_rate(thing, sample_rate)
    if isinstance(thing, nn.Module):
        shapes = _shapes(thing, input_shape)
        if isinstance(thing, Causal) and method == "auto":
            field = of_block(thing, rate)
            if verify:
                _verify_block(thing, shapes)
            return field
        return _of_module(thing, rate, shapes, method, verify)
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return of_dilations(thing, kernel_size, rate)
    if all(hasattr(thing, name) for name in ("dilations", "kernel_size", "sample_rate")):
        return of_dilations(thing.dilations, thing.kernel_size, rate)
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
    """The shapes of all inputs; a causal block's follows from what it declares."""
    if given is None:
        if isinstance(module, Causal):
            n = -(-_DEFAULT_LENGTH // module.step) * module.step
            return [(1, module.in_channels, n)]
        raise ValueError(
            f"input_shape is missing; say what {type(module).__name__} takes, such as "
            "input_shape=(1, 1, 16000) for [B, C, T] or (1, 3, 224, 224) for [B, C, H, W]"
        )
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
        return _measured_field(module, rate, shapes, ())
    try:
        traced, notes = _traced(module, shapes)
    except CannotTrace as error:
        if method == "trace":
            _require_accepted(module, shapes)
            raise ValueError(f"cannot trace {type(module).__name__}: {error}") from error
        note = f"could not be traced ({error}), so it was measured by gradient"
        return _measured_field(module, rate, shapes, (note,))
    field = _traced_field(traced, rate, notes)
    if verify:
        _verify_trace(module, shapes, traced)
    return field


def _traced(module: nn.Module, shapes: list[tuple[int, ...]]) -> tuple[Traced, tuple[str, ...]]:
    """The trace at the given size, or at the next one that divides evenly."""
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
    except Endless:
        return
    except CannotMeasure as error:
        raise _refusal(module, shapes, error) from error


def _refusal(module: nn.Module, shapes: list[tuple[int, ...]], error: Exception) -> ValueError:
    shown = shapes[0] if len(shapes) == 1 else shapes
    return ValueError(f"{type(module).__name__} does not accept input_shape={shown}: {error}")


# --- from what was traced ----------------------------------------------------------------------


def _traced_field(traced: Traced, rate: int | None, notes: tuple[str, ...]) -> ReceptiveField:
    outputs = [OutputField(name, *_numbers(heard)) for name, heard, _ in traced.outputs]
    for name, heard, _ in traced.outputs:
        if any(isinstance(reach, Reach) and reach.stride < 0 for reach in heard.reaches):
            notes = (*notes, f"{name} runs backwards: it was flipped an odd number of times")
    layers = []
    for layer in traced.layers:
        samples, back, ahead, stride, _ = _numbers(layer.heard)
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
    return _field(outputs, rate, tuple(layers), "trace", notes, traced.unbounded)


def _numbers(heard: Heard) -> tuple[Any, Any, Any, Any, Any]:
    """(samples, look-back, look-ahead, stride, padding)."""
    columns: list[tuple[Any, Any, Any, Any, Any]] = []
    for reach in heard.reaches:
        if isinstance(reach, str):
            columns.append((math.inf, math.inf, math.inf, None, None))
            continue
        try:
            samples, back, ahead, padding = reach.summary()
        except CannotTrace as error:
            raise ValueError(str(error)) from error
        columns.append((samples, back, ahead, stride_number(reach.stride), padding))
    samples, back, ahead, stride, padding = (squeezed(row) for row in zip(*columns, strict=True))
    return samples, back, ahead, stride, padding


def _field(
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


# --- from what was measured --------------------------------------------------------------------


def _measured_field(
    module: nn.Module,
    rate: int | None,
    shapes: list[tuple[int, ...]],
    notes: tuple[str, ...],
) -> ReceptiveField:
    n = len(spatial_axes(shapes[0]))
    try:
        run, found = _measure_freely(module, shapes)
    except Endless as error:
        endless = squeezed([math.inf] * n)
        nothing = squeezed([None] * n)
        output = OutputField("output", endless, endless, endless, nothing, nothing)
        return _field([output], rate, (), "gradient", notes, (str(error),))
    strides = _measured_strides(module, shapes, run)
    if any(len(s.outputs) >= MOST_OUTPUTS for columns in found.values() for s in columns):
        notes = (*notes, f"{MOST_OUTPUTS} neighbouring outputs were measured; others may hear more")
    outputs = [
        OutputField(name, *_measured_numbers(strides[name], columns))
        for name, columns in found.items()
    ]
    return _field(outputs, rate, (), "gradient", notes, ())


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
            run = run_linear(module, shape, _stretched(shapes, shape))
        except CannotMeasure as error:
            if accepted is None:
                raise _refusal(module, shapes, error) from error
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


def _stretched(shapes: list[tuple[int, ...]], shape: Sequence[int]) -> list[tuple[int, ...]]:
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
        longer = run_linear(module, more, _stretched(shapes, more))
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


# --- one against the other -----------------------------------------------------------------------


def _verify_trace(module: nn.Module, shapes: list[tuple[int, ...]], traced: Traced) -> None:
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
        others = _stretched(shapes, grown)
        if tuple(grown) == shape:
            try:
                return traced, run_linear(module, shape, _stretched(shapes, shape))
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


def _verify_block(block: Causal, shapes: list[tuple[int, ...]]) -> None:
    """Measure every leaf of a causal block against the field that it declares."""
    paths = {id(part): path for path, part in block.named_modules()}
    field = of_block(block, None)
    shape = shapes[0]
    needed = 2 * field.samples + 4 * block.step * math.ceil(Fraction(1) / block.rate) + 16
    multiple = shape[-1] * math.ceil(needed / shape[-1])
    shape = (*shape[:-1], -(-multiple // block.step) * block.step)
    try:
        run = run_linear(block, shape, _stretched(shapes, shape))
    except CannotMeasure as error:
        raise _refusal(block, shapes, error) from error
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
