"""What runs over all of the time, and may still be causal: recurrent layers, sums, attention.

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
    Heard,
    Maskable,
    moved,
    placed,
    rule,
    union,
    whole,
)
from wavenet.receptive_fields.windows import CannotTrace, Reach, Window

_RECURRENT = "is recurrent, so it hears all that came before"


def accumulated(call: Call, heard: Heard, axis: int, why: str) -> Heard:
    """Every entry along an axis depends on those before it."""
    reaches: list[Reach | str] = []
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis == axis:
            if reach.folded is not None:
                raise CannotTrace(f"{call.place}: {call.name} along a flattened axis")
            inner: Reach = reach
            reach = placed(call, partial(_accumulated, inner, call, why))
        reaches.append(reach)
    return Heard(tuple(reaches), heard.mixed)


def _accumulated(reach: Reach, call: Call, why: str) -> Reach:
    return reach.accumulated(call.endless(why))


@rule("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
def _running(call: Call) -> Heard | list[Heard]:
    axis = call.get(1, "dim") % call.x.ndim
    if axis in call.heard.mixed:
        raise CannotTrace(f"{call.place}: {call.name} over signals that hear different things")
    heard = accumulated(call, call.alone(), axis, f"{call.name} runs over all that came before")
    n = len(tensors_in(call.result))
    return [heard] * n if n > 1 else heard


@rule("gru", "lstm", "rnn_tanh", "rnn_relu")
def _recurrent(call: Call) -> Heard | list[Heard]:
    settings = RecurrentSettings(call.args)
    if settings.packed:
        raise CannotTrace(f"{call.place}: takes a packed sequence")
    heard, ndim = call.heard, call.x.ndim
    for state in tensors_in(settings.states):
        if call.heard_of(state) is not None:
            raise CannotTrace(f"{call.place}: begins with a state that depends on the input")
    features = whole(call, heard, {ndim - 1}, "sums over all of the time as if it were channels")
    if settings.bidirectional:
        why = "is recurrent in both directions, so it hears all of the input"
        output = whole(call, features, {settings.axis}, why)
        return [output] * len(tensors_in(call.result))
    output = accumulated(call, features, settings.axis, _RECURRENT)
    final = Heard(
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
def _cell(call: Call) -> Heard | list[Heard]:
    """One step: the union of its input and of the state that it was given."""
    parts = []
    for tensor in (call.x, *tensors_in(call.args[1])):
        heard = call.heard_of(tensor)
        if heard is not None:
            why = "sums over all of the time as if it were channels"
            parts.append(whole(call, heard, {tensor.ndim - 1}, why))
    heard = union(call, parts)
    n = len(tensors_in(call.result))
    return [heard] * n if n > 1 else heard


@rule("scaled_dot_product_attention")
def _scaled_attention(call: Call) -> Heard:
    query, key, value = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    mask = call.get(3, "attn_mask")
    causal = bool(call.get(5, "is_causal", False))
    if causal:
        mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    return _attended(call, (query, key, value), mask, allowed_pairs)


@rule("multi_head_attention_forward")
def _multi_head_attention(call: Call) -> Heard | list[Heard]:
    tensors = tuple(call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    n_heads = call.get(4, "num_heads")
    batched = call.x.ndim == 3  # [L, N, E]
    heard = _attended(
        call,
        tensors,
        call.get(16, "attn_mask"),
        lambda mask: allowed_by_heads(mask, n_heads),
        axis=0,
    )
    if len(tensors_in(call.result)) == 1:
        return heard
    weights = moved(heard, lambda axis: {0: 1, 1: 0}[axis]) if batched else heard
    if tensors_in(call.result)[1].ndim == 4:  # [N, heads, L, S]
        weights = moved(weights, lambda axis: axis + (axis > 0))
    return [heard, Heard(weights.reaches, weights.mixed | {tensors_in(call.result)[1].ndim - 1})]


def _attended(
    call: Call, tensors: tuple[Tensor, ...], mask: Any, allowed_by: Any, axis: int | None = None
) -> Heard:
    """What an output hears: its query, and the keys and values that the mask allows.

    Args:
        call: of the attention.
        tensors: query, key and value, features last.
        mask: as torch takes it, or None.
        allowed_by: from the mask to what is allowed, ``[..., L, S]``.
        axis: along which they are attended to; default, the last but one.
    """
    if isinstance(mask, Tensor):
        if call.heard_of(mask) is not None:
            raise CannotTrace(f"{call.place}: attends by a mask that depends on the input")
        if mask.is_meta:
            raise CannotTrace(f"{call.place}: attends by a mask that was made of shapes alone")
    allowed = None if mask is None else allowed_by(mask)
    parts = []
    for i, tensor in enumerate(tensors):
        heard = call.heard_of(tensor)
        if heard is None:
            continue
        heard = whole(call, heard, {tensor.ndim - 1}, "is fully connected along time")
        along = tensor.ndim - 2 if axis is None else axis
        if i > 0:
            heard = _masked(call, heard, along, allowed)
        parts.append(heard)
    return union(call, parts)


def _masked(call: Call, heard: Heard, axis: int, allowed: Tensor | None) -> Heard:
    """What each query hears through a mask: all of the past, a window, or everything."""
    if not any(isinstance(reach, Reach) and reach.axis == axis for reach in heard.reaches):
        return heard
    if allowed is None:
        return whole(call, heard, {axis}, "attends to every time")
    window = _window(allowed)
    if window is None:
        raise CannotTrace(f"{call.place}: attends by a mask of another form than a band")
    before, after = window
    n_queries, n_keys = allowed.shape[-2:]
    if after >= n_keys - 1:
        if before >= n_queries - 1:
            return whole(call, heard, {axis}, "attends to every time")
        raise CannotTrace(f"{call.place}: attends to every later time")
    reaches: list[Reach | str] = []
    for reach in heard.reaches:
        if isinstance(reach, Reach) and reach.axis == axis:
            inner: Reach = reach
            if before >= n_queries - 1:
                inner = inner.accumulated(call.endless("attends to all that came before"))
                inner = inner.through(Window(1, after))
            else:
                inner = inner.through(Window.convolution(before + after + 1, 1, before, 1))
            reach = inner
        reaches.append(reach)
    return Heard(tuple(reaches), heard.mixed)


def _window(allowed: Tensor) -> tuple[int, int] | None:
    """``(before, after)`` of a mask under which query n sees keys n - before .. n + after."""
    rows = allowed.reshape(-1, *allowed.shape[-2:]).any(0)
    n = torch.arange(rows.shape[0])[:, None] - torch.arange(rows.shape[1])[None]
    if not bool(rows.any()):
        return None
    before, after = int(n[rows].max()), int(-n[rows].min())
    if not bool((rows == ((n <= before) & (n >= -after))).all()):
        return None
    return before, after


@rule("_native_multi_head_attention", "_transformer_encoder_layer_fwd")
def _fused_attention(call: Call) -> Heard | list[Heard]:
    heard = endless(call, "attends to every time")
    n = len(tensors_in(call.result))
    return [heard] * n if n > 1 else heard


def endless(call: Call, why: str) -> Heard:
    """Every dimension that any argument hears has no end, unless a mask says otherwise."""
    n = 0
    for tensor in tensors_in((call.args, call.kwargs)):
        heard = call.heard_of(tensor)
        n = n if heard is None else len(heard.reaches)
    return Heard((Maskable(call.endless(why)),) * n)
