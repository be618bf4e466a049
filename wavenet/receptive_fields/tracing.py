"""The receptive field of any module by formula: one run on shapes alone, with interval arithmetic.

The module runs once on a *meta* tensor, which has a shape and no values, so this takes as long as
its Python code. Each torch function that it calls passes through ``Tracer``, which keeps the
receptive field of every tensor (``rules``, ``windows``). Whatever does not depend on the input
(weights, states of zeros, conditioning) is a constant and runs as usual. Code that branches on the
signal's values cannot run on shapes, and code that torch functions do not show (C++ extensions,
TorchScript) cannot be followed: both are detected, and raise ``CannotTrace``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.receptive_fields.module_tracker import (
    CONSTANTS,
    TO_VALUES,
    ModuleTracker,
    constant_like,
    convert,
    describe_error,
    function_name,
    is_in_place,
    named_outputs,
    precision,
    private_copy,
    spatial_axes,
    tensors_in,
    words,
)
from wavenet.receptive_fields.rules import POINTWISE, RULES, Call, TensorField, alike, pointwise
from wavenet.receptive_fields.windows import CannotTrace, Reach

_POSITIONS = words("getitem select unbind")

_MOST_POSITIONS = 32
"""Single positions of one signal that are followed."""

_SAME_SHAPE = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm"})
"""Torch runs these on shapes a thousand times slower than a product."""

_MOVES = frozenset({"cpu", "cuda", "to", "type", "numpy"})


@dataclass(frozen=True)
class TracedLayer:
    """One layer that looks along time, and the receptive field of its output."""

    name: str
    kind: str
    kernel_size: Any
    dilation: Any
    field: TensorField


@dataclass(frozen=True)
class Traced:
    """Results of a run on shapes.

    Attributes:
        shape: of the input that it ran with.
        outputs: name, receptive field and shape of each tensor returned.
        layers: in the order in which they ran.
        unbounded: reasons why the field is unbounded, with their places.
    """

    shape: tuple[int, ...]
    outputs: tuple[tuple[str, TensorField, tuple[int, ...]], ...]
    layers: tuple[TracedLayer, ...]
    unbounded: tuple[str, ...]


def trace(module: nn.Module, shape: Sequence[int], others: Sequence[Sequence[int]] = ()) -> Traced:
    """Follow one input of this shape through the module.

    Args:
        module: any module; it is copied, and analysed in evaluation mode.
        shape: of the input, ``[B, C, T]``, ``[B, C, H, W]`` or ``[B, T]``.
        others: shapes of further inputs, which count as constants.

    Raises:
        CannotTrace: if the formulas do not cover an operation of the module; the message names it.
    """
    copied = private_copy(module)
    dtype = precision(copied)
    tracer = Tracer(copied)
    x = torch.empty(tuple(shape), device="meta", dtype=dtype).requires_grad_()
    further = [torch.ones(tuple(other), dtype=dtype) for other in others]
    start = x * 1  # a leaf that requires a gradient may not be changed in place
    axes = spatial_axes(tuple(shape))
    tracer.set_field(start, TensorField(tuple(Reach.identity(axis) for axis in axes)))
    try:
        with tracer:
            output = copied(start, *further)
    except CannotTrace:
        raise
    except Exception as error:
        raise CannotTrace(f"it does not run on shapes alone: {describe_error(error)}") from error
    found = []
    for name, tensor in named_outputs(output):
        field = tracer.field_of(tensor)
        if field is not None:
            found.append((name, field, tuple(tensor.shape)))
    if not found:
        raise CannotTrace("no output depends on the input by any function that was seen")
    unbounded = dict.fromkeys(why for _, field, _ in found for why in _unbounded_reasons(field))
    return Traced(tuple(shape), tuple(found), tuple(tracer.layers), tuple(unbounded))


class Tracer(ModuleTracker):
    """Keeps the receptive field of every tensor while a module runs on shapes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.layers: list[TracedLayer] = []
        self._fields: dict[int, TensorField] = {}
        self._alive: list[Tensor] = []  # so that no id and no storage is used twice
        self._sharing: dict[int, set[int]] = {}
        self._positions: dict[int, int] = {}

    def set_field(self, tensor: Tensor, field: TensorField) -> None:
        """Note the receptive field of a tensor."""
        self._fields[id(tensor)] = field
        self._alive.append(tensor)
        self._sharing.setdefault(_storage(tensor), set()).add(id(tensor))

    def field_of(self, tensor: Tensor) -> TensorField | None:
        """The receptive field of a tensor; None for a constant.

        Raises:
            CannotTrace: if it depends on the input by ways that no function call showed.
        """
        field = self._fields.get(id(tensor))
        if field is None and tensor.requires_grad and tensor.is_meta:
            raise CannotTrace(
                f"{self.place('forward')}: computes with code that torch functions do not show "
                "(an extension, TorchScript or an autograd function)"
            )
        return field

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function, and note the receptive fields of its results."""
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        if not any(tensor.is_meta for tensor in given):
            return function(*args, **kwargs)
        name = function_name(function)
        if name == "setitem" and any(self.field_of(tensor) is not None for tensor in given):
            raise CannotTrace(f"{self.place(name)}: writes the signal into a tensor")
        constant = constant_like(name, args, lambda tensor: self.field_of(tensor) is not None)
        if constant is not None:
            return constant
        result = self._run(function, name, args, kwargs)
        results = tensors_in(result)
        if not results or name in CONSTANTS:
            return result
        if all(self.field_of(tensor) is None for tensor in given):
            return result
        self._follow(function, name, args, kwargs, result, results)
        return result

    def _run(
        self,
        function: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a function on shapes: constants become shapes as well; the signal stays on meta."""
        if name in TO_VALUES:
            place = self.place(name)
            raise CannotTrace(f"it does not run on shapes alone: {place} asks for values")
        if name in _MOVES and isinstance(args[0], Tensor) and args[0].is_meta:
            if name == "numpy":
                raise CannotTrace(f"{self.place(name)}: converts the signal to numpy")
            kept = [arg for arg in (*args[1:], *kwargs.values()) if isinstance(arg, torch.dtype)]
            return args[0].to(kept[0]) if kept else args[0] * 1
        if name in _SAME_SHAPE and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0] * 1
        as_shapes = convert((args, kwargs), lambda t: t if t.is_meta else t.to("meta"))
        return function(*as_shapes[0], **as_shapes[1])

    def _follow(
        self,
        function: Callable[..., Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,
        results: list[Tensor],
    ) -> None:
        place = self.place(name)
        rule = pointwise if name in POINTWISE else RULES.get(name)
        if rule is None:
            raise CannotTrace(f"{place}: no formula for the function {name}")
        call = Call(name, args, kwargs, result, place, self.field_of)
        field = rule(call)
        each = field if isinstance(field, list) else [field] * len(results)
        self._count_positions(call, each)
        if is_in_place(function) or kwargs.get("out") is not None:
            self._check_in_place(place, args[0], each[0])
        for tensor, part in zip(results, each, strict=True):
            self.set_field(tensor, part)
        self._note_layer(call, each[0])

    def _count_positions(self, call: Call, found: list[TensorField]) -> None:
        """Raise CannotTrace where code takes a signal apart, position by position.

        A loop over time does: to follow all of it takes long, and its joined results have no rule.
        """
        if not isinstance(call.get(0, "input"), Tensor):
            return
        before = self._fields.get(id(call.x))
        if before is None or not any(_runs(reach) for reach in before.reaches):
            return
        single = sum(not any(_runs(reach) for reach in field.reaches) for field in found)
        if single and call.name in _POSITIONS:
            n = self._positions.get(id(call.x), 0) + single
            self._positions[id(call.x)] = n
            if n > _MOST_POSITIONS:
                raise CannotTrace(f"{call.place}: takes single positions, as a loop over time does")

    def _note_layer(self, call: Call, field: TensorField) -> None:
        if call.layer:
            name, kind = self.layer(call.name)
            kernel_size, dilation = call.layer[0]
            if set(_strides(field)) != set(_strides(call.field)) or _is_wide(kernel_size):
                self.layers.append(TracedLayer(name, kind, kernel_size, dilation, field))
            return
        if any(why.startswith(call.place) for why in _unbounded_reasons(field)):
            name, _, kind = call.place.partition(" (")
            if not any(layer.name == name and layer.field == field for layer in self.layers):
                self.layers.append(TracedLayer(name, kind.rstrip(")"), None, None, field))

    def _check_in_place(self, place: str, target: Any, field: TensorField) -> None:
        """A change in place reaches every view of the memory, and these are not followed."""
        if not isinstance(target, Tensor):
            raise CannotTrace(f"{place}: writes into another tensor")
        if not target.is_meta:
            raise CannotTrace(f"{place}: writes the signal into a tensor")
        before = self._fields.get(id(target))
        sharing = self._sharing.get(_storage(target), set()) - {id(target)}
        if sharing and (before is None or not alike(before, field)):
            raise CannotTrace(f"{place}: changes memory in place that other tensors share")


def _unbounded_reasons(field: TensorField) -> list[str]:
    """Reasons why dimensions have no first or no last input."""
    found: list[str] = []
    for reach in field.reaches:
        if isinstance(reach, str):
            found.append(reach)
        else:
            found += [
                why for why in (reach.unbounded_before, reach.unbounded_after) if why is not None
            ]
    return found


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _runs(reach: Reach | str) -> bool:
    return isinstance(reach, Reach) and reach.axis is not None


def _strides(field: TensorField) -> list[Any]:
    return [reach if isinstance(reach, str) else reach.stride for reach in field.reaches]


def _is_wide(kernel_size: Any) -> bool:
    sizes = kernel_size if isinstance(kernel_size, tuple) else (kernel_size,)
    return any(size is not None and size > 1 for size in sizes)
