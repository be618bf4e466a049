"""The learning rate over a run: warm-up, constant part, decay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from wavenet.training import TrainingConfig
from wavenet.training.schedule import Schedule, make_optimizer


def config(**changes: Any) -> TrainingConfig:
    settings = {"learning_rate": 0.01, "warmup_steps": 4, "max_steps": 20, **changes}
    return TrainingConfig(**settings)


def rates(**changes: Any) -> list[float]:
    schedule = Schedule(config(**changes))
    return [schedule.share(step) for step in range(21)]


def test_by_default_it_decays_as_a_cosine_from_the_end_of_the_warm_up() -> None:
    expected = [0.5 * (1 + math.cos(math.pi * (step - 4) / 16)) for step in range(4, 21)]
    assert rates() == pytest.approx([0.25, 0.5, 0.75, 1.0, *expected])


def test_a_linear_decay_over_the_last_quarter_leaves_it_constant_before() -> None:
    found = rates(decay="linear", decay_fraction=0.25)
    assert found[4:16] == [1.0] * 12
    assert found[15:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


def test_a_decay_fraction_of_0_leaves_it_constant_to_the_last_step() -> None:
    assert rates(decay_fraction=0.0)[3:20] == [1.0] * 17


def test_the_decay_never_begins_before_the_end_of_the_warm_up() -> None:
    found = rates(warmup_steps=10, decay="linear", decay_fraction=1.0)
    assert found[9:] == pytest.approx([1.0, *(1 - n / 10 for n in range(11))])


def test_the_second_moment_of_adam_decays_as_asked() -> None:
    optimizer = make_optimizer(torch.nn.Linear(1, 1), config(adam_beta2=0.95))
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)
