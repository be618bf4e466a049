"""Functions over the whole time axis that may be causal: recurrent layers, sums, attention.

A layer that runs forwards depends on everything before and on nothing after: its reach keeps its
last input, and has no first. One position that comes from the whole, such as the last state, keeps
that as well.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from wavenet.receptive_fields.counterparts_over_time import (
    RecurrentSettings,
    allowed_by_heads,
    allowed_pairs,
)
from wavenet.receptive_fields.module_tracker import tensors_in
from wavenet.receptive_fields.rules.call import (
    Call,
    Maskable,
    TensorField,
    moved,
    placed,
    rule,
    union,
    whole,
)
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window

_RECURRENT = "is recurrent, so it depends on the whole past"


def accumulated(call: Call, field: TensorField, axis: int, why: str) -> TensorField:
    """Make every entry along an axis depend on those before it."""
    reaches: list[Reach | str] = []
    for reach in field.reaches:
        if isinstance(reach, Reach) and reach.axis == axis:
            if reach.folded is not None:
                raise CannotTrace(f"{call.place}: {call.name} along a flattened axis")
            inner: Reach = reach
            reach = placed(call, partial(inner.accumulated, call.unbounded(why)))
        reaches.append(reach)
    return TensorField(tuple(reaches), field.mixed)


@rule("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
def _running(call: Call) -> TensorField | list[TensorField]:
    axis = call.get(1, "dim") % call.x.ndim
    if axis in call.field.mixed:
        raise CannotTrace(f"{call.place}: {call.name} over signals with different fields")
    field = accumulated(
        call, call.sole_field(), axis, f"{call.name} runs over all that came before"
    )
    n = len(tensors_in(call.result))
    return [field] * n if n > 1 else field


@rule("gru", "lstm", "rnn_tanh", "rnn_relu")
def _recurrent(call: Call) -> TensorField | list[TensorField]:
    settings = RecurrentSettings(call.args)
    if settings.packed:
        raise CannotTrace(f"{call.place}: takes a packed sequence")
    field, ndim = call.field, call.x.ndim
    for state in tensors_in(settings.states):
        if call.field_of(state) is not None:
            raise CannotTrace(f"{call.place}: begins with a state that depends on the input")
    features = whole(call, field, {ndim - 1}, "sums over all of the time as if it were channels")
    if settings.bidirectional:
        why = "is recurrent in both directions, so it depends on the whole input"
        output = whole(call, features, {settings.axis}, why)
        return [output] * len(tensors_in(call.result))
    output = accumulated(call, features, settings.axis, _RECURRENT)
    final = TensorField(
        tuple(
            reach.picked(call.x.shape[settings.axis] - 1)
            if isinstance(reach, Reach) and reach.axis == settings.axis
            else reach
            for reach in output.reaches
        ),
        output.mixed - {settings.axis},
    )
    if ndim == 3:  # states are [layers, B, H]
        final = moved(final, lambda axis: 1)
    return [output] + [final] * (len(tensors_in(call.result)) - 1)


@rule("gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell")
def _cell(call: Call) -> TensorField | list[TensorField]:
    """One step: the union of its input and of the state that it was given."""
    parts = []
    for tensor in (call.x, *tensors_in(call.args[1])):
        field = call.field_of(tensor)
        if field is not None:
            why = "sums over all of the time as if it were channels"
            parts.append(whole(call, field, {tensor.ndim - 1}, why))
    field = union(call, parts)
    n = len(tensors_in(call.result))
    return [field] * n if n > 1 else field


@rule("scaled_dot_product_attention")
def _scaled_attention(call: Call) -> TensorField:
    query, key, value = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    mask = call.get(3, "attn_mask")
    causal = bool(call.get(5, "is_causal", False))
    if causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    return _attended(call, (query, key, value), mask, allowed_pairs)


@rule("multi_head_attention_forward")
def _multi_head_attention(call: Call) -> TensorField | list[TensorField]:
    tensors = tuple(call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    n_heads = call.get(4, "num_heads")
    batched = call.x.ndim == 3  # [L, N, E]
    field = _attended(
        call,
        tensors,
        call.get(16, "attn_mask"),
        lambda mask: allowed_by_heads(mask, n_heads),
        axis=0,
    )
    if len(tensors_in(call.result)) == 1:
        return field
    weights = moved(field, lambda axis: {0: 1, 1: 0}[axis]) if batched else field
    if tensors_in(call.result)[1].ndim == 4:  # [N, heads, L, S]
        weights = moved(weights, lambda axis: axis + (axis > 0))
    return [
        field,
        TensorField(weights.reaches, weights.mixed | {tensors_in(call.result)[1].ndim - 1}),
    ]


def _attended(
    call: Call, tensors: tuple[Tensor, ...], mask: Any, allowed_by: Any, axis: int | None = None
) -> TensorField:
    """The field of an output: that of its query, and of the keys and values that the mask allows.

    Args:
        call: of the attention.
        tensors: query, key and value, features last.
        mask: as torch takes it, or None.
        allowed_by: from the mask to what is allowed, ``[..., L, S]``.
        axis: along which they are attended to; default, the last but one.
    """
    if isinstance(mask, Tensor):
        if call.field_of(mask) is not None:
            raise CannotTrace(f"{call.place}: attends by a mask that depends on the input")
        if mask.is_meta:
            raise CannotTrace(f"{call.place}: attends by a mask that was made of shapes alone")
    allowed = None if mask is None else allowed_by(mask)
    parts = []
    for i, tensor in enumerate(tensors):
        field = call.field_of(tensor)
        if field is None:
            continue
        field = whole(call, field, {tensor.ndim - 1}, "is fully connected along time")
        along = tensor.ndim - 2 if axis is None else axis
        if i > 0:
            field = _masked(call, field, along, allowed)
        parts.append(field)
    return union(call, parts)


def _masked(call: Call, field: TensorField, axis: int, allowed: Tensor | None) -> TensorField:
    """The field of each query through a mask: the whole past, a window, or everything."""
    if not any(isinstance(reach, Reach) and reach.axis == axis for reach in field.reaches):
        return field
    if allowed is None:
        return whole(call, field, {axis}, "attends to every time")
    window = _window(allowed)
    if window is None:
        raise CannotTrace(f"{call.place}: attends by a mask of another form than a band")
    before, after = window
    n_queries, n_keys = allowed.shape[-2:]
    if after >= n_keys - 1:
        if before >= n_queries - 1:
            return whole(call, field, {axis}, "attends to every time")
        raise CannotTrace(f"{call.place}: attends to every later time")
    reaches: list[Reach | str] = []
    for reach in field.reaches:
        if isinstance(reach, Reach) and reach.axis == axis:
            inner: Reach = reach
            if before >= n_queries - 1:
                inner = inner.accumulated(call.unbounded("attends to all that came before"))
                inner = inner.through(Window(1, after))
            else:
                inner = inner.through(Window.convolution(before + after + 1, 1, before, 1))
            reach = inner
        reaches.append(reach)
    return TensorField(tuple(reaches), field.mixed)


def _window(allowed: Tensor) -> tuple[int, int] | None:
    """``(before, after)`` of a mask under which query n attends to keys n - before .. n + after."""
    rows = allowed.reshape(-1, *allowed.shape[-2:]).any(0)
    n = torch.arange(rows.shape[0])[:, None] - torch.arange(rows.shape[1])[None]
    if not bool(rows.any()):
        return None
    before, after = int(n[rows].max()), int(-n[rows].min())
    if not bool((rows == ((n <= before) & (n >= -after))).all()):
        return None
    return before, after


@rule("_native_multi_head_attention", "_transformer_encoder_layer_fwd")
def _fused_attention(call: Call) -> TensorField | list[TensorField]:
    field = unbounded(call, "attends to every time")
    n = len(tensors_in(call.result))
    return [field] * n if n > 1 else field


def unbounded(call: Call, why: str) -> TensorField:
    """Make every dimension that any argument depends on unbounded, unless a mask limits it."""
    n = 0
    for tensor in tensors_in((call.args, call.kwargs)):
        field = call.field_of(tensor)
        n = n if field is None else len(field.reaches)
    return TensorField((Maskable(call.unbounded(why)),) * n)
