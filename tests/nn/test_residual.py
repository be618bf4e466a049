"""The gated block and the stack compute the equations of the paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet import DilatedStack, GatedResidualBlock

EXACT = 1e-12


def by_hand(block: GatedResidualBlock, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
    """Equations 2 and 3 of van den Oord et al. 2016, from the weights alone."""
    weights = dict(block.named_parameters())
    dilation, kernel_size = block.conv.dilation, block.conv.kernel_size
    padded = F.pad(x, ((kernel_size - 1) * dilation, 0))
    z = weights["conv.bias"][None, :, None].expand(len(x), -1, x.shape[-1])
    for tap in range(kernel_size):
        delayed = padded[..., tap * dilation : tap * dilation + x.shape[-1]]
        z = z + torch.einsum("oi,bit->bot", weights["conv.weight"][..., tap], delayed)
    if cond is not None:
        z = z + torch.einsum("oi,bit->bot", weights["cond_projection.weight"][..., 0], cond)
    half = z.shape[1] // 2
    gated = z[:, :half].tanh() * z[:, half:].sigmoid()

    def project(name: str) -> Tensor:
        weight, bias = weights[f"{name}.weight"][..., 0], weights[f"{name}.bias"]
        return torch.einsum("oi,bit->bot", weight, gated) + bias[:, None]

    return x + project("residual_projection"), project("skip_projection")


@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("cond_channels", [None, 5])
def test_a_block_computes_equations_2_and_3(kernel_size: int, cond_channels: int | None) -> None:
    block = GatedResidualBlock(
        4, 3, kernel_size=kernel_size, dilation=2, gate_channels=6, cond_channels=cond_channels
    ).double()
    x = torch.randn(2, 4, 15, dtype=torch.float64)
    cond = None if cond_channels is None else torch.randn(2, cond_channels, 15).double()
    for ours, hand in zip(block(x, cond), by_hand(block, x, cond), strict=True):
        assert float((ours - hand).detach().abs().max()) < EXACT


def test_a_stack_hands_y_on_and_sums_the_skips() -> None:
    stack = DilatedStack(4, 3, kernel_size=3, dilations=[1, 2, 4], cond_channels=2).double()
    x, cond = torch.randn(2, 4, 30).double(), torch.randn(2, 2, 30).double()
    y, skip_sum = stack(x, cond)
    expected = torch.zeros(2, 3, 30, dtype=torch.float64)
    for block in stack.blocks:
        x, skip = by_hand(block, x, cond)
        expected = expected + skip
    assert float((y - x).detach().abs().max()) < EXACT
    assert float((skip_sum - expected).detach().abs().max()) < EXACT


def test_one_column_of_conditioning_is_held_over_time() -> None:
    stack = DilatedStack(4, 3, dilations=[1, 2], cond_channels=2).double()
    x, column = torch.randn(2, 4, 9).double(), torch.randn(2, 2, 1).double()
    for held, given in zip(stack(x, column), stack(x, column.expand(-1, -1, 9)), strict=True):
        assert float((held - given).detach().abs().max()) < EXACT


def test_gate_channels_count_both_halves_and_default_to_twice_the_residual_channels() -> None:
    assert GatedResidualBlock(6, 3).conv.out_channels == 12
    block = GatedResidualBlock(6, 3, gate_channels=10)
    assert block.conv.out_channels == 10
    assert block.residual_projection.weight.shape == (6, 5, 1)
    assert block.skip_projection.weight.shape == (3, 5, 1)
    with pytest.raises(ValueError, match="gate_channels=5 must be even: it counts both halves"):
        GatedResidualBlock(6, 3, gate_channels=5)


def test_the_conditioning_projection_has_no_bias_and_exists_only_where_it_is_used() -> None:
    names = {name for name, _ in GatedResidualBlock(2, 2, cond_channels=1).named_parameters()}
    assert "cond_projection.weight" in names
    assert "cond_projection.bias" not in names
    assert not any("cond" in name for name, _ in GatedResidualBlock(2, 2).named_parameters())


def test_a_stack_of_20_layers_has_a_past_of_2046_samples() -> None:
    stack = DilatedStack(2, 2, dilations=[2**i for i in range(10)] * 2)
    assert stack.past == 2046
    assert sum(layer[0][0].shape[-1] for layer in stack.init_state(1)) == 2046


def test_the_state_of_a_block_is_what_its_convolution_remembers() -> None:
    block = GatedResidualBlock(2, 2, kernel_size=3, dilation=2)
    x = torch.randn(1, 2, 9)
    _, ((remembered,),) = block.stream(x, block.init_state(1))
    assert torch.equal(remembered, x[..., -4:])


def test_errors_name_the_argument() -> None:
    for arguments in ({"skip_channels": 0}, {"gate_channels": -2}, {"cond_channels": 0}):
        (name,) = arguments
        given: dict[str, int] = {"residual_channels": 2, "skip_channels": 2} | arguments
        with pytest.raises(ValueError, match=f"{name}=.* must be an integer of at least 1"):
            GatedResidualBlock(**given)
    with pytest.raises(ValueError, match=r"dilations is empty; give one per block"):
        DilatedStack(2, 2, dilations=[])
    with pytest.raises(ValueError, match="dilation=0 must be"):
        DilatedStack(2, 2, dilations=[1, 0])


def test_one_dilation_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"dilations=4 is no list; give one per block"):
        DilatedStack(2, 2, dilations=4)  # type: ignore[arg-type]
