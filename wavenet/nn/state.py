"""Functions of states, which are values: nested tuples of tensors, batch first.

A block's state is the tuple of its children's states, by position; a convolution's is its last
inputs. Nothing here changes a state: functions return new states, or views where stated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

State: TypeAlias = tuple[Any, ...]
"""A tuple whose entries are tensors ``[B, ...]`` or again states."""


def map_state(function: Callable[[Tensor], Tensor], state: State) -> State:
    """Apply ``function`` to every tensor; return a state of the same structure.

    >>> state = CausalConv1d(1, 4, 3).init_state(2)
    >>> map_state(torch.Tensor.double, state)[0].dtype
    torch.float64
    """
    return tuple(
        function(part) if isinstance(part, Tensor) else map_state(function, part) for part in state
    )


def flatten_state(state: State) -> Iterator[Tensor]:
    """Yield the tensors of a state, in order.

    >>> state = DilatedStack(4, 8, dilations=[1, 2, 4]).init_state(1)
    >>> [tuple(part.shape) for part in flatten_state(state)]
    [(1, 4, 1), (1, 4, 2), (1, 4, 4)]
    """
    for part in state:
        if isinstance(part, Tensor):
            yield part
        else:
            yield from flatten_state(part)


def unflatten_state(like: State, tensors: Iterator[Tensor]) -> State:
    """Return a state with the structure of ``like``, filled with the next of ``tensors``.

    >>> state = DilatedStack(4, 8, dilations=[1, 2, 4]).init_state(1)
    >>> again = unflatten_state(state, flatten_state(state))
    >>> all(a is b for a, b in zip(flatten_state(again), flatten_state(state)))
    True
    """
    return map_state(lambda _: next(tensors), like)


def select_rows(state: State, rows: Tensor | list[int]) -> State:
    """Select rows of a batch of states: ``[B, ...]`` to ``[len(rows), ...]``, in that order.

    >>> state = CausalConv1d(1, 4, 3).init_state(8)
    >>> tuple(select_rows(state, [5, 0])[0].shape)
    (2, 1, 2)
    """
    return map_state(
        lambda part: part.index_select(0, torch.as_tensor(rows, device=part.device)), state
    )


def reset_rows(state: State, rows: Tensor, fresh: State) -> State:
    """Replace the marked rows of a state by those of ``fresh``.

    >>> block = CausalConv1d(1, 1, 2)
    >>> y, state = block.stream(torch.ones(2, 1, 5), block.init_state(2))
    >>> state = reset_rows(state, torch.tensor([True, False]), block.init_state(2))
    >>> state[0].flatten().tolist()
    [0.0, 1.0]

    Args:
        state: of batch size B.
        rows: bool ``[B]``, True where a new sequence begins.
        fresh: a state of the same shapes, such as ``block.init_state(B)``.
    """
    if rows.dtype != torch.bool:
        raise TypeError(f"rows has dtype {rows.dtype}, expected torch.bool [B]")
    fresh_parts = flatten_state(fresh)

    def replace(part: Tensor) -> Tensor:
        mask = rows.to(part.device).view(-1, *[1] * (part.ndim - 1))
        return torch.where(mask, next(fresh_parts), part)

    return map_state(replace, state)


def detach_state(state: State) -> State:
    """Detach a state from the autograd graph (views), for truncated back-propagation.

    >>> block = CausalConv1d(1, 1, 2)
    >>> y, state = block.stream(torch.randn(1, 1, 5, requires_grad=True), block.init_state(1))
    >>> state[0].requires_grad, detach_state(state)[0].requires_grad
    (True, False)
    """
    return map_state(Tensor.detach, state)


def clone_state(state: State) -> State:
    """Return a copy that shares no memory with the original.

    >>> state = CausalConv1d(1, 4, 3).init_state(2)
    >>> kept = clone_state(state)
    >>> kept[0].data_ptr() == state[0].data_ptr()
    False
    """
    return map_state(Tensor.clone, state)
