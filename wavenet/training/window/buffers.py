"""Buffers that products read and write, and the products.

One row is stored as matrices: their product is faster than a batched product of one row.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Workspace:
    """A buffer ``[rows, channels, n]`` with cached views.

    Args:
        tensor: the buffer.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._views: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def view(self, channels: int, n: int, first: int = 0) -> Tensor:
        """Return ``[rows, channels, n]`` from channel ``first`` on, or ``[channels, n]``."""
        return self._made(channels, n, first)[0]

    def transposed(self, channels: int, n: int) -> Tensor:
        """Return the same view with the last two dimensions exchanged."""
        return self._made(channels, n, 0)[1]

    def _made(self, channels: int, n: int, first: int) -> tuple[Tensor, Tensor]:
        key = (channels, n, first)
        if key not in self._views:
            view = self.tensor[:, first : first + channels, :n]
            view = view[0] if len(view) == 1 else view
            self._views[key] = view, view.transpose(-1, -2)
        return self._views[key]


def multiply(out: Tensor, weight: Tensor, x: Tensor) -> None:
    """Compute out = weight x, batched if x has rows; the weight may be shared by all rows."""
    if x.ndim == 2:
        torch.mm(weight, x, out=out)
    else:
        torch.bmm(weight.expand(len(x), -1, -1), x, out=out)


def outer(grad: Tensor, transposed: Tensor) -> Tensor:
    """Return a weight's gradient ``[.., M, K]``, from ``[.., M, t]`` and ``[.., t, K]``."""
    return torch.mm(grad, transposed) if grad.ndim == 2 else torch.bmm(grad, transposed)
