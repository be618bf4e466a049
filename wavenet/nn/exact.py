"""Exact type checks for fast paths: the parts of a network against the classes they support.

A fast path reads the weights of a block and computes its equation by itself. For a subclass, whose
``stream`` may be another equation, or a module with forward hooks, which may change its output,
that would be silently wrong. So a fast path checks first, and leaves other modules to ``stream``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wavenet.nn.hooks import may_differ

HOOKED = "has forward hooks"


def class_of(module: nn.Module | None) -> type[object]:
    """Return the class of a module; for a parametrized one its original class.

    ``torch.nn.utils.parametrize`` gives a module a class of its own, whose ``weight`` is the
    parametrized one.
    """
    kind = type(module)
    parametrized = module is not None and parametrize.is_parametrized(module)
    return kind.__bases__[0] if parametrized else kind


def difference(module: nn.Module | None, expected: type[nn.Module], name: str) -> str | None:
    """Describe how a module differs from one of exactly a class; None if it does not.

    Args:
        module: the module, None for one that is missing.
        expected: its class.
        name: of the module within the network, for the message.
    """
    if module is None or class_of(module) is not expected:
        return f"{name} is a {type(module).__name__}, not a {expected.__name__}"
    if may_differ(module):
        return f"{name} {HOOKED}"
    return None


@torch.no_grad()
def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network with the value of each parametrized tensor in its own place."""
    tensors = dict(model.state_dict())
    for path, part in model.named_modules():
        if not isinstance(part, parametrize.ParametrizationList):
            continue
        owner, _, name = f".{path}".rpartition(".parametrizations.")
        tensors = {key: value for key, value in tensors.items() if not key.startswith(f"{path}.")}
        tensors[f"{owner}.{name}".removeprefix(".")] = part()
    return tensors
