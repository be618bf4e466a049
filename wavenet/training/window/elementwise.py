"""Elementwise operations on a tile, between the products.

There are two implementations: torch's operations, which run everywhere and read and write a tile
once each, and code compiled for the CPU (``elementwise_numba``), which makes one pass over it. Both
compute in float32 and round the operands of products; they agree up to rounding.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from wavenet.simd import has_compiler


class TensorView(NamedTuple):
    """View of some columns of some channels of a tensor, ``[rows, channels, n]``.

    It is sliced where it is used: by torch, or, at a fraction of the cost, as an address.

    Attributes:
        tensor: ``[rows, C, T]``, or ``[C, T]`` for all rows; with stride 1 along the columns.
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
        """The sliced tensor."""
        columns = slice(self.begin, self.begin + self.n)
        return self.tensor[..., self.channel : self.channel + self.channels, columns]


class Elementwise(Protocol):
    """Elementwise operations on views of tiles; G gate channels, the tanh's half of them first.

    *Narrow* views have the dtype of the operands of products; totals have that of the sums.
    """

    def gate(self, z: TensorView, gates: TensorView, gated: TensorView) -> None:
        """Compute tanh and sigmoid, and their product.

        Args:
            z: narrow ``[rows, G, n]``: 2 a above b; may be overwritten.
            gates: narrow ``[rows, G, n]``: becomes tanh(a) above sigmoid(b); may be z itself.
            gated: narrow ``[rows, G / 2, n]``: becomes tanh(a) sigmoid(b).
        """

    def gate_backward(
        self, gates: TensorView, grad: TensorView, grad_z: TensorView, gated: TensorView
    ) -> None:
        """Compute the gradients of a and b from that of the product; and the product again.

        Args:
            gates: narrow ``[rows, G, n]``, as written by ``gate``.
            grad: narrow ``[rows, G / 2, n]``, of tanh(a) sigmoid(b).
            grad_z: narrow ``[rows, G, n]``: becomes the gradient of a above that of b.
            gated: narrow ``[rows, G / 2, n]``: becomes tanh(a) sigmoid(b).
        """

    def add(self, total: TensorView, product: TensorView, copy: TensorView | None = None) -> None:
        """Add a narrow product to the total, summed over rows if the total has none.

        The copy, a narrow view, becomes the new total.
        """

    def copy(self, target: TensorView, source: TensorView) -> None:
        """Copy source to target, broadcast to all rows if the source has none; any dtypes."""


class TorchElementwise:
    """Torch's operations, in preallocated buffers.

    Args:
        like: any tensor in the dtype of the sums, on their device.
        shape: ``(rows, G, samples)`` of the largest tile.
    """

    def __init__(self, like: Tensor, shape: tuple[int, int, int]) -> None:
        self._wide, self._product = like.new_empty(shape), like.new_empty(shape)
        self._minus_one = like.new_tensor(-1.0)

    def gate(self, z: TensorView, gates: TensorView, gated: TensorView) -> None:
        """Compute the gate with tanh(a) = 2 sigmoid(2 a) - 1: torch's tanh is 5 times slower."""
        wide = self._widened(z.view)
        wide.sigmoid_()
        first, second = wide.chunk(2, dim=1)
        torch.add(self._minus_one, first, alpha=2, out=first)
        if gates is not z or wide.dtype != z.tensor.dtype:
            gates.view.copy_(wide)
        self._multiply(first, second, gated.view)

    def gate_backward(
        self, gates: TensorView, grad: TensorView, grad_z: TensorView, gated: TensorView
    ) -> None:
        """Implement ``Elementwise.gate_backward``."""
        first, second = self._widened(gates.view).chunk(2, dim=1)
        self._multiply(first, second, gated.view)
        narrow, grad_product = grad_z.view, grad.view
        wide = narrow if narrow.dtype == first.dtype else self._product[..., : grad_z.n]
        upper, lower = wide.chunk(2, dim=1)
        torch.mul(grad_product, second, out=upper)
        torch.mul(grad_product, first, out=lower)
        torch.ops.aten.tanh_backward.grad_input(upper, first, grad_input=upper)
        torch.ops.aten.sigmoid_backward.grad_input(lower, second, grad_input=lower)
        if narrow.dtype != first.dtype:
            narrow.copy_(wide)

    def add(self, total: TensorView, product: TensorView, copy: TensorView | None = None) -> None:
        """Implement ``Elementwise.add``."""
        onto, found = total.view, product.view
        onto.add_(found.sum(0) if found.ndim > onto.ndim else found)
        if copy is not None:
            copy.view.copy_(onto)

    def copy(self, target: TensorView, source: TensorView) -> None:
        """Implement ``Elementwise.copy``."""
        target.view.copy_(source.view)

    def _widened(self, tensor: Tensor) -> Tensor:
        """Return the tensor in the dtype of the sums: itself, or a copy."""
        if tensor.dtype == self._wide.dtype:
            return tensor
        return self._wide[..., : tensor.shape[-1]].copy_(tensor)

    def _multiply(self, first: Tensor, second: Tensor, out: Tensor) -> None:
        if out.dtype == first.dtype:
            torch.mul(first, second, out=out)
        else:
            product = self._product[:, : first.shape[1], : first.shape[2]]
            out.copy_(torch.mul(first, second, out=product))


def can_compile(sums: Tensor, narrow: torch.dtype) -> bool:
    """Return true if the compiled code supports these dtypes and runs here."""
    return (
        sums.device.type == "cpu"
        and sums.dtype == torch.float32
        and narrow in (torch.float32, torch.bfloat16)
        and has_compiler()
    )
