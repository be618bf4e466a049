"""A delay is the signal later; FiLM is a scale and a shift by the conditioning."""

from __future__ import annotations

import pytest
import torch

from wavenet import CausalConv1d, Chain, receptive_field
from wavenet.nn import Delay, FiLM
from wavenet.processing import Processor


def test_a_delayed_signal_is_the_signal_after_zeros() -> None:
    x = torch.randn(2, 3, 12)
    for samples in (0, 1, 5, 12, 40):
        y = Delay(3, samples)(x)
        expected = torch.cat([torch.zeros(2, 3, samples), x], -1)[..., :12]
        assert torch.equal(y, expected)


def test_a_delay_declares_itself_and_its_receptive_field() -> None:
    delay = Delay(2, 7)
    assert (delay.delay, delay.past) == (7, 7)
    assert receptive_field(Chain(CausalConv1d(1, 2, 3), delay), verify=True).samples == 3 + 7


def test_a_delay_keeps_the_type_that_it_was_converted_to() -> None:
    delay = Delay(2, 3).to(torch.bfloat16)
    assert delay.init_state(1)[0].dtype == torch.bfloat16
    assert list(delay.state_dict()) == []


def test_film_scales_and_shifts_by_a_column_per_sample_or_by_one_for_all() -> None:
    film = FiLM(2, 3)
    x, cond = torch.randn(4, 2, 9), torch.randn(4, 3, 9)
    gamma, beta = (film.projection.weight[:, :, 0] @ cond).split(2, dim=1)
    shift = film.projection.bias[:, None]
    expected = x * (1 + gamma + shift[:2]) + beta + shift[2:]
    torch.testing.assert_close(film(x, cond), expected)
    held = cond[..., :1]
    torch.testing.assert_close(film(x, held), film(x, held.expand(-1, -1, 9)))


def test_film_without_a_projection_is_the_identity() -> None:
    film, x = FiLM(2, 3), torch.randn(1, 2, 5)
    torch.nn.init.zeros_(film.projection.weight)
    torch.nn.init.zeros_(film.projection.bias)
    assert torch.equal(film(x, torch.randn(1, 3, 5)), x)


@pytest.mark.parametrize("block", [Delay(2, 150), Delay(2, 0), FiLM(2, 3)], ids=repr)
def test_process_compiles_them(block: Delay | FiLM) -> None:
    pytest.importorskip("numba", reason="process is compiled by numba")
    chain = Chain(CausalConv1d(1, 2, 2), block, CausalConv1d(2, 2, 2))
    x = torch.randn(2, 1, 300)
    cond = None if block.cond_channels is None else torch.randn(2, 3, 300)
    processor = Processor(chain, chain.init_state(2))
    assert processor.compiled
    parts = x.split(70, -1), [None] * 5 if cond is None else cond.split(70, -1)
    with torch.no_grad():
        got = torch.cat([processor(*part) for part in zip(*parts, strict=True)], -1)
        expected, after = chain.stream(x, chain.init_state(2), cond)
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)
    for a, b in zip(processor.state, after, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


def test_sizes_that_no_block_has_are_refused() -> None:
    with pytest.raises(ValueError, match="samples=-1 must be an integer of at least 0"):
        Delay(2, -1)
    with pytest.raises(ValueError, match="channels=0 must be"):
        Delay(0, 1)
    with pytest.raises(ValueError, match="cond_channels=0 must be"):
        FiLM(2, 0)
