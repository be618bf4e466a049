"""training.window.elementwise: both implementations compute the equations, rounded once."""

from __future__ import annotations

import pytest
import torch

from wavenet.simd import has_compiler
from wavenet.training.window.elementwise import (
    Elementwise,
    TensorView,
    TorchElementwise,
    can_compile,
)

HALF, T, BEGIN = 3, 45, 2
ROUNDING = {torch.float32: 3e-7, torch.bfloat16: 0.004}  # of numbers of size 1; 2**-8 is 0.0039


def make(kind: str) -> Elementwise:
    if kind == "torch":
        return TorchElementwise(torch.zeros(()), (1, 2 * HALF, 64))
    if not has_compiler():
        pytest.skip("compiled by numba")
    from wavenet.training.window.elementwise_numba import CompiledElementwise

    return CompiledElementwise()


@pytest.fixture(params=["torch", "compiled"])
def elementwise(request: pytest.FixtureRequest) -> Elementwise:
    return make(request.param)


@pytest.fixture(params=list(ROUNDING), ids=str)
def narrow(request: pytest.FixtureRequest) -> torch.dtype:
    dtype: torch.dtype = request.param
    return dtype


def zeros(channels: int, dtype: torch.dtype) -> TensorView:
    """T columns amid a tensor, and all of its channels but the first and the last."""
    return TensorView(torch.zeros(1, channels + 2, T + 5, dtype=dtype), 1, channels, BEGIN, T)


def noise(channels: int, dtype: torch.dtype, scale: float = 1.0) -> TensorView:
    drawn = zeros(channels, dtype)
    drawn.view.copy_(scale * torch.randn(1, channels, T))
    return drawn


def copied(view: TensorView) -> TensorView:
    return view._replace(tensor=view.tensor.clone())


def test_the_gate_is_tanh_and_sigmoid_and_their_product(
    elementwise: Elementwise, narrow: torch.dtype
) -> None:
    z, gates, gated = noise(2 * HALF, narrow, 4), zeros(2 * HALF, narrow), zeros(HALF, narrow)
    a, b = z.view.double().chunk(2, dim=1)
    a, b = torch.tanh(a / 2), torch.sigmoid(b)
    elementwise.gate(z, gates, gated)
    bound = ROUNDING[narrow]
    torch.testing.assert_close(gates.view.double(), torch.cat([a, b], dim=1), rtol=bound, atol=1e-7)
    torch.testing.assert_close(gated.view.double(), a * b, rtol=bound, atol=1e-7)


def test_the_gate_may_overwrite_its_input(elementwise: Elementwise, narrow: torch.dtype) -> None:
    z, gates, gated = noise(2 * HALF, narrow), zeros(2 * HALF, narrow), zeros(HALF, narrow)
    elementwise.gate(copied(z), gates, gated)
    elementwise.gate(z, z, gated)
    assert torch.equal(z.view, gates.view)


def test_the_gate_backward_is_the_gradient_of_the_product(
    elementwise: Elementwise, narrow: torch.dtype
) -> None:
    gates, grad = noise(2 * HALF, narrow, 0.4), noise(HALF, narrow)
    grad_z, gated = zeros(2 * HALF, narrow), zeros(HALF, narrow)
    elementwise.gate_backward(gates, grad, grad_z, gated)
    (a, b), g = gates.view.double().chunk(2, dim=1), grad.view.double()
    exact = torch.cat([g * b * (1 - a * a), g * a * b * (1 - b)], dim=1)
    bound = ROUNDING[narrow]
    torch.testing.assert_close(grad_z.view.double(), exact, rtol=bound, atol=1e-6)
    torch.testing.assert_close(gated.view.double(), a * b, rtol=bound, atol=1e-7)


def test_sums_are_not_rounded_and_their_copies_are(
    elementwise: Elementwise, narrow: torch.dtype
) -> None:
    total, product, copy = noise(3, torch.float32), noise(3, narrow), zeros(3, narrow)
    exact = total.view + product.view.float()
    elementwise.add(total, product, copy)
    assert torch.equal(total.view, exact)
    assert torch.equal(copy.view, exact.to(narrow))
    elementwise.add(total, product)
    assert torch.equal(total.view, exact + product.view.float())


def test_a_total_without_rows_gets_the_sum_over_rows() -> None:
    product, total = torch.randn(3, 4, 5), torch.zeros(4, 5)
    elementwise = make("torch")
    elementwise.add(TensorView(total, 0, 4, 0, 5), TensorView(product, 0, 4, 0, 5))
    torch.testing.assert_close(total, product.sum(0))


@pytest.mark.parametrize("source_type", list(ROUNDING), ids=str)
def test_a_copy_is_rounded_and_nothing_beside_it_is_touched(
    elementwise: Elementwise, narrow: torch.dtype, source_type: torch.dtype
) -> None:
    source, target = noise(3, source_type), zeros(3, narrow)
    elementwise.copy(target, source)
    assert torch.equal(target.view, source.view.to(narrow))
    target.view.zero_()
    assert target.tensor.count_nonzero() == 0


def test_nan_stays_nan(elementwise: Elementwise, narrow: torch.dtype) -> None:
    z, gates, gated = noise(2 * HALF, narrow), zeros(2 * HALF, narrow), zeros(HALF, narrow)
    z.view[0, 0, 7], z.view[0, HALF, 44] = torch.nan, torch.nan
    elementwise.gate(z, gates, gated)
    assert gates.view[0, 0, 7].isnan()
    assert gates.view[0, HALF, 44].isnan()
    assert torch.nonzero(gated.view.isnan()).tolist() == [[0, 0, 7], [0, 0, 44]]


@pytest.mark.skipif(not has_compiler(), reason="compiled by numba")
def test_compiled_code_is_for_float32_sums_on_the_cpu() -> None:
    x = torch.zeros(1)
    assert can_compile(x, torch.float32)
    assert can_compile(x, torch.bfloat16)
    assert not can_compile(x, torch.float16)
    assert not can_compile(x.double(), torch.float64)
    assert not can_compile(torch.zeros(1, device="meta"), torch.float32)
