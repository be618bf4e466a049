"""wavenet.nn.elementwise: both implementations compute the equations, each number once rounded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wavenet.compiled import has_compiler
from wavenet.nn.elementwise import Elementwise, TorchElementwise, can_compile

HALF, T = 3, 45
ROUNDING = {torch.float32: 3e-7, torch.bfloat16: 0.004}  # of numbers of size 1; 2**-8 is 0.0039


def make(kind: str) -> Elementwise:
    if kind == "torch":
        return TorchElementwise(torch.zeros(()), (2, 2 * HALF, 64))
    if not has_compiler():
        pytest.skip("compiled by numba")
    from wavenet.nn.compiled_tiles import CompiledElementwise

    return CompiledElementwise()


@pytest.fixture(params=["torch", "compiled"])
def elementwise(request: pytest.FixtureRequest) -> Elementwise:
    return make(request.param)


@pytest.fixture(params=list(ROUNDING), ids=str)
def narrow(request: pytest.FixtureRequest) -> torch.dtype:
    dtype: torch.dtype = request.param
    return dtype


def room(channels: int, dtype: torch.dtype) -> Tensor:
    """A view of T samples whose channels lie farther apart, as tiles do."""
    return torch.zeros(2, channels, T + 5, dtype=dtype)[..., 2 : T + 2]


def noise(channels: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    tensor = room(channels, dtype)
    return tensor.copy_(scale * torch.randn(tensor.shape))


def test_the_gate_is_tanh_and_sigmoid_and_their_product(
    elementwise: Elementwise, narrow: torch.dtype
) -> None:
    z, gates, gated = noise(2 * HALF, narrow, 4), room(2 * HALF, narrow), room(HALF, narrow)
    a, b = z.double().chunk(2, dim=1)
    a, b = torch.tanh(a / 2), torch.sigmoid(b)
    elementwise.gate(z, gates, gated)
    bound = ROUNDING[narrow]
    torch.testing.assert_close(gates.double(), torch.cat([a, b], dim=1), rtol=bound, atol=1e-7)
    torch.testing.assert_close(gated.double(), a * b, rtol=bound, atol=1e-7)


def test_the_gate_may_take_the_place_of_what_it_is_made_of(
    elementwise: Elementwise, narrow: torch.dtype
) -> None:
    z, gates, gated = noise(2 * HALF, narrow), room(2 * HALF, narrow), room(HALF, narrow)
    elementwise.gate(room(2 * HALF, narrow).copy_(z), gates, gated)
    elementwise.gate(z, z, gated)
    assert torch.equal(z, gates)


def test_slopes_are_the_gradient_of_the_product(
    elementwise: Elementwise, narrow: torch.dtype
) -> None:
    gates, slope = noise(2 * HALF, narrow, 0.4), noise(HALF, narrow)
    z_slope, gated = room(2 * HALF, narrow), room(HALF, narrow)
    elementwise.slopes(gates, slope, z_slope, gated)
    (a, b), g = gates.double().chunk(2, dim=1), slope.double()
    exact = torch.cat([g * b * (1 - a * a), g * a * b * (1 - b)], dim=1)
    bound = ROUNDING[narrow]
    torch.testing.assert_close(z_slope.double(), exact, rtol=bound, atol=1e-6)
    torch.testing.assert_close(gated.double(), a * b, rtol=bound, atol=1e-7)


def test_sums_are_not_rounded_and_their_copies_are(
    elementwise: Elementwise, narrow: torch.dtype
) -> None:
    total, product, copy = noise(3, torch.float32), noise(3, narrow), room(3, narrow)
    exact = total + product.float()
    elementwise.add(total, product, copy)
    assert torch.equal(total, exact)
    assert torch.equal(copy, exact.to(narrow))
    elementwise.add(total, product)
    assert torch.equal(total, exact + product.float())


def test_what_is_no_number_is_not_hidden(elementwise: Elementwise, narrow: torch.dtype) -> None:
    z, gates, gated = noise(2 * HALF, narrow), room(2 * HALF, narrow), room(HALF, narrow)
    z[0, 0, 7], z[1, HALF, 44] = torch.nan, torch.nan
    elementwise.gate(z, gates, gated)
    assert gates[0, 0, 7].isnan()
    assert gates[1, HALF, 44].isnan()
    assert torch.nonzero(gated.isnan()).tolist() == [[0, 0, 7], [1, 0, 44]]


@pytest.mark.skipif(not has_compiler(), reason="compiled by numba")
def test_compiled_code_is_for_float32_sums_on_the_cpu() -> None:
    x = torch.zeros(1)
    assert can_compile(x, torch.float32)
    assert can_compile(x, torch.bfloat16)
    assert not can_compile(x, torch.float16)
    assert not can_compile(x.double(), torch.float64)
    assert not can_compile(torch.zeros(1, device="meta"), torch.float32)
