"""Training on several devices: the same steps on any. Two processes on the CPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from training_runs import SMALL

import wavenet
from wavenet.training import ConfigError, TrainingConfig
from wavenet.training.checkpoints import find_last
from wavenet.training.run import TrainingResult, train

TWO_PROCESSES = ["--trainer.devices", "2"]


@pytest.fixture(scope="module")
def config(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingConfig:
    """Windows that reach beyond their recordings, so that parts of a step differ in samples."""
    corpus, draw = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for path in tones.iterdir():
        (corpus / path.name).write_bytes(path.read_bytes())
    for i in range(60):
        n = int(draw.integers(20, 300))
        soundfile.write(corpus / f"short-{i}.wav", draw.normal(0, 0.1, n), 8000)
    return TrainingConfig(
        corpus=str(corpus),
        model=SMALL,
        window_s=0.5,
        batch_size=5,  # no multiple of two
        validation_windows=7,
        max_steps=12,
        warmup_steps=4,
        validate_every=5,
        checkpoint_every=4,
        listen_every=0,
        trainer={"accelerator": "cpu", "log_every_n_steps": 1, "enable_progress_bar": False},
    )


@pytest.fixture(scope="module")
def one(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """The run that one process makes, a batch a step, in float32."""
    return train(config, tmp_path_factory.mktemp("one"))


def command(config: TrainingConfig, out: Path, *more: str) -> list[str]:
    recipe = out.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump(asdict(config)))
    return ["train", str(recipe), "--out", str(out), *more]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)


Launch = Callable[[list[str]], tuple[str, str]]
"""Runs a command in two processes; gives what both print, and what they report."""

RANK = """
import os, sys
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from wavenet.cli.main import main

rank_zero_only.rank = int(os.environ["LOCAL_RANK"])  # as if Lightning were imported now
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.fixture(
    params=["started at once", pytest.param("started by Lightning", marks=pytest.mark.slow)]
)
def two_processes(
    request: pytest.FixtureRequest, start_python: Callable[..., BaseProcess], tmp_path: Path
) -> Launch:
    def by_lightning(arguments: list[str]) -> tuple[str, str]:
        """The second by the first: both import it, one after the other."""
        done = run(sys.executable, "-m", "wavenet", *arguments)
        return done.stdout, done.stderr

    def at_once(arguments: list[str]) -> tuple[str, str]:
        """Each finds its number in its environment, as where a cluster starts them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        files = [tmp_path / "printed-0", tmp_path / "printed-1"]
        both = [
            start_python(file, RANK, *arguments, **where, LOCAL_RANK=str(rank))
            for rank, file in enumerate(files)
        ]
        for process in both:
            process.join()
        reported = "".join(Path(f"{file}.err").read_text() for file in files)
        assert [process.exitcode for process in both] == [0, 0], reported
        return "".join(file.read_text() for file in files), reported

    return at_once if request.param == "started at once" else by_lightning


def curve(out: Path, name: str) -> list[tuple[int, float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tensorboard imports is not ours to mend
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(out / "logs"))
    events.Reload()
    # Files come in the order of their names, where the tenth of a process precedes the second.
    return sorted((event.step, event.value) for event in events.Scalars(name))


def assert_same_run(result: TrainingResult, other: Path) -> None:
    """Up to the rounding of sums in another order."""
    one = result.model_folder.parent
    for name in ("train/bits", "valid/bits"):
        a, b = np.array(curve(one, name)), np.array(curve(other, name))
        assert a.shape[0] >= 4
        np.testing.assert_allclose(a, b, rtol=1e-5)
    models = [wavenet.load(out / "model") for out in (one, other)]
    for p, q in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-5)


def test_two_processes_give_the_loss_curve_of_one(
    tmp_path: Path, config: TrainingConfig, one: TrainingResult, two_processes: Launch
) -> None:
    logging = replace(config, listen_every=5, listen_s=0.05)  # by one, while the other waits
    printed, reported = two_processes(command(logging, tmp_path / "two", *TWO_PROCESSES))
    kept = {path.name for path in (tmp_path / "two" / "samples").iterdir()}
    assert kept == {"reference", "step-000005", "step-000010", "step-000012"}
    assert printed.count("trained for 12 steps") == 1
    assert reported.count("validation before training: ") == 1
    assert "Warning" not in reported
    assert_same_run(one, tmp_path / "two")


def test_accumulated_batches_give_the_loss_curve_of_one(
    tmp_path: Path, config: TrainingConfig, one: TrainingResult
) -> None:
    accumulating = {**config.trainer, "accumulate_grad_batches": 3}
    train(replace(config, trainer=accumulating), tmp_path / "three")
    assert_same_run(one, tmp_path / "three")


@pytest.mark.slow
def test_two_processes_of_torchrun_killed_and_resumed_end_with_the_same_bits(
    tmp_path: Path, config: TrainingConfig
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    torchrun += ["--nproc-per-node", "2", "-m", "wavenet"]
    config = replace(config, max_steps=60, workers=1)
    more = [*TWO_PROCESSES, "--resume"]
    run(*torchrun, *command(config, tmp_path / "whole", *more))
    killed = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    reported = tmp_path / "reported"
    with reported.open("w") as errors:
        process = subprocess.Popen(
            [*torchrun, *command(config, killed, *more)],
            env=environment,
            stderr=errors,
            start_new_session=True,
        )
    deadline = time.monotonic() + 400  # a loaded machine takes a minute to import torch four times
    try:
        while (last := find_last(killed / "checkpoints")) is None or last.step < 8:
            assert process.poll() is None, reported.read_text()
            assert time.monotonic() < deadline, reported.read_text()
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    run(*torchrun, *command(config, killed, *more))
    contents = []
    for out in (tmp_path / "whole", killed):
        found = find_last(out / "checkpoints")
        assert found is not None
        assert found.step == 60
        contents.append(torch.load(found.path, weights_only=True))
    one, other = contents
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(one[key][name], other[key][name]) for name in one[key])
    for a, b in zip(_moments(one), _moments(other), strict=True):
        assert torch.equal(a, b)


def _moments(content: dict[str, Any]) -> list[torch.Tensor]:
    (optimiser,) = content["optimizer_states"]
    return [part for state in optimiser["state"].values() for part in state.values()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"batch_size": 2, "trainer": {"accelerator": "cpu", "accumulate_grad_batches": 3}},
            "batch_size=2 leaves a part without a window: .* in 3 batches each; raise it to 3",
        ),
        (
            {"trainer": {"accelerator": "cpu", "strategy": "ddp_spawn"}},
            "trainer.strategy=ddp_spawn copies this process; use ddp",
        ),
    ],
)
def test_what_cannot_be_dealt_is_one_line(
    tmp_path: Path, config: TrainingConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(replace(config, **changes), tmp_path / "out")


def test_bf16_mixed_learns_what_float32_learns(
    tmp_path: Path, config: TrainingConfig, one: TrainingResult
) -> None:
    """Weights stay float32; bits differ by what 8 bits of mantissa in the activations cost."""
    mixed = replace(config, trainer={**config.trainer, "precision": "bf16-mixed"})
    rough = train(mixed, tmp_path / "mixed")
    assert rough.bits_after == pytest.approx(one.bits_after, rel=0.01)
    model = wavenet.load(tmp_path / "mixed" / "model")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_bf16_mixed_learns_so_with_two_samples_a_step(
    tmp_path: Path, config: TrainingConfig
) -> None:
    fine = replace(config, model={**SMALL, "samples_per_step": 2})
    mixed = replace(fine, trainer={**config.trainer, "precision": "bf16-mixed"})
    expected, rough = train(fine, tmp_path / "fine"), train(mixed, tmp_path / "mixed")
    assert rough.bits_after == pytest.approx(expected.bits_after, rel=0.01)
    assert rough.bits_after != expected.bits_after


@pytest.mark.slow
def test_compiled_it_makes_the_same_steps(tmp_path: Path, config: TrainingConfig) -> None:
    config = replace(config, window_s=0.02)
    one = train(config, tmp_path / "one")
    train(replace(config, compile=True), tmp_path / "compiled")
    assert_same_run(one, tmp_path / "compiled")
