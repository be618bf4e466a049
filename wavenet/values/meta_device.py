"""Modules on torch's meta device: their tensors have shapes and types, but no values."""

from __future__ import annotations

import itertools

from torch import nn


def require_values(module: nn.Module, name: str) -> None:
    """Raise ValueError for a module that is on the meta device, if only in part.

    Args:
        module: any module.
        name: of the argument, for the message.
    """
    for key, tensor in itertools.chain(module.named_parameters(), module.named_buffers()):
        if tensor.is_meta:
            raise ValueError(
                f"{name} is on the meta device, where {key} has no values; call "
                f"{name}.to_empty(device='cpu') and load its weights"
            )
