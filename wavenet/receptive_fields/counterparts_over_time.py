"""Linear counterparts of functions of all times: recurrent layers, attention, sums, and masks.

A recurrent layer depends on its whole past, so a running sum replaces it. Attention depends on what
its mask allows. Masked scores are minus infinity: they carry no gradient, and are zeros after the
softmax, so that an explicit ``softmax(q k + mask) v`` is measured correctly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wavenet.receptive_fields.linearized_ops import Call, counterpart, with_binary_gradient
from wavenet.receptive_fields.module_tracker import tensors_in

MASKED = -1e4
"""Scores from here down are none: their exponential is zero in every precision."""


DEPENDS_ON_INPUT = "_depends_on_input"
"""Attribute of tensors that depend on the input without a gradient, such as comparisons."""


def with_mask(signals: Tensor, constants: list[Tensor]) -> Tensor:
    """Return the signals, masked wherever one of the constants that were added is a mask."""
    for constant in constants:
        if constant.is_floating_point() and constant.ndim > 1 and _has_masked(constant):
            signals = torch.where(constant <= MASKED, -torch.inf, signals)
    return signals


def _has_masked(constant: Tensor) -> bool:
    return not constant.is_meta and bool((constant <= MASKED).any())


def unmasked(x: Tensor) -> Tensor:
    """Return x with zeros, that carry no gradient, for masked scores."""
    return torch.where(torch.isneginf(x.detach()), 0.0, x)


def of_signal(tensor: Any) -> bool:
    """Return true if a tensor depends on the input, by a gradient or in its values alone."""
    return isinstance(tensor, Tensor) and (
        tensor.requires_grad or getattr(tensor, DEPENDS_ON_INPUT, False)
    )


@counterpart("masked_fill")
def _masked_fill(call: Call) -> Tensor:
    x, mask, value = call.x, call.get(1, "mask"), call.get(2, "value")
    if of_signal(mask) or of_signal(value):
        return x.clone()
    fill = 0.0 if isinstance(value, Tensor) and value.is_meta else float(value)
    return torch.where(mask, -torch.inf if fill <= MASKED else 0.0, x)


@counterpart("where")
def _where(call: Call) -> Tensor:
    """Choose by a constant condition; ``linear_network`` sums the branches of any other."""
    condition, a, b = call.get(0, "condition"), call.get(1, "input"), call.get(2, "other")
    if condition.dtype != torch.bool:  # a.where(condition, b)
        condition, a = a, condition
    return torch.where(condition, _branch(a), _branch(b))


def _branch(value: Any) -> Any:
    """Return a signal as it is, and of a constant only its mask."""
    if of_signal(value):
        return value
    if isinstance(value, Tensor):
        return torch.where(value <= MASKED, -torch.inf, 0.0) if not value.is_meta else value * 0.0
    return -torch.inf if value <= MASKED else 0.0


@counterpart("exp", "exp2")
def _exponential(call: Call) -> Tensor:
    return unmasked(call.x)


@counterpart("softmax", "log_softmax", "softmin", "_softmax", "normalize")
def _spread(call: Call) -> Tensor:
    x: Tensor = call.x
    dim = call.get(2 if call.name == "normalize" else 1, "dim", 1)
    if x.is_meta or "soft" not in call.name or not bool(torch.isneginf(x.detach()).any()):
        return x + x.mean(dim, keepdim=True)
    finite = unmasked(x)
    mean = finite.mean(dim, keepdim=True)
    return torch.where(torch.isneginf(x.detach()), 0.0, finite + mean)


@counterpart("amax", "amin", "max", "min", "std", "var", "norm", "logsumexp", "median")
@counterpart("vector_norm", "linalg_vector_norm", "prod", "mean", "sum")
def _mean(call: Call) -> Any:
    x: Tensor = unmasked(call.x) if call.name in ("amax", "max", "logsumexp") else call.x
    at = 2 if "norm" in call.name else 1
    dim = call.get(at, "dim", call.kwargs.get("axis"))
    keepdim = call.kwargs.get("keepdim", len(call.args) > at + 1 and call.args[at + 1] is True)
    if dim is None or isinstance(dim, bool):
        return x.mean()
    mean = x.mean(dim, keepdim=keepdim)
    if call.name in ("max", "min", "median"):
        kind = getattr(torch.return_types, call.name)
        return kind((mean, torch.zeros_like(mean, dtype=torch.long)))
    return mean


@counterpart("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
def _running(call: Call) -> Any:
    total = with_binary_gradient(call.x.cumsum(call.get(1, "dim")))
    if call.name in ("cummax", "cummin"):
        kind = getattr(torch.return_types, call.name)
        return kind((total, torch.zeros_like(total, dtype=torch.long)))
    return total


@counterpart("gru_cell", "lstm_cell", "rnn_tanh_cell", "rnn_relu_cell")
def _cell(call: Call) -> Any:
    """The mean of the input and the old state, in every unit of the new state."""
    x, state = call.args[0], call.args[1]
    before = state[0] if isinstance(state, tuple | list) else state
    total = x.mean(-1, keepdim=True) + before.mean(-1, keepdim=True)
    after = with_binary_gradient(before + total)
    return (after, after.clone()) if call.name == "lstm_cell" else after


@counterpart("gru", "lstm", "rnn_tanh", "rnn_relu")
def _recurrent(call: Call) -> Any:
    """The sum of all that came before, in every unit; and of all that comes after, if both ways."""
    x, settings = call.args[0], RecurrentSettings(call.args)
    axis = settings.axis
    mean = with_binary_gradient(x.mean(-1, keepdim=True))
    for state in tensors_in(settings.states):
        if state.requires_grad:
            mean = mean + state.mean()
    n_units = tensors_in(settings.states)[0].shape[-1]
    directions = [mean.cumsum(axis)]
    if settings.bidirectional:
        directions.append(mean.flip(axis).cumsum(axis).flip(axis))
    wide = [total.expand(*total.shape[:-1], n_units) for total in directions]
    output = with_binary_gradient(torch.cat(wide, -1))
    whole = mean.mean() if settings.packed else mean.mean(axis, keepdim=True).movedim(axis, 0)
    return (output, *(torch.zeros_like(state) + whole for state in tensors_in(settings.states)))


class RecurrentSettings:
    """The arguments of a recurrent layer, whose order depends on whether its input is packed.

    Attributes:
        packed: whether the input is a packed sequence, ``[sum of lengths, features]``.
        states: before the first step: a tensor, or two.
        axis: of the input along which time runs.
        bidirectional: whether a second layer runs backwards.
    """

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        second, third = arguments[1], arguments[2]
        self.packed = isinstance(second, Tensor) and not second.is_floating_point()
        self.states = third if self.packed else second
        self.bidirectional = bool(arguments[8] if self.packed else arguments[7])
        batch_first = not self.packed and bool(arguments[8])
        self.axis = 1 if batch_first else 0


@counterpart("scaled_dot_product_attention")
def _scaled_attention(call: Call) -> Tensor:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    arguments = call.named(names)
    query, key, value = (arguments[name] for name in names[:3])
    mask = arguments.get("attn_mask")
    if arguments.get("is_causal"):
        shape = (query.shape[-2], key.shape[-2])
        mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril()
    output = _attended(query, key, value, allowed_pairs(mask))
    if isinstance(mask, Tensor) and mask.requires_grad:
        output = output + mask.mean(-1, keepdim=True)
    return output.expand(*output.shape[:-1], value.shape[-1]).clone()


@counterpart("multi_head_attention_forward")
def _multi_head_attention(call: Call) -> tuple[Tensor, Tensor | None]:
    query, key, value = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    query, key, value = (t.transpose(0, 1) if t.ndim == 3 else t for t in (query, key, value))
    n_heads = call.get(4, "num_heads")
    output = _attended(query, key, value, allowed_by_heads(call.get(16, "attn_mask"), n_heads))
    weights = None
    if call.get(15, "need_weights", True):
        weights = output.expand(*output.shape[:-1], key.shape[-2]).clone()
        if not call.get(23, "average_attn_weights", True):
            weights = weights.unsqueeze(-3).repeat_interleave(n_heads, -3)
    output = output.expand(*output.shape[:-1], call.get(3, "embed_dim_to_check")).clone()
    return (output.transpose(0, 1) if output.ndim == 3 else output), weights


def allowed_pairs(mask: Tensor | None) -> Tensor | None:
    """Return the pairs that may attend, bool ``[..., L, S]``; None if all may.

    Args:
        mask: as ``scaled_dot_product_attention`` takes it: true or a finite score where attention
            is allowed. A mask that depends on the input is taken to allow everything.
    """
    if mask is None or of_signal(mask):
        return None
    return mask if mask.dtype == torch.bool else mask > MASKED


def allowed_by_heads(mask: Tensor | None, n_heads: int) -> Tensor | None:
    """Return the same of the mask of ``MultiheadAttention``, where true forbids; any head's."""
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = ~mask
    allowed = allowed_pairs(mask)
    if allowed is None or allowed.ndim == 2:
        return allowed
    return allowed.unflatten(0, (-1, n_heads)).any(1)


def _attended(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
    """``[..., L, 1]``: each query, plus the mean of the keys and values that it attends to."""
    query, key, value = (t.mean(-1, keepdim=True) for t in (query, key, value))
    pairs = key + value
    if pairs.ndim > 2 and pairs.shape[-3] not in (1, query.shape[-3]):  # heads share keys
        pairs = pairs.repeat_interleave(query.shape[-3] // pairs.shape[-3], -3)
    if allowed is None:
        seen = pairs.mean(-2, keepdim=True)
    else:
        seen = torch.matmul(allowed.to(pairs.dtype), with_binary_gradient(pairs)) / pairs.shape[-2]
    return with_binary_gradient(query + with_binary_gradient(seen))
