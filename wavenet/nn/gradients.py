"""One warning for streams whose graph of gradients grows with every call."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor


class StateGradientWarning(UserWarning):
    """A state that requires gradients was streamed on, with gradients enabled."""


class _Warned:
    """Whether the process has been warned."""

    already = False


def through_states() -> AbstractContextManager[None]:
    """Take gradients through states without a warning: training on parts of a sequence.

    >>> with through_states():
    ...     y, state = block.stream(x, state)
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


def warn_of_growth(name: str, state: Any) -> None:
    """Warn, once in a process, if a block continues from a state that requires gradients.

    Args:
        name: of the block, for the message.
        state: of the block; one that is made of others looks at its own tensors alone.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or _Warned.already:
        return
    if not isinstance(state, tuple):
        return
    if any(isinstance(part, Tensor) and part.requires_grad for part in state):
        _Warned.already = True
        warnings.warn(
            f"{name}: stream continues from a state that requires gradients, so all chunks so far "
            "are kept in memory; stream within torch.no_grad(), or cut the graph with "
            "wavenet.nn.detach_state(state); wavenet.nn.through_states() says that it is intended",
            StateGradientWarning,
            stacklevel=4,
        )
