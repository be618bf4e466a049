"""wavenet.training.checkpoints: a run that was killed and resumed is the run that never was."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import random
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from training_runs import SMALL, checkpoint_bits

import wavenet
from wavenet.training import ConfigError, TrainingConfig, TrainingError
from wavenet.training.checkpoints import KEPT, _digest, find_last, require_same_run
from wavenet.training.run import train


@pytest.fixture(scope="module")
def config(tones: Path) -> TrainingConfig:
    """Two dozen steps of two accumulated batches, with everything that has a state."""
    return TrainingConfig(
        corpus=str(tones),
        model=SMALL,
        window_s=0.02,
        batch_size=4,
        validation_windows=3,
        max_steps=24,
        warmup_steps=4,
        validate_every=5,
        checkpoint_every=3,
        listen_every=0,
        trainer={
            "accelerator": "cpu",
            "accumulate_grad_batches": 2,
            "enable_progress_bar": False,
        },
    )


@pytest.fixture(scope="module")
def whole(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that is not interrupted."""
    out = tmp_path_factory.mktemp("whole")
    train(config, out)
    return out


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    out = tmp_path / "finished"
    for path in whole.rglob("*"):
        if path.is_file():
            copy = out / path.relative_to(whole)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return out


def checkpoints(out: Path) -> list[Path]:
    """Oldest first."""
    return sorted((out / "checkpoints").iterdir())


def state(out: Path) -> Any:
    """Everything in the last checkpoint: weights, averages, optimiser, schedule, step."""
    return checkpoint_bits(checkpoints(out)[-1])


def assert_same_end(one: Path, other: Path) -> None:
    assert state(one) == state(other)
    a, b = ((out / "model" / "model.safetensors").read_bytes() for out in (one, other))
    assert a == b


# --- killed ---


@contextlib.contextmanager
def in_another_process(
    processes: ForkServerContext, config: TrainingConfig, out: Path
) -> Iterator[BaseProcess]:
    """``train`` with ``resume``."""
    process = processes.Process(target=train, args=(config, out), kwargs={"resume": True})
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_bits(
    tmp_path: Path, config: TrainingConfig, whole: Path, processes: ForkServerContext, kills: int
) -> None:
    """SIGKILL while windows are prepared by workers, wherever a step, a file or a validation is."""
    config, draw, steps = replace(config, workers=2), random.Random(kills), []
    for _ in range(kills):
        with in_another_process(processes, config, tmp_path) as process:
            before = find_last(tmp_path / "checkpoints")
            deadline = time.monotonic() + 60
            while process.is_alive() and find_last(tmp_path / "checkpoints") in (None, before):
                if before is not None and draw.random() < 0.05:
                    break  # before the first checkpoint of its own
                assert time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(draw.uniform(0, 0.3))
        last = find_last(tmp_path / "checkpoints")
        steps.append(-1 if last is None else last.step)
    assert steps == sorted(steps)
    result = train(config, tmp_path, resume=True)
    assert result.steps == 24
    assert_same_end(whole, tmp_path)


def test_two_checkpoints_are_kept_and_a_run_that_is_complete_stays_as_it_is(
    config: TrainingConfig, whole: Path, finished: Path
) -> None:
    assert [int(path.name[5:13]) for path in checkpoints(finished)] == [21, 24]
    assert len(checkpoints(finished)) == KEPT
    names = [path.name for path in checkpoints(finished)]
    result = train(config, finished, resume=True)
    assert result.steps == 24
    assert result.bits_before > result.bits_after
    assert [path.name for path in checkpoints(finished)] == names
    assert_same_end(whole, finished)


@pytest.mark.parametrize("damage", ["no folder", "no weights", "cut"])
def test_a_model_that_was_removed_or_damaged_is_written_again(
    config: TrainingConfig, whole: Path, finished: Path, damage: str, caplog: Any
) -> None:
    weights = finished / "model" / "model.safetensors"
    if damage == "no folder":
        shutil.rmtree(finished / "model")
    elif damage == "no weights":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:100])
    train(config, finished, resume=True)
    for name in ("model.safetensors", "config.json"):
        assert (finished / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()
    assert f"{finished}/model is no whole model; it is written again" in caplog.text


def test_with_nothing_to_resume_it_begins(
    tmp_path: Path, config: TrainingConfig, whole: Path
) -> None:
    result = train(replace(config, workers=1), tmp_path, resume=True)
    assert result.steps == 24
    assert_same_end(whole, tmp_path)


def test_what_a_killed_process_left_unfinished_is_taken_away(
    config: TrainingConfig, finished: Path
) -> None:
    folders = ("", "model", "checkpoints", "samples", "samples/step-000500", "samples/reference")
    left = [finished / name / f".{'0123456789abcdef'}.tmp" for name in folders]
    others = [finished / "samples" / name for name in (".mine.tmp", "0123456789abcdef.tmp")]
    for path in (*left, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    train(config, finished, resume=True)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)


def test_checkpoints_are_whole_at_every_moment_with_temporary_files_elsewhere(
    tmp_path: Path, config: TrainingConfig, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm to be another file system than that of the tests")
    seen: list[Path] = []
    broken: list[str] = []
    over = threading.Event()

    def keep_looking() -> None:
        while not over.is_set():
            for path in (tmp_path / "checkpoints").glob("*.ckpt"):
                with contextlib.suppress(FileNotFoundError):  # as newer ones came
                    if _digest(path.read_bytes()) not in path.name:
                        broken.append(path.name)
                    seen.append(path)

    with tempfile.TemporaryDirectory(dir=memory) as elsewhere:
        monkeypatch.setattr(tempfile, "tempdir", elsewhere)
        reader = threading.Thread(target=keep_looking)
        reader.start()
        try:
            train(replace(config, checkpoint_every=1), tmp_path)
            left = os.listdir(elsewhere)
        finally:
            over.set()
            reader.join()
    assert not broken
    assert not left
    assert len(set(seen)) >= 5
    assert_same_end(whole, tmp_path)


def test_a_checkpoint_that_lightnings_trainer_wrote_is_gone_on_from(
    config: TrainingConfig, whole: Path, finished: Path
) -> None:
    """It had further keys, and the learning rate of the next step."""
    before, newest = checkpoints(finished)
    content = torch.load(before, weights_only=True)
    (group,) = content["optimizer_states"][0]["param_groups"]
    content |= {"epoch": 0, "pytorch-lightning_version": "2.6.6", "loops": {}}
    content["lr_schedulers"] = [{"last_epoch": 21, "base_lrs": [config.learning_rate]}]
    content["callbacks"]["Averaging"] = {"latest_update_step": 21}
    group["lr"] *= 0.5
    buffer = io.BytesIO()
    torch.save(content, buffer)
    newest.unlink()
    before.unlink()
    name = f"step-00000021-{_digest(buffer.getvalue())}.ckpt"
    (finished / "checkpoints" / name).write_bytes(buffer.getvalue())
    train(config, finished, resume=True)
    assert_same_end(whole, finished)


# --- damaged ---


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_one_bit(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def empty(content: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [cut, flip_one_bit, empty])
def test_a_damaged_checkpoint_is_passed_over_with_a_line(
    config: TrainingConfig,
    whole: Path,
    finished: Path,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, newest = checkpoints(finished)
    newest.write_bytes(damage(newest.read_bytes()))
    with caplog.at_level(logging.INFO, "wavenet"):
        train(config, finished, resume=True)
    messages = [record.getMessage() for record in caplog.records]
    assert f"{newest} is damaged; looking for the one before" in messages
    assert f"going on from step 21: {before}" in messages
    assert [int(path.name[5:13]) for path in checkpoints(finished)] == [21, 24]
    assert all(_digest(path.read_bytes()) in path.name for path in checkpoints(finished))
    assert_same_end(whole, finished)


def test_a_checkpoint_that_goes_while_the_folder_is_read_is_passed_over(
    config: TrainingConfig, whole: Path, finished: Path
) -> None:
    """Listed, and gone when it is looked at: so is a link to nothing."""
    _, newest = checkpoints(finished)
    gone = newest.with_name(newest.name.replace("step-", "step-9"))
    gone.symlink_to(newest.with_name("nothing"))
    train(config, finished, resume=True)
    gone.unlink()
    assert_same_end(whole, finished)


def test_checkpoints_that_are_all_damaged_are_one_line_and_the_model_stays(
    config: TrainingConfig, finished: Path
) -> None:
    for path in checkpoints(finished):
        path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(TrainingError, match="none of the 2 checkpoints in .* is whole; train anew"):
        train(config, finished, resume=True)
    assert wavenet.load(finished / "model").sample_rate == 8000


class Trap:
    """Would make a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    saves: list[Callable[..., None]] = [torch.save, partial(pickle.dump, protocol=2)]
    for i, save in enumerate(saves):
        with open(tmp_path / "trap", "wb") as file:
            save({"global_step": 9, "run": Trap(sprung)}, file)
        content = (tmp_path / "trap").read_bytes()
        (tmp_path / f"step-0000000{i}-{_digest(content)}.ckpt").write_bytes(content)
    with pytest.raises(TrainingError, match="none of the 2 checkpoints"):
        find_last(tmp_path)
    assert not sprung.exists()


# --- another run ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed=0, but the configuration now has seed=1; set it back"),
        ({"max_steps": 30}, "max_steps=24, but the configuration now has max_steps=30"),
        ({"learning_rate": 1e-4}, "learning_rate=0.002, but .* learning_rate=0.0001"),
        ({"ema_decay": 0.0}, "ema_decay=0.999, but .* ema_decay=0.0"),
        ({"batch_size": 8}, "batch_size=4, but .* batch_size=8"),
        ({"model": {**SMALL, "stacks": 2}}, "model.stacks=1, but .* model.stacks=2"),
        (
            {"trainer": {"accelerator": "cpu", "precision": "bf16-mixed"}},
            "trainer.precision=None, but .* trainer.precision=bf16-mixed",
        ),
    ],
)
def test_another_configuration_is_one_line_with_both_values(
    config: TrainingConfig, finished: Path, changes: dict[str, Any], message: str
) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=message) as caught:
        train(replace(config, **changes), finished, resume=True)
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}


def test_another_corpus_is_one_line(config: TrainingConfig, finished: Path, tmp_path: Path) -> None:
    for path in Path(config.corpus).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    moved = replace(config, corpus=str(tmp_path))
    assert train(moved, finished, resume=True).steps == 24  # its location does not matter
    soundfile.write(tmp_path / "more.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    with pytest.raises(ConfigError, match="corpus_content.files=8, but .* corpus_content.files=9"):
        train(moved, finished, resume=True)


def test_what_no_weight_depends_on_may_change(
    config: TrainingConfig, whole: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints(finished)[-1].unlink()
    trainer = {**config.trainer, "log_every_n_steps": 1}
    changes = {"validate_every": 2, "checkpoint_every": 1, "workers": 1, "validation_windows": 1}
    with caplog.at_level(logging.WARNING, "wavenet"):
        train(replace(config, trainer=trainer, **changes), finished, resume=True)
    assert not caplog.records
    assert state(whole)["state_dict"] == state(finished)["state_dict"]
    assert state(whole)["optimizer_states"] == state(finished)["optimizer_states"]


def test_where_things_lie_may_change(
    config: TrainingConfig, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = {**config.trainer, "default_root_dir": str(tmp_path)}
    elsewhere = {"cache": str(tmp_path / "cache"), "corpus_root": str(tmp_path), "download": True}
    with caplog.at_level(logging.WARNING, "wavenet"):
        assert train(replace(config, trainer=trainer, **elsewhere), finished, resume=True).steps
    assert not caplog.records


def test_the_model_to_start_from_may_lie_elsewhere_but_not_be_another(
    config: TrainingConfig, whole: Path, tmp_path: Path
) -> None:
    for name in ("one", "moved"):
        shutil.copytree(whole / "model", tmp_path / name)
    tuned = replace(config, model={}, init_from=str(tmp_path / "one"), max_steps=1)
    train(tuned, tmp_path / "out")
    moved = replace(tuned, init_from=str(tmp_path / "moved"))
    assert train(moved, tmp_path / "out", resume=True).steps == 1
    other = wavenet.load(tmp_path / "one")
    torch.nn.init.zeros_(other.head[1].weight)
    other.save(tmp_path / "moved")
    with pytest.raises(ConfigError, match="the run to go on with has init_from_weights="):
        train(moved, tmp_path / "out", resume=True)


def test_a_run_of_an_older_version_goes_on_with_the_defaults_of_newer_keys() -> None:
    model = wavenet.WaveNetConfig().to_dict()
    now = {**asdict(TrainingConfig()), "model": model, "init_from_weights": None}
    then = {key: value for key, value in now.items() if key not in ("recompute", "drop_mel")}
    del then["init_from_weights"]
    then["model"] = {key: value for key, value in model.items() if key != "unconditional"}
    require_same_run(then, now)
    with pytest.raises(ConfigError, match="has drop_mel=0.1, but the configuration now has"):
        require_same_run(then, {**now, "drop_mel": 0.2})
    with pytest.raises(ConfigError, match="has init_from=None, but the configuration now has"):
        require_same_run(then, {**now, "init_from": "a"})


def test_another_machine_makes_the_same_steps_up_to_rounding_and_says_so(
    config: TrainingConfig, whole: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints(finished)[-1].unlink()
    trainer = {**config.trainer, "accumulate_grad_batches": 1}
    with caplog.at_level(logging.WARNING, "wavenet"):
        train(replace(config, trainer=trainer), finished, resume=True)
    (record,) = caplog.records
    assert re.match("trainer.accumulate_grad_batches was 2 and is now 1: ", record.getMessage())
    one, other = (wavenet.load(out / "model") for out in (whole, finished))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_model_without_checkpoints_is_not_begun_anew(
    config: TrainingConfig, finished: Path
) -> None:
    for path in checkpoints(finished):
        path.unlink()
    with pytest.raises(ConfigError, match="holds a model of 24 steps, but no checkpoint to go on"):
        train(config, finished, resume=True)


def test_without_resume_a_folder_with_checkpoints_is_left_alone(
    config: TrainingConfig, finished: Path
) -> None:
    for path in (finished / "model").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="already holds a model; choose .*, or go on with --res"):
        train(config, finished)


# --- averages ---


def test_the_model_has_the_averages_and_the_decay_rises_to_its_value(
    tmp_path: Path, config: TrainingConfig
) -> None:
    for decay, expected in ((0.999, 2 / 11), (0.1, 0.1)):  # of the second update
        out = tmp_path / str(decay)
        train(replace(config, max_steps=2, checkpoint_every=1, ema_decay=decay), out)
        one, two = (torch.load(path, weights_only=True) for path in checkpoints(out))
        model = wavenet.load(out / "model").state_dict()
        for name, now in two["current_model_state"].items():
            first = one["current_model_state"][name]
            assert torch.equal(one["state_dict"][name], first)
            average = two["state_dict"][name]
            torch.testing.assert_close(average, expected * first + (1 - expected) * now)
            assert torch.equal(model[name.removeprefix("model.")], average)
        assert any(
            not torch.equal(two["current_model_state"][name], two["state_dict"][name])
            for name in two["state_dict"]
        )


def test_without_averages_the_model_has_the_weights(tmp_path: Path, config: TrainingConfig) -> None:
    train(replace(config, max_steps=2, ema_decay=0.0), tmp_path)
    content = torch.load(checkpoints(tmp_path)[-1], weights_only=True)
    assert "current_model_state" not in content
    for name, weight in wavenet.load(tmp_path / "model").state_dict().items():
        assert torch.equal(weight, content["state_dict"][f"model.{name}"])
