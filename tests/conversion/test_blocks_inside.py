"""Modules that contain causal blocks are converted, and the blocks stay as they are."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from wavenet import CausalConv1d, Chain, DilatedStack, GatedResidualBlock, causal
from wavenet.nn import LSTM, CausalConvTranspose1d, Delay
from wavenet.processing import Processor
from wavenet.testing import check_causal

EXACT = 1e-12


class UNet(nn.Module):
    """Downsampling and upsampling by causal blocks with a skip connection around them."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = CausalConv1d(1, 4, 4, stride=2)
        self.body = Chain(CausalConv1d(4, 4, 3, dilation=2), nn.ELU())
        self.decoder = CausalConvTranspose1d(4, 1, 4, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.encoder(x))
        y: Tensor = self.decoder(torch.relu(hidden + self.body(hidden)))
        return y + x


class SkipSum(nn.Module):
    """A user's head on the skip sum of a stack, which returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Conv1d(1, 6, 1)
        self.first = GatedResidualBlock(6, 8, kernel_size=3)
        self.stack = DilatedStack(6, 8, dilations=[1, 2, 4])
        self.head = nn.Conv1d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, skip = self.first(self.input(x))
        y: Tensor = self.head(torch.relu(skip + self.stack(y)[1]))
        return y


class Recurrent(nn.Module):
    """A recurrent block between convolutions padded on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ConstantPad1d((2, 0), 0.0), nn.Conv1d(1, 4, 3))
        self.body, self.last = LSTM(4, 5), CausalConv1d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.body(self.first(x)))
        return y


@pytest.mark.parametrize("kind", [UNet, SkipSum, Recurrent])
def test_a_module_with_causal_blocks_computes_the_same_and_streams(kind: type[nn.Module]) -> None:
    module = kind().double().eval()
    block = causal(module)
    x = torch.randn(2, 1, 200, dtype=torch.float64)
    with torch.no_grad():
        assert float((module(x) - block(x)).abs().max()) < EXACT
    assert (block.delay, block.first_column) == (0, 0)
    check_causal(block)


def test_the_past_of_the_blocks_inside_is_counted() -> None:
    assert causal(UNet()).past == 3 + 2 * 4 + 2 + 1  # of the second output of a step
    assert causal(SkipSum()).past == 2 + 7


def test_a_convolution_that_looks_ahead_before_a_block_becomes_a_delay() -> None:
    down = CausalConv1d(2, 3, 3, stride=2)
    module = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), down, nn.Tanh()).double()
    with pytest.raises(ValueError, match="^0 .* looks 1 sample ahead; pass delay=True"):
        causal(module)
    block = causal(module, delay=True)
    assert block.delay == 2  # a whole step of the block behind it
    x = torch.randn(1, 1, 60, dtype=torch.float64)
    with torch.no_grad():
        theirs, ours = module(x)[..., :-1], block(x)[..., block.first_column :]
    assert float((theirs - ours)[..., 2:].abs().max()) < EXACT


def test_the_delay_that_a_block_declares_is_declared_by_the_network() -> None:
    module = nn.Sequential(nn.Conv1d(1, 2, 2, stride=2), Delay(2, 3), nn.ReLU())
    assert causal(module, delay=True).delay == 2 + 2 * 3
    assert causal(nn.Sequential(Delay(1, 3), nn.Tanh())).delay == Fraction(3)


def test_a_block_keeps_its_weights_in_the_copy_and_is_called_twice_with_two_states() -> None:
    shared = CausalConv1d(2, 2, 3)
    module = nn.Sequential(shared, nn.Tanh(), shared).double()
    block = causal(module)
    assert len(list(block.parameters())) == 2
    x = torch.randn(1, 2, 40, dtype=torch.float64)
    with torch.no_grad():
        assert float((module(x) - block(x)).abs().max()) < EXACT
    block(x).sum().backward()
    assert shared.weight.grad is None
    check_causal(block)


@pytest.mark.parametrize("kind", [UNet, SkipSum])
def test_processing_compiles_a_network_with_blocks_inside(kind: type[nn.Module]) -> None:
    pytest.importorskip("numba", reason="the extra audio is not installed")
    block = causal(kind().eval())
    x = torch.randn(1, 1, 640)
    processor = Processor(block, block.init_state(1))
    assert processor.compiled
    made = torch.cat([processor(part) for part in x.split(64, dim=-1)], dim=-1)
    with torch.no_grad():
        assert float((made - block(x)).abs().max()) < 1e-5


def test_what_is_no_signal_for_a_block_is_refused_by_its_name() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = CausalConv1d(1, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(x.mT)
            return y

    with pytest.raises(ValueError, match=r"^conv \(CausalConv1d.*not as \[B, C, T\]; transpose"):
        causal(Transposed())
    conditioned = nn.Sequential(GatedResidualBlock(2, 2, cond_channels=4))
    with pytest.raises(ValueError, match=r"^0 \(GatedResidualBlock.*takes a conditioning"):
        causal(conditioned)
    behind = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), LSTM(2, 3))
    with pytest.raises(ValueError, match=r"^1 \(LSTM\) is behind a layer that looks ahead"):
        causal(behind, delay=True)
    with pytest.raises(ValueError, match="x has shape"):
        causal(nn.Sequential(nn.Conv1d(1, 3, 1), CausalConv1d(2, 1, 3)))
