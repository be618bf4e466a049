"""Rows of different lengths: what lies behind the end of a row changes nothing of it."""

from __future__ import annotations

import copy

import pytest
import torch
from causal_blocks import BLOCKS
from torch import Tensor

from wavenet import CausalConv1d
from wavenet.nn import clone_state, flatten_state, map_state, select_rows, stream_rows

EXACT = 1e-12


@pytest.mark.parametrize("name", BLOCKS)
def test_each_row_is_streamed_as_if_it_were_alone(name: str) -> None:
    block = copy.deepcopy(BLOCKS[name]).double().eval()
    steps = [3, 0, 5, 2]
    lengths = [n * block.step for n in steps]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, block.in_channels, 6 * block.step, generator=generator).double()
    channels = block.cond_channels
    cond = None if channels is None else torch.randn(4, channels, x.shape[-1]).double()
    state = map_state(lambda part: torch.randn_like(part), block.init_state(4))
    before = clone_state(state)
    with torch.no_grad():
        y, after = stream_rows(block, x, state, lengths, cond)
        for row, n in enumerate(lengths):
            own = select_rows(before, [row])
            outputs = [part[row : row + 1] for part in (y if isinstance(y, tuple) else (y,))]
            end = int(n * block.rate)
            if n:
                given = None if cond is None else cond[row : row + 1, :, :n]
                alone, own = block.stream(x[row : row + 1, :, :n], own, given)
                parts = alone if isinstance(alone, tuple) else (alone,)
                for ours, theirs in zip(outputs, parts, strict=True):
                    assert float((ours[..., :end] - theirs).abs().max()) < EXACT
            assert all(not bool(part[..., end:].any()) for part in outputs)
            assert all(part.shape[-1] == int(x.shape[-1] * block.rate) for part in outputs)
            found = flatten_state(select_rows(after, [row]))
            for ours, theirs in zip(found, flatten_state(own), strict=True):
                assert not ours.numel() or float((ours - theirs).abs().max()) < EXACT
    for ours, theirs in zip(flatten_state(state), flatten_state(before), strict=True):
        assert torch.equal(ours, theirs)


def test_what_lies_behind_the_end_of_a_row_has_no_gradient() -> None:
    conv = CausalConv1d(2, 3, 3).double()
    x = torch.randn(3, 2, 8, dtype=torch.float64, requires_grad=True)
    y, state = stream_rows(conv, x, conv.init_state(3), [8, 5, 0])
    assert isinstance(y, Tensor)
    (y.sum() + sum(part.sum() for part in flatten_state(state))).backward()
    assert x.grad is not None
    seen = x.grad.abs().sum(1) > 0
    assert seen.sum(1).tolist() == [8, 5, 0]
    assert not bool(seen[1, 5:].any())


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([4], "lengths has 1 entries, but x has 2 rows"),
        ([4, 3], "lengths has 3, which must be a multiple of 2 samples, the step of CausalConv1d"),
        ([8, 2], "lengths has 8, which must be .* from 0 to the 6 of x"),
        ([-2, 2], "lengths has -2"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths: list[int], message: str) -> None:
    conv = CausalConv1d(1, 1, 3, stride=2)
    with pytest.raises(ValueError, match=message):
        stream_rows(conv, torch.zeros(2, 1, 6), conv.init_state(2), lengths)
