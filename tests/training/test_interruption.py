"""Signals end a run between two steps with a checkpoint; one run at a time in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet.storage import files
from wavenet.training import ConfigError, TrainingConfig
from wavenet.training.beginning import LOCK_NAME
from wavenet.training.checkpoints import find_last
from wavenet.training.interruption import SIGNALS
from wavenet.training.module import WaveNetTraining
from wavenet.training.run import train

SMALL = {
    "sample_rate": 8000,
    "layers_per_stack": 3,
    "stacks": 1,
    "residual_channels": 8,
    "skip_channels": 8,
    "distribution": "gaussian",
}


@pytest.fixture(scope="module")
def config(tones: Path) -> TrainingConfig:
    """Two batches make a step."""
    return TrainingConfig(
        corpus=str(tones),
        model=SMALL,
        window_s=0.02,
        batch_size=4,
        validation_windows=2,
        max_steps=12,
        checkpoint_every=5,
        listen_every=0,
        trainer={
            "accelerator": "cpu",
            "accumulate_grad_batches": 2,
            "enable_progress_bar": False,
        },
    )


@pytest.fixture(scope="module")
def whole(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that is not stopped."""
    out = tmp_path_factory.mktemp("whole")
    train(config, out)
    return out


Arm = Callable[[int, list[signal.Signals]], None]


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Arm:
    """``arm(batch, signals)``: they come while that batch, counted from 0, is computed."""

    def set_up(batch: int, signals: list[signal.Signals]) -> None:
        whole, waiting, seen = WaveNetTraining.training_step, list(signals), [0]

        def step(self: WaveNetTraining, content: dict[str, Tensor]) -> Tensor:
            loss = whole(self, content)
            while seen[0] == batch and waiting:
                os.kill(os.getpid(), waiting.pop(0))
            seen[0] += 1
            return loss

        monkeypatch.setattr(WaveNetTraining, "training_step", step)

    return set_up


def last_step(out: Path) -> int:
    found = find_last(out / "checkpoints")
    assert found is not None
    return found.step


def end(out: Path) -> list[bytes]:
    """Weights, averages and moments of the last checkpoint, and the model."""
    found = find_last(out / "checkpoints")
    assert found is not None
    content = torch.load(found.path, weights_only=True)
    (optimiser,) = content["optimizer_states"]
    tensors = [*content["state_dict"].values(), *content["current_model_state"].values()]
    tensors += [part for state in optimiser["state"].values() for part in state.values()]
    return [(out / "model" / "model.safetensors").read_bytes()] + [
        tensor.numpy().tobytes() for tensor in tensors
    ]


@pytest.mark.parametrize(("batch", "workers"), [(14, 0), (15, 1)])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_after_the_step_that_is_made_and_it_goes_on_from_there(
    config: TrainingConfig,
    whole: Path,
    tmp_path: Path,
    arm: Arm,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    batch: int,
    workers: int,
) -> None:
    """Batches 14 and 15 make the eighth step; checkpoints were due after 5 and 10."""
    handlers = [signal.getsignal(each) for each in SIGNALS]
    arm(batch, [number])
    settings: dict[str, Any] = {**vars(config), "workers": workers}
    broken_off = train(TrainingConfig(**settings), tmp_path)
    assert (broken_off.interrupted, broken_off.steps) == (True, 8)
    assert last_step(tmp_path) == 8
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    monkeypatch.undo()
    result = train(config, tmp_path, resume=True)
    assert (result.interrupted, result.steps) == (False, 12)
    assert end(tmp_path) == end(whole)


def test_a_second_signal_ends_it_at_once(config: TrainingConfig, tmp_path: Path, arm: Arm) -> None:
    arm(14, [signal.SIGINT, signal.SIGINT])
    result = train(config, tmp_path)
    assert (result.interrupted, result.steps) == (True, 7)
    assert last_step(tmp_path) == 5


def test_a_terminal_that_closes_ends_no_run_that_ignores_it(
    config: TrainingConfig, tmp_path: Path, arm: Arm
) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        arm(4, [signal.SIGHUP])
        result = train(config, tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (result.interrupted, result.steps) == (False, 12)


def test_a_signal_during_the_first_validation_leaves_nothing_behind(
    config: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its handler leaves the program, as that of the command line does."""

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    def validate(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        monkeypatch.setattr(WaveNetTraining, "validation_step", validate)
        with pytest.raises(SystemExit) as left:
            train(config, tmp_path / "out")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / "out").exists()


def test_a_signal_in_the_last_step_ends_a_run_that_is_complete(
    config: TrainingConfig, tmp_path: Path, arm: Arm
) -> None:
    arm(23, [signal.SIGTERM])
    result = train(config, tmp_path)
    assert (result.interrupted, result.steps) == (False, 12)
    assert last_step(tmp_path) == 12


# --- one at a time ---

HOLD = (
    "import runpy, sys, time\n"
    "files = runpy.run_path(sys.argv[1])\n"
    "with files['claimed'](sys.argv[2]):\n"
    "    print('claimed', flush=True)\n"
    "    time.sleep(600)\n"
)


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_process_in_the_same_folder_is_one_line_until_the_first_is_killed(
    config: TrainingConfig, tmp_path: Path, resume: bool
) -> None:
    command = [sys.executable, "-c", HOLD, files.__file__, str(tmp_path / LOCK_NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "claimed\n"
            with pytest.raises(ConfigError, match="another process is training into out='") as seen:
                train(config, tmp_path, resume=resume)
        finally:
            other.kill()
    assert "\n" not in str(seen.value)
    assert os.listdir(tmp_path) == [LOCK_NAME]  # the first one's
    assert train(config, tmp_path, resume=resume).steps == 12
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_mistake_leaves_no_folder_behind(config: TrainingConfig, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**vars(config), "corpus": ""}
    with pytest.raises(ConfigError, match="corpus is not set"):
        train(TrainingConfig(**settings), tmp_path / "out")
    assert not os.listdir(tmp_path)
