"""Buffers that products read and write, and the products.

For one row, matrices: the library's product of two of them is faster than that of two stacks.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Room:
    """A buffer ``[rows, channels, n]``, and views of it that are made once.

    Args:
        tensor: the buffer.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._views: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def view(self, channels: int, n: int, first: int = 0) -> Tensor:
        """``[rows, channels, n]`` from channel ``first`` on; of one row, ``[channels, n]``."""
        return self._made(channels, n, first)[0]

    def transposed(self, channels: int, n: int) -> Tensor:
        """The same with the last two dimensions exchanged."""
        return self._made(channels, n, 0)[1]

    def _made(self, channels: int, n: int, first: int) -> tuple[Tensor, Tensor]:
        key = (channels, n, first)
        if key not in self._views:
            view = self.tensor[:, first : first + channels, :n]
            view = view[0] if len(view) == 1 else view
            self._views[key] = view, view.transpose(-1, -2)
        return self._views[key]


def multiply(out: Tensor, weight: Tensor, x: Tensor) -> None:
    """out = weight x; of rows where x has them. The weight may be one for each row, or for all."""
    if x.ndim == 2:
        torch.mm(weight, x, out=out)
    else:
        torch.bmm(weight.expand(len(x), -1, -1), x, out=out)


def outer(slope: Tensor, transposed: Tensor) -> Tensor:
    """A weight's gradient ``[.., M, K]``, for ``[.., M, t]`` and ``[.., t, K]``."""
    return torch.mm(slope, transposed) if slope.ndim == 2 else torch.bmm(slope, transposed)
