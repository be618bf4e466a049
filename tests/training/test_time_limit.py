"""wavenet.training.time_limit: a run of minutes ends with its learning rate at 0."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavenet.training import ConfigError, TrainingConfig
from wavenet.training.checkpoints import find_last
from wavenet.training.module import WaveNetTraining
from wavenet.training.run import train
from wavenet.training.trainer import Trainer

SMALL = {
    "sample_rate": 8000,
    "layers_per_stack": 2,
    "stacks": 1,
    "residual_channels": 4,
    "skip_channels": 4,
    "distribution": "gaussian",
}
STEP_S = 0.02
"""A step of these tests takes at least as long."""


@pytest.fixture
def config(tones: Path) -> TrainingConfig:
    """A run of a second."""
    return TrainingConfig(
        corpus=str(tones),
        model=SMALL,
        window_s=0.02,
        batch_size=1,
        validation_windows=1,
        validate_every=10**6,
        checkpoint_every=10**6,
        max_steps=10**6,
        minutes=1 / 60,
        warmup_steps=2,
        decay="linear",
        decay_fraction=0.5,
        listen_every=0,
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Steps of at least ``STEP_S``; the learning rate of each comes into the list."""
    whole, update, rates = WaveNetTraining.training_step, Trainer._update, []

    def step(self: WaveNetTraining, batch: dict[str, Tensor]) -> Tensor:
        time.sleep(STEP_S)
        return whole(self, batch)

    def note(self: Trainer, bits: Tensor, samples: Tensor) -> None:
        rates.append(self.optimizer.param_groups[0]["lr"])
        update(self, bits, samples)

    monkeypatch.setattr(WaveNetTraining, "training_step", step)
    monkeypatch.setattr(Trainer, "_update", note)
    return rates


def saved_steps(out: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in (out / "checkpoints").iterdir())


def test_a_run_lasts_its_minutes_and_the_learning_rate_falls_over_the_last_part(
    config: TrainingConfig, tmp_path: Path, slow_steps: list[float]
) -> None:
    began_s = time.monotonic()
    result = train(config, tmp_path)
    assert time.monotonic() - began_s >= 0.8
    assert 2 < result.steps == len(slow_steps) <= 1 / STEP_S + 1
    decided, last = saved_steps(tmp_path)  # when half of the time had passed, and at the end
    assert 1 <= decided < last == result.steps
    height, n = config.learning_rate, last - decided
    assert slow_steps[2 : decided + 1] == pytest.approx([height] * (decided - 1))
    assert slow_steps[decided:] == pytest.approx([height * (1 - i / n) for i in range(n)])


def test_a_run_that_is_killed_while_its_rate_falls_ends_with_the_same_bits(
    config: TrainingConfig, tmp_path: Path, slow_steps: list[float]
) -> None:
    train(config, tmp_path)
    _, last = saved_steps(tmp_path)
    whole = (tmp_path / "model" / "model.safetensors").read_bytes()
    max((tmp_path / "checkpoints").iterdir()).unlink()
    assert train(config, tmp_path, resume=True).steps == last
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == whole


def test_the_last_step_is_saved_before_any_step_that_depends_on_it(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a checkpoint of the same step was written just before."""
    whole, saved = Trainer._step, []

    def step(self: Trainer, batches: Iterator[dict[str, Tensor]]) -> None:
        if self.schedule.decays_over is not None:
            found = find_last(tmp_path / "checkpoints")
            assert found is not None
            content = torch.load(found.path, weights_only=True)
            saved.append((content["time"]["decays_over"], list(self.schedule.decays_over)))
        whole(self, batches)

    monkeypatch.setattr(Trainer, "_step", step)
    train(replace(config, checkpoint_every=1), tmp_path)
    assert saved
    assert all(in_file == known for in_file, known in saved)


def test_a_run_whose_time_is_over_makes_no_more_steps(
    config: TrainingConfig, tmp_path: Path, slow_steps: list[float]
) -> None:
    steps = train(config, tmp_path).steps
    assert train(config, tmp_path, resume=True).steps == steps == len(slow_steps)
    with pytest.raises(ConfigError, match=r"minutes=0.0\d+, but the .* has minutes=5"):
        train(replace(config, minutes=5.0), tmp_path, resume=True)


def test_the_time_before_a_run_was_killed_counts(
    config: TrainingConfig, tmp_path: Path, slow_steps: list[float]
) -> None:
    train(replace(config, minutes=1000, max_steps=3), tmp_path)  # stopped long before its time
    found = find_last(tmp_path / "checkpoints")
    assert found is not None
    content = torch.load(found.path, weights_only=True)
    assert 3 * STEP_S < content["time"]["elapsed_s"] < 60
    assert content["time"]["decays_over"] is None


def test_no_more_than_max_steps_are_made(
    config: TrainingConfig, tmp_path: Path, slow_steps: list[float]
) -> None:
    assert train(replace(config, minutes=1000, max_steps=4), tmp_path).steps == 4
    assert slow_steps[-1] < config.learning_rate  # it falls over the last of these steps


def test_without_steps_before_the_decay_nobody_knows_how_many_there_is_time_for(
    config: TrainingConfig,
) -> None:
    with pytest.raises(ConfigError, match=r"minutes=3 needs a decay_fraction below 1, such as 0.3"):
        replace(config, minutes=3.0, decay_fraction=1.0)
    for minutes in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="minutes=.* must be finite and not negative"):
            replace(config, minutes=minutes)
