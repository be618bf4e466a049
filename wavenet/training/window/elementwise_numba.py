"""``Elementwise`` for the CPU: each pass reads a tile once and writes it once.

tanh and sigmoid of 16 samples share a division, with p = exp(2 a) - 1, s = exp(-b) and
d = 1 / ((p + 2) (1 + s)):

    tanh(a) = p / (p + 2) = p (1 + s) d          sigmoid(b) = 1 / (1 + s) = (p + 2) d

NaN stays NaN, so that diverging training is noticed.
"""

from __future__ import annotations

from typing import Any

import torch

from wavenet.simd.compiling import cached, inlined, sources_fingerprint
from wavenet.simd.functions import exp_parts
from wavenet.simd.memory import (
    read,
    read_bfloat16,
    read_some,
    read_some_bfloat16,
    write,
    write_bfloat16,
    write_some,
    write_some_bfloat16,
)
from wavenet.simd.registers import LANES, add_exponent, fill, fma, maximum, minimum
from wavenet.training.window.elementwise import TensorView

_FLAT = 18.0  # of 2 a: from here on tanh is 1 in float32
_STEEP = 60.0  # of b: sigmoid is 1e-26 there, and (p + 2) (1 + s) still a float32


@inlined
def _take(address, n, narrow):
    """Read 16 numbers, or n of them."""
    if n >= LANES:
        return read_bfloat16(address) if narrow else read(address)
    return read_some_bfloat16(address, n) if narrow else read_some(address, n)


@inlined
def _give(address, x, n, narrow):
    """Write 16 numbers, or n of them."""
    if n >= LANES:
        if narrow:
            write_bfloat16(address, x)
        else:
            write(address, x)
    elif narrow:
        write_some_bfloat16(address, x, n)
    else:
        write_some(address, x, n)


@inlined
def _gate_parts(a, b):
    """tanh(a / 2) and sigmoid(b)."""
    one, two = fill(1.0), fill(2.0)
    shifted, less_one = exp_parts(maximum(fill(-_FLAT), minimum(fill(_FLAT), a)))
    power = add_exponent(one, shifted)
    p = fma(power, less_one, power - one)
    shifted, less_one = exp_parts(fill(0.0) - maximum(fill(-_STEEP), minimum(fill(_STEEP), b)))
    s = add_exponent(one + less_one, shifted)
    d = one / ((p + two) * (one + s))
    return p * (one + s) * d, (p + two) * d


def _make_gate() -> Any:
    fingerprint = sources_fingerprint(__file__)

    def gate(z, gates, gated, half, n, narrow):
        """Implement ``Elementwise.gate``; each tensor is an ``_address``."""
        _ = fingerprint
        size = 2 if narrow else 4
        for channel in range(half):
            upper, lower = z[0] + channel * z[1], z[0] + (channel + half) * z[1]
            first, second = gates[0] + channel * gates[1], gates[0] + (channel + half) * gates[1]
            product = gated[0] + channel * gated[1]
            for i in range(0, n, LANES):
                at, left = i * size, n - i
                a, b = _take(upper + at, left, narrow), _take(lower + at, left, narrow)
                a, b = _gate_parts(a, b)
                _give(first + at, a, left, narrow)
                _give(second + at, b, left, narrow)
                _give(product + at, a * b, left, narrow)

    return cached(gate)


def _make_gate_backward() -> Any:
    fingerprint = sources_fingerprint(__file__)

    def gate_backward(gates, grad, grad_z, gated, half, n, narrow):
        """Implement ``Elementwise.gate_backward``; each tensor is an ``_address``."""
        _ = fingerprint
        size, one = 2 if narrow else 4, fill(1.0)
        for channel in range(half):
            first, second = gates[0] + channel * gates[1], gates[0] + (channel + half) * gates[1]
            upper = grad_z[0] + channel * grad_z[1]
            lower = upper + half * grad_z[1]
            product, given = gated[0] + channel * gated[1], grad[0] + channel * grad[1]
            for i in range(0, n, LANES):
                at, left = i * size, n - i
                a, b = _take(first + at, left, narrow), _take(second + at, left, narrow)
                g = _take(given + at, left, narrow)
                _give(upper + at, g * b * (one - a * a), left, narrow)
                _give(lower + at, g * a * b * (one - b), left, narrow)
                _give(product + at, a * b, left, narrow)

    return cached(gate_backward)


def _make_add() -> Any:
    fingerprint = sources_fingerprint(__file__)

    def add(total, product, copy, channels, n, narrow):
        """Implement ``Elementwise.add``; each tensor is an ``_address``, copy may be ``(0, 0)``."""
        _ = fingerprint
        size = 2 if narrow else 4
        for channel in range(channels):
            to, of = total[0] + channel * total[1], product[0] + channel * product[1]
            for i in range(0, n, LANES):
                left = n - i
                x = _take(to + 4 * i, left, False) + _take(of + size * i, left, narrow)
                _give(to + 4 * i, x, left, False)
                if copy[0] != 0:
                    _give(copy[0] + channel * copy[1] + size * i, x, left, narrow)

    return cached(add)


def _make_copy() -> Any:
    fingerprint = sources_fingerprint(__file__)

    def copy(target, source, to_narrow, from_narrow, channels, n):
        """Implement ``Elementwise.copy``; each tensor is an ``_address``."""
        _ = fingerprint
        to_size, from_size = 2 if to_narrow else 4, 2 if from_narrow else 4
        for channel in range(channels):
            to, of = target[0] + channel * target[1], source[0] + channel * source[1]
            for i in range(0, n, LANES):
                x = _take(of + from_size * i, n - i, from_narrow)
                _give(to + to_size * i, x, n - i, to_narrow)

    return cached(copy)


_gate, _gate_backward, _add, _copy = _make_gate(), _make_gate_backward(), _make_add(), _make_copy()


class CompiledElementwise:
    """Compiled operations with sums in float32, products in float32 or bfloat16; single rows."""

    def gate(self, z: TensorView, gates: TensorView, gated: TensorView) -> None:
        """Implement ``Elementwise.gate``."""
        narrow = _is_narrow(z, gates, gated)
        _gate(_address(z), _address(gates), _address(gated), gated.channels, gated.n, narrow)

    def gate_backward(
        self, gates: TensorView, grad: TensorView, grad_z: TensorView, gated: TensorView
    ) -> None:
        """Implement ``Elementwise.gate_backward``."""
        narrow, half, n = _is_narrow(gates, grad, grad_z, gated), gated.channels, gated.n
        places = _address(gates), _address(grad), _address(grad_z), _address(gated)
        _gate_backward(*places, half, n, narrow)

    def add(self, total: TensorView, product: TensorView, copy: TensorView | None = None) -> None:
        """Implement ``Elementwise.add``."""
        assert total.tensor.dtype == torch.float32
        narrow = _is_narrow(product) if copy is None else _is_narrow(product, copy)
        place = (0, 0) if copy is None else _address(copy)
        _add(_address(total), _address(product), place, total.channels, total.n, narrow)

    def copy(self, target: TensorView, source: TensorView) -> None:
        """Implement ``Elementwise.copy``."""
        narrow = _is_narrow(target), _is_narrow(source)
        _copy(_address(target), _address(source), *narrow, target.channels, target.n)


def _address(view: TensorView) -> tuple[int, int]:
    """Address of a view, and the bytes from one of its channels to the next."""
    tensor = view.tensor
    strides, size = tensor.stride(), tensor.element_size()
    assert strides[-1] == 1
    assert tensor.ndim == 2 or len(tensor) == 1
    row = strides[-2] * size
    return tensor.data_ptr() + view.channel * row + view.begin * size, row


def _is_narrow(*views: TensorView) -> bool:
    """Return true if all are bfloat16, false if all are float32."""
    dtype = views[0].tensor.dtype
    assert dtype in (torch.float32, torch.bfloat16)
    assert all(view.tensor.dtype == dtype for view in views)
    return dtype == torch.bfloat16
