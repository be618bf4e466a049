"""Speed of windows and training from a store beside the mapped folder, and memory at 100 GB.

    python benchmarks/store_speed.py FOLDER WORKPLACE URL

FOLDER has recordings at 16 kHz, URL is a place in a store that gets their shards, and WORKPLACE is
a folder for caches and runs. Windows are those of the preset ``tiny``, 0.5 s, without a mel, so
that nothing but reading is measured; training is that of batches of 4. One thread; medians of
rounds that take turns, of CPU time, as other work on the machine does not change it, and of time.
For 100 GB the index repeats the shards; recordings have 5 s.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from wavenet import WaveNet, WaveNetConfig
from wavenet.data import Corpus, Store, WindowPlan, Windows, find_corpus, read_cached, write_shards
from wavenet.data.shard_index import INDEX_NAME, ShardIndex
from wavenet.storage.object_store import fetch, put
from wavenet.training import TrainingConfig
from wavenet.training.run import train

RATE, BATCH, ROUNDS = 16_000, 8, 5


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """CPU time and time that some work takes."""
    cpu_s, time_s = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu_s, time.perf_counter() - time_s


def read(corpus: Corpus, n_windows: int) -> None:
    plan = WindowPlan.of(WaveNet(WaveNetConfig.preset("tiny")), 0.5)
    data = Windows(corpus, plan, n_windows=n_windows, seed=0, shuffle_shards=True)
    for first in range(0, n_windows, BATCH):
        data.__getitems__(range(first, first + BATCH))


def resident_mb(key: str = "VmRSS") -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1e3


def private_mb() -> float:
    """Resident memory without mapped files."""
    return resident_mb("RssAnon")


def windows_per_second(folder: Path, place: Path, url: str) -> None:
    mapped = read_cached(find_corpus(str(folder)), RATE, cache=place / "folder")
    size = 2 * mapped.n_samples / 1e9
    whole = Store(url, place / "whole", 2 * size).open(RATE)
    warm = Store(url, place / "warm", 0.9 * size, most_in_group=4).open(RATE)
    n = 4000
    read(warm, n)
    kinds = {"folder, mapped": mapped, "store, fits the cache": whole, "store, in groups": warm}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, corpus in kinds.items():
            found[name].append(seconds(lambda corpus=corpus: read(corpus, n)))
    cold_s: list[float] = []
    for _ in range(3):
        with tempfile.TemporaryDirectory(dir=place) as cold:
            begun = time.perf_counter()
            read(Store(url, cold, 0.9 * size, most_in_group=4).open(RATE), n)
            cold_s.append(time.perf_counter() - begun)
    for name, rounds in found.items():
        cpu_s, time_s = (statistics.median(column) for column in zip(*rounds, strict=True))
        say(f"{name}: {n / cpu_s:.0f} windows per s of CPU, {n / time_s:.0f} per s")
    say(f"store, in groups, cold: {n / statistics.median(cold_s):.0f} windows per s")


def training_ratio(folder: Path, place: Path, url: str) -> None:
    base = TrainingConfig(
        model={"preset": "tiny"},
        window_s=0.25,
        batch_size=4,
        max_steps=30,
        validation_windows=1,
        validate_every=30,
        checkpoint_every=30,
        listen_every=0,
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )
    size = sum(ShardIndex.read(index_of(url, place), url).shard_bytes) / 1e9
    kinds = {
        "folder": replace(base, corpus=str(folder), cache=str(place / "folder")),
        "store": replace(base, corpus=url, cache=str(place / "whole"), cache_gb=2 * size),
        "groups": replace(base, corpus=url, cache=str(place / "warm"), cache_gb=0.9 * size),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for turn in range(ROUNDS):
        for name, config in kinds.items():
            out = place / f"run-{name}-{turn}"
            took = seconds(lambda config=config, out=out: train(config, out))
            if turn:
                found[name].append(took)
    cpu = {name: [a for a, _ in rounds] for name, rounds in found.items()}
    for name in ("store", "groups"):
        ratios = [a / b for a, b in zip(cpu["folder"], cpu[name], strict=True)]
        say(f"training, {name} : folder = {statistics.median(ratios):.3f} (whole runs of 30 steps)")


def index_of(url: str, place: Path) -> Path:
    path = place / "index.json"
    path.touch()
    fetch(url, INDEX_NAME, path)
    return path


def memory_at(place: Path, url: str, gigabytes: float) -> None:
    found = ShardIndex.read(index_of(url, place), url)
    times = max(1, round(gigabytes * 1e9 / sum(found.shard_bytes)))
    n_shards = len(found.shard_sha256)
    shards, offsets, lengths = [], [], []
    for turn in range(times):
        for shard, size in enumerate(found.shard_bytes):
            for at in range(0, size // 2 - 5 * RATE + 1, 5 * RATE):
                shards.append(turn * n_shards + shard)
                offsets.append(at)
                lengths.append(5 * RATE)
    n = len(shards)
    index = replace(
        found,
        content=f"{gigabytes} GB",
        shard_sha256=list(found.shard_sha256) * times,
        shard_bytes=list(found.shard_bytes) * times,
        names=[f"speaker-{i % 100:03}/recording-{i:07}.flac" for i in range(n)],
        speakers=[f"speaker-{i:03}" for i in range(100)],
        speaker=[i % 100 for i in range(n)],
        shard=shards,
        offset=offsets,
        length=lengths,
        digest=[f"{i:032x}" for i in range(n)],
    )
    index.write(place / INDEX_NAME)
    put(f"{url}-large", INDEX_NAME, place / INDEX_NAME)
    for sha256 in set(found.shard_sha256):
        (place / "shard").touch()
        fetch(url, f"shards/{sha256}.i16", place / "shard")
        put(f"{url}-large", f"shards/{sha256}.i16", place / "shard")
    total_gb = sum(index.shard_bytes) / 1e9
    say(f"index: {n} recordings, {total_gb:.1f} GB in {n_shards * times} shards")
    del index, shards, offsets, lengths, found


def memory_of(place: Path, url: str) -> None:
    before = private_mb()
    corpus = Store(f"{url}-large", place / "large", 5.0).open(RATE)
    say(f"opened: {private_mb() - before:.0f} MB more than before, peak {resident_mb('VmHWM'):.0f}")
    train_part, _ = corpus.split(0.05)
    plan = WindowPlan.of(WaveNet(WaveNetConfig.preset("tiny")), 0.5)
    data = Windows(train_part, plan, n_windows=10**9, seed=0, shuffle_shards=True)
    say(f"before the first window: {private_mb():.0f} MB")
    for step in range(5001):
        data.__getitems__(range(step * 4000, step * 4000 + 4))  # every 4000th: through epochs
        if step in (10, 100, 1000, 5000):
            say(f"window {step * 4000}: {private_mb():.0f} MB, mapped {resident_mb('RssFile'):.0f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    corpus_folder, workplace, store_url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    part = sys.argv[4] if len(sys.argv) > 4 else "all"
    workplace.mkdir(parents=True, exist_ok=True)
    if part == "memory":
        memory_of(workplace, store_url)
        sys.exit()
    write_shards(find_corpus(str(corpus_folder)), store_url, RATE, shard_bytes=8 << 20)
    windows_per_second(corpus_folder, workplace, store_url)
    training_ratio(corpus_folder, workplace, store_url)
    memory_at(workplace, store_url, 100.0)
    say("memory: run the same command with `memory` at its end, in a new process")
