"""States are values: what is done to them gives new ones, row by row."""

from __future__ import annotations

import copy

import pytest
import torch

from wavenet import DilatedStack, MelConfig
from wavenet.nn import (
    Causal,
    CausalSTFT,
    LinearPrediction,
    MelRefinement,
    clone_state,
    detach_state,
    flatten_state,
    map_state,
    reset_rows,
    select_rows,
    unflatten_state,
)

NESTED = ((torch.arange(6.0).view(3, 2),), (), (torch.arange(3.0), (torch.ones(3, 1, 2),)))


def stack_and_input() -> tuple[DilatedStack, torch.Tensor]:
    return DilatedStack(3, 2, dilations=[1, 2, 4]), torch.randn(4, 3, 10)


def test_flattening_and_unflattening_are_inverse() -> None:
    again = unflatten_state(NESTED, flatten_state(NESTED))
    assert again[1] == ()
    assert [part.shape for part in flatten_state(NESTED)] == [(3, 2), (3,), (3, 1, 2)]
    for a, b in zip(flatten_state(again), flatten_state(NESTED), strict=True):
        assert a is b


def test_mapping_keeps_the_structure() -> None:
    doubled = map_state(lambda part: 2 * part, NESTED)
    assert torch.equal(doubled[2][1][0], 2 * NESTED[2][1][0])
    assert doubled[1] == ()


def test_selected_rows_go_on_as_they_would_have_alone() -> None:
    stack, x = stack_and_input()
    _, state = stack.stream(x[..., :6], stack.init_state(4))
    for rows in ([2, 0, 2], torch.tensor([2, 0, 2])):
        y, _ = stack.stream(x[[2, 0, 2], :, 6:], select_rows(state, rows))
        expected, _ = stack.stream(x[..., 6:], state)
        for a, b in zip(y, expected, strict=True):
            assert torch.allclose(a, b[[2, 0, 2]], atol=1e-6)


def test_reset_rows_begin_anew_and_the_others_go_on() -> None:
    stack, x = stack_and_input()
    _, state = stack.stream(x[..., :6], stack.init_state(4))
    kept = clone_state(state)
    fresh = stack.init_state(4)
    marked = torch.tensor([False, True, False, True])
    after = reset_rows(state, marked, fresh)
    for part, old, new in zip(*map(flatten_state, (after, kept, fresh)), strict=True):
        assert torch.equal(part[~marked], old[~marked])
        assert torch.equal(part[marked], new[marked])
    for part, old in zip(flatten_state(state), flatten_state(kept), strict=True):
        assert torch.equal(part, old)  # the given state is as it was


def test_rows_to_reset_are_marked_not_numbered() -> None:
    with pytest.raises(TypeError, match=r"rows has dtype torch.int64, expected torch.bool \[B\]"):
        reset_rows(NESTED, torch.tensor([1]), NESTED)


def test_a_clone_shares_no_memory() -> None:
    copied = clone_state(NESTED)
    for a, b in zip(flatten_state(copied), flatten_state(NESTED), strict=True):
        assert torch.equal(a, b)
        assert a.data_ptr() != b.data_ptr()


def test_a_detached_state_cuts_the_gradient_at_the_chunk() -> None:
    stack, x = stack_and_input()
    x.requires_grad_()
    _, state = stack.stream(x[..., :6], stack.init_state(4))
    (_, skip), _ = stack.stream(x[..., 6:], detach_state(state))
    (gradient,) = torch.autograd.grad(skip.sum(), x)
    assert float(gradient[..., :6].abs().max()) == 0
    assert float(gradient[..., 6:].abs().min()) > 0


@pytest.mark.parametrize(
    "block",
    [
        LinearPrediction(3, pitch_taps=1, min_lag_samples=4, max_lag_samples=9),
        MelRefinement(MelConfig(n_fft=16, win_samples=8, hop_samples=2, n_mels=3), 2),
        CausalSTFT(16, 4),
    ],
    ids=lambda block: type(block).__name__,
)
def test_a_block_of_buffers_alone_makes_its_states_where_they_are(block: Causal) -> None:
    block = copy.deepcopy(block).double()
    cond = None
    if block.cond_channels is not None:
        cond = torch.zeros(2, block.cond_channels, 1, dtype=torch.float64)
    for state in (block.init_state(2), block.warm_state(2, cond)):
        assert {part.dtype for part in flatten_state(state)} == {torch.float64}
    elsewhere = block.to("meta").init_state(2)
    assert {part.device.type for part in flatten_state(elsewhere)} == {"meta"}
