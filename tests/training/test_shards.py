"""Training from a store: as from a folder; the same after any kill and on any number of ranks."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import s3_server
import yaml
from training_runs import SMALL, checkpoint_bits

from wavenet.cli.main import main
from wavenet.data import find_corpus, write_shards
from wavenet.storage import object_store
from wavenet.training import ConfigError, TrainingConfig
from wavenet.training.checkpoints import find_last
from wavenet.training.run import train

A_TONE = 17_000
"""Size of a shard that holds one of the tones."""


@pytest.fixture(scope="module")
def config(tones: Path) -> TrainingConfig:
    """Some ten groups of windows, where the cache holds four of eight shards."""
    return TrainingConfig(
        corpus=str(tones),
        model=SMALL,
        cache_gb=7e-5,
        window_s=0.2,
        batch_size=4,
        validation_windows=4,
        max_steps=32,
        warmup_steps=4,
        validate_every=8,
        checkpoint_every=2,
        listen_every=0,
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )


@pytest.fixture(scope="module")
def streamed(config: TrainingConfig, tones: Path, s3: s3_server.Proxy) -> TrainingConfig:
    """The same from S3."""
    url = "s3://bucket/tones"
    write_shards(find_corpus(str(tones)), url, 8000, shard_bytes=A_TONE)
    return replace(config, corpus=url)


@pytest.fixture(scope="module")
def whole(streamed: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole")
    train(replace(streamed, cache=str(out / "cache")), out / "run")
    return out / "run"


def state(out: Path) -> Any:
    """Everything in the last checkpoint, but the settings."""
    last = find_last(out / "checkpoints")
    assert last is not None
    return checkpoint_bits(Path(last.path))


def test_a_corpus_that_fits_the_cache_is_trained_on_bit_for_bit_as_its_folder(
    config: TrainingConfig, tones: Path, tmp_path: Path
) -> None:
    write_shards(find_corpus(str(tones)), str(tmp_path / "store"), 8000, shard_bytes=A_TONE)
    config = replace(config, max_steps=6, checkpoint_every=3)
    stored = replace(config, corpus=f"file://{tmp_path / 'store'}", cache_gb=1.0)
    one, other = train(config, tmp_path / "one"), train(stored, tmp_path / "other")
    assert state(tmp_path / "one") == state(tmp_path / "other")
    assert one.constant_bits == other.constant_bits
    with pytest.raises(ConfigError, match="the run to go on with has corpus_content.hash="):
        train(replace(stored, cache_gb=7e-5), tmp_path / "one", resume=True)
    *_, last = sorted((tmp_path / "one" / "checkpoints").iterdir())
    last.unlink()
    train(stored, tmp_path / "one", resume=True)  # of the folder's run, from the store
    assert state(tmp_path / "one") == state(tmp_path / "other")


RUN = """
import sys
from wavenet.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_twenty_times_while_streaming_it_ends_with_the_same_bits(
    streamed: TrainingConfig,
    whole: Path,
    s3: s3_server.Proxy,
    start_python: Callable[..., BaseProcess],
    tmp_path: Path,
) -> None:
    """SIGKILL at random moments, each with a cold cache, from a store that is slow."""
    draw, steps = random.Random(0), []
    s3.reset()
    s3.delay_s = 0.2
    for turn in range(20):
        config = replace(streamed, cache=str(tmp_path / f"cache-{turn}"), workers=turn % 3)
        last = find_last(tmp_path / "run" / "checkpoints")
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(asdict(config)))
        command = ["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run"), "--resume"]
        printed, deadline = tmp_path / "printed", time.monotonic() + 120
        process = start_python(printed, RUN, *command, **s3_server.environment(s3))
        try:
            while not list((tmp_path / f"cache-{turn}").glob("shards/*.i16")):
                assert process.is_alive(), Path(f"{printed}.err").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.8))
            while turn % 4 == 0 and process.is_alive():  # so that it gets on
                assert time.monotonic() < deadline
                found = find_last(tmp_path / "run" / "checkpoints")
                if found is not None and (last is None or found.step > last.step):
                    break
                time.sleep(0.01)
        finally:
            process.kill()
            process.join()
        assert process.exitcode in (-9, 0), Path(f"{printed}.err").read_text()
        found = find_last(tmp_path / "run" / "checkpoints")
        steps.append(-1 if found is None else found.step)
    s3.reset()
    assert steps == sorted(steps)
    assert steps[-1] > 2
    result = train(replace(streamed, cache=str(tmp_path / "cache")), tmp_path / "run", resume=True)
    assert result.steps == 32
    assert state(tmp_path / "run") == state(whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_that_fails_amid_a_run_ends_it_in_one_line_and_it_resumes(
    streamed: TrainingConfig,
    whole: Path,
    s3: s3_server.Proxy,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    monkeypatch.setattr(object_store, "FIRST_WAIT_S", 0.01)
    config = replace(streamed, cache=str(tmp_path / "cache"), workers=workers)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(asdict(config)))
    command = ["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]
    s3.reset()
    s3.works = 14
    try:
        assert main(command) == 2
    finally:
        s3.reset()
    reported = capsys.readouterr().err.splitlines()
    assert reported[-1].startswith("wavenet train: s3://bucket/tones/shards/")
    assert reported[-1].endswith("check the store and the network, then run the command again")
    assert "Traceback" not in "".join(reported)
    last = find_last(tmp_path / "run" / "checkpoints")
    assert last is not None
    assert last.step < 32
    assert main([*command, "--resume"]) == 0
    assert state(tmp_path / "run") == state(whole)


RANK = """
import os, sys
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from wavenet.cli.main import main

rank_zero_only.rank = int(os.environ["LOCAL_RANK"])  # as if Lightning were imported now
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_four_ranks_killed_and_resumed_end_with_the_same_bits(
    streamed: TrainingConfig,
    start_python: Callable[..., BaseProcess],
    s3: s3_server.Proxy,
    tmp_path: Path,
) -> None:
    """They share one cache, smaller than the corpus."""

    def start(name: str) -> list[BaseProcess]:
        trainer = {**streamed.trainer, "devices": 4}
        config = replace(streamed, cache=str(tmp_path / f"cache-{name}"), trainer=trainer)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(asdict(config)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        command = ["train", str(tmp_path / f"{name}.yaml"), "--out", str(tmp_path / name)]
        where |= s3_server.environment(s3)
        return [
            start_python(
                tmp_path / f"printed-{name}-{rank}",
                RANK,
                *command,
                "--resume",
                **where,
                LOCAL_RANK=str(rank),
            )
            for rank in range(4)
        ]

    def finish(name: str) -> None:
        ranks = start(name)
        for process in ranks:
            process.join()
        errors = (tmp_path / f"printed-{name}-0.err").read_text()
        assert [process.exitcode for process in ranks] == [0] * 4, errors

    s3.reset()
    finish("whole")
    ranks = start("killed")
    deadline = time.monotonic() + 300
    while (last := find_last(tmp_path / "killed" / "checkpoints")) is None or last.step < 6:
        assert time.monotonic() < deadline
        assert all(process.is_alive() for process in ranks)
        time.sleep(0.01)
    for process in ranks:
        process.kill()
    for process in ranks:
        process.join()
    assert last.step < 32
    finish("killed")
    assert state(tmp_path / "killed") == state(tmp_path / "whole")
