"""One warning for streams whose graph of gradients grows with every call."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

CALLS_OF_A_LOOP = 4
"""Calls of ``stream`` after one another, all with gradients, that count as a loop."""
_CALLS = "_calls_with_gradients"  # attribute of a state's tensors


class StateGradientWarning(UserWarning):
    """A state that requires gradients was streamed on, with gradients enabled.

    >>> import warnings
    >>> warnings.simplefilter("error", StateGradientWarning)  # the loop fails where it is
    """


class _Warned:
    """Whether the process has been warned."""

    already = False


def through_states() -> AbstractContextManager[None]:
    """Take gradients through states without a warning: training on parts of a sequence.

    >>> block = CausalConv1d(1, 1, 3)
    >>> state = block.init_state(1)
    >>> with through_states():
    ...     for x in torch.randn(8, 1, 1, 100):
    ...         y, state = block.stream(x, state)
    """
    # torch.compile follows no generators that set attributes; compiled code does not warn.
    return nullcontext() if torch.compiler.is_compiling() else _without_warning()


@contextmanager
def _without_warning() -> Iterator[None]:
    before, _Warned.already = _Warned.already, True
    try:
        yield
    finally:
        _Warned.already = before


def calls_with_gradients(name: str, state: Any) -> int | None:
    """Count the calls that a state's graph of gradients spans; warn, once in a process, of a loop.

    A model in training may begin at a state that was computed with gradients (that of silence, with
    a trained conditioning): two calls. From the ``CALLS_OF_A_LOOP``th on it is a loop.

    Args:
        name: of the block, for the message.
        state: of the block; one that is made of others looks at its own tensors alone.

    Returns:
        The calls, or None where nothing is to be counted.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or _Warned.already:
        return None
    if not isinstance(state, tuple):
        return None
    growing = [part for part in state if isinstance(part, Tensor) and part.requires_grad]
    calls: int = max((getattr(part, _CALLS, 1) for part in growing), default=0)
    if calls + 1 >= CALLS_OF_A_LOOP:
        _Warned.already = True
        warnings.warn(
            f"{name}: stream continues from a state that requires gradients, so all chunks so far "
            "are kept in memory; stream within torch.no_grad(), or cut the graph with "
            "wavenet.nn.detach_state(state); wavenet.nn.through_states() says that it is intended",
            StateGradientWarning,
            stacklevel=4,
        )
    return calls


def count_call(state: Any, calls: int) -> None:
    """Note at the tensors of a state, which a call returned, how many calls their graph spans."""
    for part in state if isinstance(state, tuple) else ():
        if isinstance(part, Tensor) and part.requires_grad:
            setattr(part, _CALLS, calls)
