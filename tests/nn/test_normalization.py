"""Normalizations are torch's, with channels in the middle, and look along no time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from wavenet import Causal, CausalConv1d, Chain, receptive_field
from wavenet.nn import BatchNorm, LayerNorm, RMSNorm, flatten_state
from wavenet.processing import Processor

EXACT = 1e-12


def drawn(module: nn.Module) -> nn.Module:
    """The module in float64 with random weights."""
    for parameter in module.double().parameters():
        nn.init.normal_(parameter)
    return module


def signal(channels: int = 6) -> Tensor:
    return torch.randn(3, channels, 20, dtype=torch.float64) * 2 + 0.5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LayerNorm(6), nn.LayerNorm(6)),
        (LayerNorm(6, eps=0.1, bias=False), nn.LayerNorm(6, eps=0.1, bias=False)),
        (LayerNorm(6, affine=False), nn.LayerNorm(6, elementwise_affine=False)),
        (RMSNorm(6), nn.RMSNorm(6, eps=1e-6)),
        (RMSNorm(6, eps=0.1, affine=False), nn.RMSNorm(6, eps=0.1, elementwise_affine=False)),
    ],
    ids=repr,
)
def test_a_normalization_over_channels_is_torchs_of_the_transposed_signal(
    ours: Causal, theirs: nn.Module
) -> None:
    drawn(theirs)
    assert ours.double().load_state_dict(theirs.state_dict()) == ([], [])
    x = signal()
    expected = theirs(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(ours(x), expected, rtol=0, atol=EXACT)


def trained_batch_norm(affine: bool = True) -> nn.BatchNorm1d:
    """torch's, after two batches."""
    theirs = nn.BatchNorm1d(6, affine=affine, momentum=0.4)
    drawn(theirs)
    for _ in range(2):
        theirs(signal())
    return theirs.eval()


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_torchs_in_evaluation_mode_and_takes_its_statistics(affine: bool) -> None:
    theirs = trained_batch_norm(affine)
    ours = BatchNorm(6, affine=affine).double()
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    x = signal()
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=EXACT)
    assert float((ours(x) - nn.BatchNorm1d(6).double()(x)).detach().abs().max()) > 0.1


def test_batch_norm_changes_no_statistics_in_training_mode() -> None:
    ours = BatchNorm(6).double().train()
    ours.load_state_dict(trained_batch_norm().state_dict())
    before, x = copy.deepcopy(ours.state_dict()), signal()
    y = ours(x)
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())
    assert torch.equal(y, ours.eval()(x))


@pytest.mark.parametrize("norm", [LayerNorm(4), RMSNorm(4), BatchNorm(4)], ids=repr)
def test_a_normalization_adds_nothing_to_the_receptive_field(norm: Causal) -> None:
    assert (norm.past, norm.delay, norm.out_channels) == (0, 0, 4)
    chain = Chain(CausalConv1d(1, 4, 3), norm, CausalConv1d(4, 1, 5))
    assert receptive_field(chain, verify=True).samples == 3 + 5 - 1


def test_silence_is_normalized_to_the_bias_and_not_to_nan() -> None:
    silence = torch.zeros(2, 4, 3)
    for norm in (LayerNorm(4), RMSNorm(4), BatchNorm(4)):
        assert float(norm(silence).detach().abs().max()) == 0


@pytest.mark.parametrize("norm", ["LayerNorm", "RMSNorm", "BatchNorm", "plain"])
def test_process_compiles_normalizations(norm: str) -> None:
    pytest.importorskip("numba", reason="process is compiled by numba")
    made = {
        "LayerNorm": drawn(LayerNorm(6)),
        "RMSNorm": drawn(RMSNorm(6, eps=0.1)),
        "BatchNorm": BatchNorm(6).double(),
        "plain": Chain(LayerNorm(6, affine=False), RMSNorm(6, affine=False)),
    }[norm]
    if norm == "BatchNorm":
        made.load_state_dict(trained_batch_norm().state_dict())
    chain = Chain(CausalConv1d(2, 6, 3), made, nn.Tanh(), CausalConv1d(6, 1, 2)).float()
    x = torch.randn(2, 2, 300)
    processor = Processor(chain, chain.init_state(2))
    assert processor.compiled
    with torch.no_grad():
        got = torch.cat([processor(part) for part in x.split(70, -1)], -1)
        expected, after = chain.stream(x, chain.init_state(2))
    torch.testing.assert_close(got, expected, rtol=0, atol=4e-6)
    shapes = [part.shape for part in flatten_state(after)]
    assert [part.shape for part in flatten_state(processor.state)] == shapes


@pytest.mark.parametrize("kind", [LayerNorm, RMSNorm, BatchNorm])
def test_sizes_that_no_normalization_has_are_refused(kind: type[Causal]) -> None:
    with pytest.raises(ValueError, match="channels=0 must be an integer of at least 1"):
        kind(0)
    with pytest.raises(ValueError, match="eps=0 must be above 0: silence would be divided by 0"):
        kind(4, eps=0)
