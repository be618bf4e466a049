"""What happens to each number of a tile by itself, between the products.

Two implementations do the same: torch's operations, which run everywhere and read and write a tile
again for each of them, and code compiled for the CPU (``compiled_tiles``), which passes over it
once. Both compute in float32 and round what products take, to rounding alike.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from wavenet.compiled import has_compiler


class Elementwise(Protocol):
    """Tiles ``[rows, channels, t]``; G gate channels, the tanh's half of them first.

    *Narrow* tensors have the type that products take, and what is added up has that of the sums.
    """

    def gate(self, z: Tensor, gates: Tensor, gated: Tensor) -> None:
        """tanh and sigmoid, and their product.

        Args:
            z: narrow ``[rows, G, t]``: 2 a above b; may be written over.
            gates: narrow ``[rows, G, t]``: becomes tanh(a) above sigmoid(b); may be z itself.
            gated: narrow ``[rows, G / 2, t]``: becomes tanh(a) sigmoid(b).
        """

    def slopes(self, gates: Tensor, slope: Tensor, z_slope: Tensor, gated: Tensor) -> None:
        """From the gradient of the product to those of a and b; and the product once more.

        Args:
            gates: narrow ``[rows, G, t]``, as ``gate`` leaves them.
            slope: narrow ``[rows, G / 2, t]``, of tanh(a) sigmoid(b).
            z_slope: narrow ``[rows, G, t]``: becomes that of a above that of b.
            gated: narrow ``[rows, G / 2, t]``: becomes tanh(a) sigmoid(b).
        """

    def add(self, total: Tensor, product: Tensor, copy: Tensor | None = None) -> None:
        """total += product, a narrow one; a copy of the new total, narrow too, where one is wanted.

        All are ``[rows, channels, t]``.
        """


class TorchElementwise:
    """By torch's operations, in buffers that are made once.

    Args:
        like: any tensor in the type of the sums, on their device.
        shape: ``(rows, G, samples)`` of the largest tile.
    """

    def __init__(self, like: Tensor, shape: tuple[int, int, int]) -> None:
        self._wide, self._product = like.new_empty(shape), like.new_empty(shape)
        self._minus_one = like.new_tensor(-1.0)

    def gate(self, z: Tensor, gates: Tensor, gated: Tensor) -> None:
        """See ``Elementwise``.

        tanh(a) = 2 sigmoid(2 a) - 1, as torch's own tanh takes five times as long.
        """
        wide = self._widened(z, self._wide)
        wide.sigmoid_()
        first, second = wide.chunk(2, dim=1)
        torch.add(self._minus_one, first, alpha=2, out=first)
        if wide is not gates:
            gates.copy_(wide)
        self._multiply(first, second, gated)

    def slopes(self, gates: Tensor, slope: Tensor, z_slope: Tensor, gated: Tensor) -> None:
        """See ``Elementwise``."""
        first, second = self._widened(gates, self._wide).chunk(2, dim=1)
        self._multiply(first, second, gated)
        narrow = z_slope.dtype != first.dtype
        wide = self._product[..., : z_slope.shape[-1]] if narrow else z_slope
        upper, lower = wide.chunk(2, dim=1)
        torch.mul(slope, second, out=upper)
        torch.mul(slope, first, out=lower)
        torch.ops.aten.tanh_backward.grad_input(upper, first, grad_input=upper)
        torch.ops.aten.sigmoid_backward.grad_input(lower, second, grad_input=lower)
        if narrow:
            z_slope.copy_(wide)

    def add(self, total: Tensor, product: Tensor, copy: Tensor | None = None) -> None:
        """See ``Elementwise``."""
        total.add_(product)
        if copy is not None:
            copy.copy_(total)

    def _widened(self, tensor: Tensor, room: Tensor) -> Tensor:
        """The tensor in the type of the sums: itself, or a copy."""
        if tensor.dtype == room.dtype:
            return tensor
        return room[..., : tensor.shape[-1]].copy_(tensor)

    def _multiply(self, first: Tensor, second: Tensor, out: Tensor) -> None:
        if out.dtype == first.dtype:
            torch.mul(first, second, out=out)
        else:
            room = self._product[:, : first.shape[1], : first.shape[2]]
            out.copy_(torch.mul(first, second, out=room))


def can_compile(sums: Tensor, narrow: torch.dtype) -> bool:
    """Whether the compiled code takes these types and runs here."""
    types = (torch.float32, torch.bfloat16)
    return (
        sums.device.type == "cpu"
        and sums.dtype == torch.float32
        and narrow in types
        and has_compiler()
    )
