"""Separable convolutions and temporal blocks are what torch's modules compute."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, remove_weight_norm, weight_norm

import wavenet.nn
from wavenet import CausalConv1d, Chain, receptive_field
from wavenet.nn import DepthwiseSeparableConv1d, TemporalBlock, temporal
from wavenet.processing import Processor
from wavenet.testing import check_causal

EXACT = 1e-12


def padded(conv: CausalConv1d, x: Tensor) -> Tensor:
    """torch's convolution with zeros before x."""
    return F.conv1d(
        F.pad(x, (conv.past, 0)), conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups
    )


def test_a_separable_convolution_is_two_of_torchs() -> None:
    conv = DepthwiseSeparableConv1d(4, 6, 3, dilation=2, stride=2).double()
    x = torch.randn(2, 4, 20, dtype=torch.float64)
    depthwise = nn.Conv1d(4, 4, 3, dilation=2, stride=2, groups=4, dtype=x.dtype)
    depthwise.load_state_dict(conv.depthwise.state_dict())
    expected = conv.pointwise(depthwise(F.pad(x, (4, 0))))
    torch.testing.assert_close(conv(x), expected, rtol=0, atol=EXACT)
    assert (conv.past, conv.step, conv.out_channels) == (4, 2, 6)


def test_a_separable_convolution_has_fewer_weights_than_a_full_one() -> None:
    conv = DepthwiseSeparableConv1d(4, 6, 3, bias=False)
    assert sum(p.numel() for p in conv.parameters()) == 4 * 3 + 4 * 6


@pytest.mark.parametrize(("n_in", "weights"), [(3, True), (5, False)])
def test_a_temporal_block_is_that_of_the_paper(n_in: int, weights: bool) -> None:
    block = TemporalBlock(n_in, 3, 3, dilation=2, dropout=0.3, weight_norm=weights).double().eval()
    residual = block.blocks[0]
    shortcut, body = residual.branches
    x = torch.randn(2, n_in, 30, dtype=torch.float64)
    inside = torch.relu(padded(body.blocks[0], x))
    inside = torch.relu(padded(body.blocks[3], inside))
    expected = torch.relu(inside + (x if n_in == 3 else shortcut(x)))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=EXACT)


def test_a_temporal_block_reaches_back_twice_as_far_as_its_convolutions() -> None:
    net = Chain(*(TemporalBlock(2, 2, 3, dilation=2**i) for i in range(3)))
    assert receptive_field(net, verify=True).samples == 1 + 2 * 2 * (1 + 2 + 4) == net.past + 1


def test_dropout_acts_in_training_mode_alone() -> None:
    block = TemporalBlock(4, 4, 2, dropout=0.5)
    x = torch.randn(1, 4, 50)
    torch.manual_seed(0)
    first, second = block(x), block(x)
    assert not torch.equal(first, second)
    block.eval()
    assert torch.equal(block(x), block(x))


def test_weight_norm_and_other_parametrizations_stream_as_they_compute() -> None:
    new = Chain(
        parametrizations.weight_norm(CausalConv1d(2, 4, 3)),
        parametrizations.spectral_norm(CausalConv1d(4, 4, 2)),
        TemporalBlock(4, 2, 2, weight_norm=True),
    ).eval()
    check_causal(new)
    with pytest.warns(FutureWarning, match="weight_norm"):
        old = weight_norm(DepthwiseSeparableConv1d(2, 2, 3).depthwise)
    chain = Chain(old, nn.Tanh(), CausalConv1d(2, 1, 2))
    check_causal(chain)
    x = torch.randn(1, 2, 20)
    before = chain(x)
    remove_weight_norm(old)
    torch.testing.assert_close(chain(x), before, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "block",
    [
        DepthwiseSeparableConv1d(4, 6, 3, dilation=5, stride=2),
        TemporalBlock(4, 4, 3, dilation=9, dropout=0.3),
        TemporalBlock(4, 3, 2, weight_norm=True),
    ],
    ids=["separable", "temporal", "normalized"],
)
def test_process_compiles_them(block: Chain) -> None:
    pytest.importorskip("numba", reason="process is compiled by numba")
    block.eval()
    processor = Processor(block, block.init_state(2))
    assert processor.compiled
    x = torch.randn(2, 4, 400)
    with torch.no_grad():
        got = torch.cat([processor(part) for part in x.split(90, -1)], -1)
        torch.testing.assert_close(got, block(x), rtol=0, atol=2e-6)


def test_sizes_that_no_block_has_are_refused() -> None:
    with pytest.raises(ValueError, match="in_channels=0 must be"):
        DepthwiseSeparableConv1d(0, 2, 3)
    with pytest.raises(ValueError, match="out_channels=0 must be"):
        DepthwiseSeparableConv1d(2, 0, 3)
    with pytest.raises(ValueError, match="kernel_size=0 must be"):
        TemporalBlock(2, 2, 0)
    with pytest.raises(ValueError, match="dropout=1.5 must be a probability, from 0 to 1"):
        TemporalBlock(2, 2, 2, dropout=1.5)


def test_the_example_of_the_docstring_is_right() -> None:
    found = doctest.DocTestFinder().find(temporal, extraglobs=vars(wavenet.nn))
    results = [doctest.DocTestRunner().run(test) for test in found]
    assert sum(result.attempted for result in results) == 2
    assert not any(result.failed for result in results)
