"""Proposed stacks reach the target, and cost what the blocks cost."""

import pytest

from wavenet.nn import DilatedStack
from wavenet.nn.state import flatten_state
from wavenet.receptive_fields.design import design, proposal, table


def test_every_proposal_reaches_300_ms_and_with_one_stack_less_would_not() -> None:
    proposals = design(300, 16000)
    assert len(proposals) > 10
    for p in proposals:
        assert 4800 <= p.samples <= 9600
        assert p.milliseconds >= 300
        shorter = p.samples - (p.kernel_size - 1) * (2**p.layers_per_stack - 1)
        assert shorter < 4800


@pytest.mark.parametrize("size", [(2, 5, 2), (3, 4, 1)])
def test_costs_are_those_of_the_blocks(size: tuple[int, int, int]) -> None:
    p = proposal(*size, sample_rate=16000, residual_channels=6, skip_channels=10)
    stack = DilatedStack(6, 10, kernel_size=p.kernel_size, dilations=p.dilations)
    assert p.samples == stack.past + 1
    assert p.parameters == sum(x.numel() for x in stack.parameters())
    weights = [x.numel() for name, x in stack.named_parameters() if name.endswith("weight")]
    assert p.multiply_adds == sum(weights)
    state = stack.init_state(1)
    assert p.state_bytes == sum(x.numel() * x.element_size() for x in flatten_state(state))


def test_proposals_are_sorted_and_the_unbeaten_ones_marked() -> None:
    proposals = design(50, 16000, residual_channels=32)
    assert [p.multiply_adds for p in proposals] == sorted(p.multiply_adds for p in proposals)
    for p in proposals:
        beaten = any(
            all(a <= b for a, b in zip(q.costs, p.costs, strict=True)) and q.costs != p.costs
            for q in proposals
        )
        assert p.pareto == (not beaten)
    assert table(proposals).count("*") == sum(p.pareto for p in proposals)


def test_real_time_factors_follow_from_the_measured_speed() -> None:
    slow = design(50, 16000, multiply_adds_per_second=1.6e9)
    for p in slow:
        assert p.real_time_factor == pytest.approx(1e5 / p.multiply_adds)
    assert "real time" in table(slow)
    assert "real time" not in table(design(50, 16000))


def test_max_parameters_is_kept_or_the_least_is_named() -> None:
    allowed = 80_000
    proposals = design(50, 16000, residual_channels=32, max_parameters=allowed)
    assert proposals
    assert all(p.parameters <= allowed for p in proposals)
    with pytest.raises(ValueError, match="the smallest has .*; allow more or take fewer residual"):
        design(50, 16000, residual_channels=32, max_parameters=10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 16000), "target_ms=0 must be a positive number"),
        ((300, 0), "sample_rate=0 must be an integer of at least 1"),
        ((1e9, 16000), "which no stack of up to 60 layers reaches"),
    ],
)
def test_a_target_that_no_stack_reaches_is_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        design(*arguments)
