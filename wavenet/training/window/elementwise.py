"""What happens to each number of a tile by itself, between the products.

Two implementations do the same: torch's operations, which run everywhere and read and write a tile
again for each of them, and code compiled for the CPU (``elementwise_numba``), which passes over it
once. Both compute in float32 and round what products take, to rounding alike.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from wavenet.simd import has_compiler


class Piece(NamedTuple):
    """Some columns of some channels of a tensor, ``[rows, channels, n]``.

    It is cut where it is used: by torch, or, at a fraction of the cost, as an address.

    Attributes:
        tensor: ``[rows, C, T]``, or ``[C, T]`` for all rows; the columns of a channel lie side by
            side in memory.
        channel: the first one.
        channels: how many.
        begin: the first column.
        n: how many columns.
    """

    tensor: Tensor
    channel: int
    channels: int
    begin: int
    n: int

    @property
    def view(self) -> Tensor:
        """The piece as a tensor."""
        columns = slice(self.begin, self.begin + self.n)
        return self.tensor[..., self.channel : self.channel + self.channels, columns]


class Elementwise(Protocol):
    """On pieces of tiles; G gate channels, the tanh's half of them first.

    *Narrow* pieces have the type that products take, and what is added up has that of the sums.
    """

    def gate(self, z: Piece, gates: Piece, gated: Piece) -> None:
        """tanh and sigmoid, and their product.

        Args:
            z: narrow ``[rows, G, n]``: 2 a above b; may be written over.
            gates: narrow ``[rows, G, n]``: becomes tanh(a) above sigmoid(b); may be z itself.
            gated: narrow ``[rows, G / 2, n]``: becomes tanh(a) sigmoid(b).
        """

    def slopes(self, gates: Piece, slope: Piece, z_slope: Piece, gated: Piece) -> None:
        """From the gradient of the product to those of a and b; and the product once more.

        Args:
            gates: narrow ``[rows, G, n]``, as ``gate`` leaves them.
            slope: narrow ``[rows, G / 2, n]``, of tanh(a) sigmoid(b).
            z_slope: narrow ``[rows, G, n]``: becomes that of a above that of b.
            gated: narrow ``[rows, G / 2, n]``: becomes tanh(a) sigmoid(b).
        """

    def add(self, total: Piece, product: Piece, copy: Piece | None = None) -> None:
        """total += product, a narrow one, of all rows where the total has none of its own.

        Where a copy is wanted, a narrow piece, it becomes the new total.
        """

    def copy(self, target: Piece, source: Piece) -> None:
        """target = source, for all rows where the source has none; both of either type."""


class TorchElementwise:
    """By torch's operations, in buffers that are made once.

    Args:
        like: any tensor in the type of the sums, on their device.
        shape: ``(rows, G, samples)`` of the largest tile.
    """

    def __init__(self, like: Tensor, shape: tuple[int, int, int]) -> None:
        self._wide, self._product = like.new_empty(shape), like.new_empty(shape)
        self._minus_one = like.new_tensor(-1.0)

    def gate(self, z: Piece, gates: Piece, gated: Piece) -> None:
        """See ``Elementwise``.

        tanh(a) = 2 sigmoid(2 a) - 1, as torch's own tanh takes five times as long.
        """
        wide = self._widened(z.view)
        wide.sigmoid_()
        first, second = wide.chunk(2, dim=1)
        torch.add(self._minus_one, first, alpha=2, out=first)
        if gates is not z or wide.dtype != z.tensor.dtype:
            gates.view.copy_(wide)
        self._multiply(first, second, gated.view)

    def slopes(self, gates: Piece, slope: Piece, z_slope: Piece, gated: Piece) -> None:
        """See ``Elementwise``."""
        first, second = self._widened(gates.view).chunk(2, dim=1)
        self._multiply(first, second, gated.view)
        narrow, given = z_slope.view, slope.view
        wide = narrow if narrow.dtype == first.dtype else self._product[..., : z_slope.n]
        upper, lower = wide.chunk(2, dim=1)
        torch.mul(given, second, out=upper)
        torch.mul(given, first, out=lower)
        torch.ops.aten.tanh_backward.grad_input(upper, first, grad_input=upper)
        torch.ops.aten.sigmoid_backward.grad_input(lower, second, grad_input=lower)
        if narrow.dtype != first.dtype:
            narrow.copy_(wide)

    def add(self, total: Piece, product: Piece, copy: Piece | None = None) -> None:
        """See ``Elementwise``."""
        onto, found = total.view, product.view
        onto.add_(found.sum(0) if found.ndim > onto.ndim else found)
        if copy is not None:
            copy.view.copy_(onto)

    def copy(self, target: Piece, source: Piece) -> None:
        """See ``Elementwise``."""
        target.view.copy_(source.view)

    def _widened(self, tensor: Tensor) -> Tensor:
        """The tensor in the type of the sums: itself, or a copy."""
        if tensor.dtype == self._wide.dtype:
            return tensor
        return self._wide[..., : tensor.shape[-1]].copy_(tensor)

    def _multiply(self, first: Tensor, second: Tensor, out: Tensor) -> None:
        if out.dtype == first.dtype:
            torch.mul(first, second, out=out)
        else:
            room = self._product[:, : first.shape[1], : first.shape[2]]
            out.copy_(torch.mul(first, second, out=room))


def can_compile(sums: Tensor, narrow: torch.dtype) -> bool:
    """Whether the compiled code takes these types and runs here."""
    return (
        sums.device.type == "cpu"
        and sums.dtype == torch.float32
        and narrow in (torch.float32, torch.bfloat16)
        and has_compiler()
    )
