"""Buffers of modules that follow from the modules' arguments, and are stored in no checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class ComputedBuffers(nn.Module):
    """Base of modules with buffers that are computed from their arguments.

    A subclass defines ``compute_buffers`` and calls ``register_computed`` when its arguments are
    set. On the meta device, ``with torch.device("meta"): ...``, buffers have no memory. They are
    computed when they leave it, by ``to_empty(device=...)``, which leaves parameters as they come;
    on the CPU, by ``load_state_dict(state, assign=True)``; and always by ``reset_parameters``.
    """

    def compute_buffers(self) -> dict[str, Tensor]:
        """Return the buffers by name; the default device is the CPU meanwhile."""
        raise NotImplementedError(f"{type(self).__name__} must define `compute_buffers`")

    def register_computed(self, *, persistent: bool = False) -> None:
        """Register the buffers, on the default device.

        Args:
            persistent: whether state dicts contain them.
        """
        device = torch.empty(0).device
        for name, value in self._computed().items():
            self.register_buffer(name, value.to(device), persistent=persistent)

    def reset_parameters(self) -> None:
        """Compute the buffers, and draw what parameters the module itself has."""
        self._fill(self._computed())

    def _computed(self) -> dict[str, Tensor]:
        with torch.device("cpu"):
            return self.compute_buffers()

    def _without_memory(self) -> list[str]:
        buffers = self._buffers.items()
        return [name for name, value in buffers if value is not None and value.is_meta]

    def _fill(self, names: Iterable[str]) -> None:
        """Write the values of buffers of these names that are computed, and have memory."""
        wanted = set(names).difference(self._without_memory())
        if wanted:
            with torch.no_grad():
                for name, value in self._computed().items():
                    if name in wanted:
                        self.get_buffer(name).copy_(value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """As of every module; buffers that leave the meta device are computed."""
        missing = self._without_memory()
        applied = super()._apply(fn, recurse)
        self._fill(missing)
        return applied

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *others: Any
    ) -> None:
        """As of every module; where tensors are assigned, those still missing are computed."""
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)
        missing = self._without_memory()
        if missing and local_metadata.get("assign_to_params_buffers", False):
            for name, value in self._computed().items():
                if name in missing:
                    setattr(self, name, value.to(self.get_buffer(name).dtype))
