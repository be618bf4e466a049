"""wavenet.simd: exp, the gate, and what is read from an address and written to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from wavenet.simd import has_compiler

if not has_compiler():
    pytest.skip("this code is compiled by numba", allow_module_level=True)

import numba

from wavenet.simd import functions, memory
from wavenet.simd.registers import fill, load, store


def test_exp_and_the_gate_are_accurate() -> None:
    @numba.njit
    def apply(x, y, exps, gates):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), 16):
            store(exps, i, functions.exp(load(x, i)))
            store(gates, i, functions.gate(load(x, i), load(y, i)))

    x = np.concatenate([np.linspace(-100, 86, 1 << 18), np.linspace(-0.1, 0.1, 1 << 16)])
    x = x.astype(np.float32)
    y = np.random.default_rng(0).permutation(x)
    exps, gates = np.empty_like(x), np.empty_like(x)
    apply(x, y, exps, gates)
    exact, inside = np.exp(x.astype(np.float64)), x > -87
    assert np.all(np.abs(exps - exact)[inside] < 2e-7 * exact[inside])
    assert np.all(exps[x < -87.01] == 0)
    exact = np.tanh(x.astype(np.float64)) * special.expit(y.astype(np.float64))
    assert np.all(np.abs(gates - exact) < 1e-6 * np.abs(exact) + 1e-30)


def test_tanh_is_accurate() -> None:
    @numba.njit
    def apply(x, y):  # type: ignore[no-untyped-def]
        for i in range(0, len(x), 16):
            store(y, i, functions.tanh(load(x, i)))

    x = np.concatenate([np.linspace(-20, 20, 1 << 18), np.geomspace(1e-30, 1, 1 << 16)])
    x = x.astype(np.float32)
    y = np.empty_like(x)
    apply(x, y)
    exact = np.tanh(x.astype(np.float64))
    assert np.all(np.abs(y - exact) <= 3e-7 * np.abs(exact))
    assert np.all(np.abs(y) <= 1)


def test_what_is_no_number_stays_none() -> None:
    @numba.njit
    def apply(x, y):  # type: ignore[no-untyped-def]
        store(y, 0, functions.exp(load(x, 0)))
        store(y, 16, functions.gate(load(x, 0), fill(1.0)))
        store(y, 32, functions.gate(fill(1.0), load(x, 0)))
        store(y, 48, functions.tanh(load(x, 0)))

    x, y = np.full(16, np.nan, np.float32), np.zeros(64, np.float32)
    apply(x, y)
    assert np.isnan(y).all()


@numba.njit
def copy(source, target, n):  # type: ignore[no-untyped-def]
    """Doubled, so that the value is one of the language."""
    for i in range(0, n, 16):
        at, left = 4 * i, n - i
        if left < 16:
            x = memory.read_some(source + at, left)
            memory.write_some(target + at, x + x, left)
        else:
            x = memory.read(source + at)
            memory.write(target + at, x + x)


@numba.njit
def copy_bfloat16(source, target, n):  # type: ignore[no-untyped-def]
    for i in range(0, n, 16):
        at, left = 2 * i, n - i
        if left < 16:
            x = memory.read_some_bfloat16(source + at, left)
            memory.write_some_bfloat16(target + at, x + x, left)
        else:
            x = memory.read_bfloat16(source + at)
            memory.write_bfloat16(target + at, x + x)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 45])
@pytest.mark.parametrize(
    ("run", "dtype"),
    [(copy, torch.float32), (copy_bfloat16, torch.bfloat16)],
    ids=["float32", "bfloat16"],  # a kernel's own text names its address, another in each process
)
def test_so_many_numbers_are_read_and_written_and_none_beside_them(
    run: Callable[..., Any], dtype: torch.dtype, n: int
) -> None:
    x, y = torch.randn(n + 2).to(dtype), torch.zeros(n + 2, dtype=dtype)
    run(x[1:].data_ptr(), y[1:].data_ptr(), n)
    assert torch.equal(y[1:-1], 2 * x[1:-1])
    assert y[0] == 0
    assert y[-1] == 0


@numba.njit
def narrow(source, target, n):  # type: ignore[no-untyped-def]
    for i in range(0, n, 16):
        memory.write_bfloat16(target + 2 * i, memory.read(source + 4 * i))


def bits_of(x: Tensor) -> Tensor:
    return x.view(torch.int16)


def test_rounding_to_bfloat16_is_that_of_torch() -> None:
    """Random bits: all sizes, both signs, subnormals, infinities; and what lies halfway."""
    bits = np.random.default_rng(0).integers(0, 2**32, 1 << 16, np.uint32)
    halfway = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    x = torch.from_numpy(np.concatenate([bits, halfway]).view(np.float32).copy())
    x = x[~x.isnan()]
    x = torch.cat([x[: len(x) // 16 * 16], torch.tensor([float("inf"), -float("inf")] * 8)])
    y = torch.empty(len(x), dtype=torch.bfloat16)
    narrow(x.data_ptr(), y.data_ptr(), len(x))
    assert torch.equal(bits_of(y), bits_of(x.bfloat16()))


def test_a_nan_rounded_to_bfloat16_is_one() -> None:
    x, y = torch.full((16,), float("nan")), torch.empty(16, dtype=torch.bfloat16)
    narrow(x.data_ptr(), y.data_ptr(), 16)
    assert y.isnan().all()
