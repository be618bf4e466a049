"""Ordinary networks become causal blocks that compute the same, or are refused by name."""

from __future__ import annotations

import math

import pytest
import torch
from ordinary_networks import NETWORKS, Case
from torch import Tensor, nn

from wavenet import causal
from wavenet.conversion import CausalNetwork
from wavenet.testing import check_causal

CONVERTED = [name for name, case in NETWORKS.items() if case.refused is None]
REFUSED = [name for name, case in NETWORKS.items() if case.refused is not None]
EXACT = 1e-10


def built(case: Case) -> nn.Module:
    """The network in float64, with statistics and weights that change a signal."""
    torch.manual_seed(0)
    module = case.build().double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return module


def compared(module: nn.Module, block: CausalNetwork, x: Tensor) -> tuple[Tensor, Tensor]:
    """The columns that both have, of the module and of the block."""
    with torch.no_grad():
        theirs, ours = module(x), block(x)[..., block.first_column :]
    n = min(theirs.shape[-1], ours.shape[-1])
    return theirs[..., :n], ours[..., :n]


def test_most_networks_are_converted() -> None:
    assert len(NETWORKS) >= 30
    assert len(CONVERTED) >= 27


@pytest.mark.parametrize("name", CONVERTED)
def test_a_converted_network_computes_the_same(name: str) -> None:
    case = NETWORKS[name]
    module = built(case)
    block = causal(module, delay=case.delay, in_channels=case.in_channels)
    past = 40 if block.unbounded else block.past
    n = 2 * past + 30 * block.step
    x = torch.randn(2, block.in_channels, n - n % block.step, dtype=torch.float64)
    theirs, ours = compared(module, block, x)
    # Columns before this one are touched by what lies before the first sample.
    first = 0 if case.everywhere else math.ceil(past * block.rate)
    assert theirs.shape[-1] - first > 10
    assert float((theirs - ours)[..., first:].abs().max()) < EXACT
    assert float(theirs[..., first:].std()) > 1e-4
    assert bool(block.delay) == case.delay


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERTED)
def test_a_converted_network_keeps_the_contract(name: str) -> None:
    case = NETWORKS[name]
    check_causal(causal(built(case), delay=case.delay, in_channels=case.in_channels))


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_without_a_counterpart_is_refused_by_name(name: str) -> None:
    case = NETWORKS[name]
    assert case.refused is not None
    with pytest.raises(ValueError, match=case.refused) as caught:
        causal(built(case), delay=case.delay, in_channels=case.in_channels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["Conv-TasNet", "SEANet encoder", "HiFi-GAN", "ResNet"])
def test_a_network_that_looks_ahead_is_refused_unless_it_may_delay(name: str) -> None:
    with pytest.raises(ValueError, match=r"looks \d+ samples? ahead; pass delay=True"):
        causal(built(NETWORKS[name]), in_channels=NETWORKS[name].in_channels)
