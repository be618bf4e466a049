"""A mistake is found before the folder is begun, and the corrected command is not refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wavenet import WaveNet
from wavenet.training import TrainingConfig, TrainingError
from wavenet.training.config import ConfigError
from wavenet.training.module import WaveNetTraining
from wavenet.training.run import train
from wavenet.training.sizes import MOST_LAYERS, check_sizes, parameter_count, step_bytes
from wavenet.training.trainer import Trainer

SMALL = {
    "sample_rate": 8000,
    "layers_per_stack": 3,
    "stacks": 1,
    "residual_channels": 8,
    "skip_channels": 8,
    "distribution": "gaussian",
}

LONG_MEL = {"sample_rate": 8000, "f_max_hz": 4000.0, "n_fft": 2**50}


@pytest.fixture
def make(tones: Path) -> Callable[..., TrainingConfig]:
    def make(**changes: Any) -> TrainingConfig:
        trainer = {"accelerator": "cpu", "enable_progress_bar": False, **changes.pop("trainer", {})}
        settings = {"window_s": 0.02, "batch_size": 2, "validation_windows": 2, "max_steps": 2}
        given = {"corpus": str(tones), "listen_every": 0, "trainer": trainer, **settings, **changes}
        return TrainingConfig(**{**given, "model": {**SMALL, **changes.get("model", {})}})

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_s": 1e9}, r"window_s=1e\+09 makes a training step need at least .* GB of memory"),
        ({"window_s": 1e308}, r"window_s=1e\+308 makes .* of 8.00e\+311 samples"),
        (
            {"model": {"layers_per_stack": 70}},
            "layers_per_stack=70, .* reach back",
        ),
        (
            {"model": {"layers_per_stack": 10**9}},
            "layers_per_stack=10.* must be at most",
        ),
        ({"model": {"stacks": 10**30}}, "stacks=1000.* must be at most 2048"),
        (
            {"model": {"residual_channels": 10**6}},
            "residual_channels=10.* must be at most",
        ),
        ({"model": {"skip_channels": 10**300}}, "skip_channels=1000.* must be at most 65536"),
        ({"model": {"sample_rate": 10**9}}, "sample_rate=1000000000 must be at most"),
        ({"model": {"mel": LONG_MEL}}, "n_fft=11.* must be at most"),
        ({"batch_size": 10**6}, "batch_size=1000000 makes a training step need"),
        ({"trainer": {"limit_val_batches": 0}}, "limit_val_batches is not for this; set valid"),
        ({"trainer": {"limit_train_batches": 1e-9}}, "limit_train_batches is not for this; set"),
        ({"trainer": {"fast_dev_run": True}}, "trainer.fast_dev_run is not for this"),
        ({"trainer": {"max_epochs": 0}}, "trainer.max_epochs is not for this; set max_steps"),
        ({"trainer": {"max_time": "00:01:00:00"}}, "trainer.max_time is not for this; set minutes"),
        ({"trainer": {"strategy": "fsdp"}}, "trainer.strategy='fsdp' is not for this; use ddp"),
        ({"trainer": {"acelerator": "cpu"}}, "'acelerator' is .*; did you mean accelerator"),
        ({"trainer": {"accumulate_grad_batches": 0}}, "must be a whole number, 1 or more"),
        ({"trainer": {"log_every_n_steps": "a"}}, "must be a whole number, 0 or more"),
        ({"trainer": {"benchmark": "a"}}, "expects a bool, but got str"),
        ({"trainer": {"precision": 7}}, "Precision 7 is invalid"),
    ],
)
def test_a_mistake_is_one_line_and_the_corrected_run_begins(
    tmp_path: Path, make: Callable[..., TrainingConfig], changes: dict[str, Any], message: str
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=message) as caught:
        train(make(**changes), out)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def fail_in_the_first_step(*_: object) -> torch.Tensor:
    raise RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried")


def test_what_fails_in_the_first_step_leaves_the_folder_as_it_was(
    tmp_path: Path, make: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "mine.txt").touch()
    with monkeypatch.context() as patch:
        patch.setattr(WaveNetTraining, "training_step", fail_in_the_first_step)
        with pytest.raises(ValueError, match="not enough memory for batch_size=2 windows of wind"):
            train(make(), tmp_path)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "samples",
        "samples/mine.txt",
    ]
    assert train(make(), tmp_path).steps == 2


def test_what_fails_after_a_step_leaves_what_was_trained(
    tmp_path: Path, make: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer._step

    def step(self: Trainer, batches: Any) -> None:
        if self.global_step:
            fail_in_the_first_step()
        whole(self, batches)

    monkeypatch.setattr(Trainer, "_step", step)
    with pytest.raises(ValueError, match="not enough memory"):
        train(make(max_steps=3, checkpoint_every=1), tmp_path)
    assert len(os.listdir(tmp_path / "checkpoints")) == 2
    monkeypatch.undo()
    assert train(make(max_steps=3, checkpoint_every=1), tmp_path, resume=True).steps == 3


@pytest.mark.parametrize("resume", [False, True])
def test_a_recipe_in_the_folder_is_not_replaced_by_the_settings(
    tmp_path: Path, make: Callable[..., TrainingConfig], resume: bool
) -> None:
    (tmp_path / "config.yaml").write_text("corpus: mine  # with remarks\n")
    with pytest.raises(ValueError, match=r"holds a config.yaml and no model; choose another fol"):
        train(make(), tmp_path, resume=resume)
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_an_error_of_training_is_still_one(
    tmp_path: Path, make: Callable[..., TrainingConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message states that the model is kept."""

    def refuse(*_: object) -> None:
        raise TrainingError("the last good model is kept")

    monkeypatch.setattr(Trainer, "train", refuse)
    with pytest.raises(TrainingError):
        train(make(), tmp_path)
    assert (tmp_path / "model" / "config.json").exists()


@pytest.mark.parametrize("preset", ["tiny", "small", "medium", "nv"])
def test_the_bounds_are_below_what_a_model_has(preset: str) -> None:
    config = TrainingConfig(model={"preset": preset})
    model = config.model_config()
    actual = sum(parameter.numel() for parameter in WaveNet(model).parameters())
    assert 0.9 * actual < parameter_count(model) <= actual + 80 * 1025  # a filterbank is counted
    assert step_bytes(config, model) < 2e9
    check_sizes(config, model)


def test_the_bound_of_a_step_is_what_the_window_keeps() -> None:
    """Two layers of dilations 1 and 2, three samples wanted: reaches of 0, 2 and 3 behind them."""
    sizes = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 4, "skip_channels": 8}
    config = TrainingConfig(
        model={"sample_rate": 1000, **sizes}, window_s=0.003, batch_size=2, trainer={"devices": 2}
    )
    gates, inputs = 8 * (3 + 5), 4 * (5 + 6)
    entry = 4 * 6 + 8 * 3
    assert step_bytes(config, config.model_config()) == 4 * (gates + inputs + entry)


def test_the_deepest_network_that_is_allowed_is_judged_at_once() -> None:
    config = TrainingConfig(model={"layers_per_stack": MOST_LAYERS, "stacks": 1})
    with pytest.raises(ValueError, match="layers_per_stack=10000 must be at most 2048"):
        check_sizes(config, config.model_config())


def test_a_url_is_no_folder_for_a_run(
    make: Callable[..., TrainingConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="out='s3://bucket/run' is a URL; name a folder of this"):
        train(make(), "s3://bucket/run")
    assert not list(tmp_path.iterdir())
