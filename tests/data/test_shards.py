"""wavenet.data: a corpus in a store is the corpus of the folder, within the cache's limit."""

from __future__ import annotations

import hashlib
import logging
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import s3_server
import soundfile
import torch
from torch.utils.data import DataLoader

from wavenet import WaveNet, WaveNetConfig
from wavenet.cli.main import main
from wavenet.data import (
    Corpus,
    CorpusError,
    Store,
    WindowPlan,
    Windows,
    find_corpus,
    read_cached,
    write_shards,
)
from wavenet.data.groups import Groups
from wavenet.data.shard_cache import ShardCache
from wavenet.data.shard_index import INDEX_NAME, ShardIndex
from wavenet.data.shards import groups_within
from wavenet.storage import object_store
from wavenet.storage.object_store import StoreError, store_url

RATE = 8000
SHARD_BYTES = 36_000
"""Some four recordings, which have up to 18 000 bytes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dozen recordings of three speakers, a copy, a silent one and one that is no audio."""
    place, draw = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    for i in range(24):
        path = place / f"speaker-{i % 3}" / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        samples = draw.integers(-9000, 9000, int(draw.integers(500, 9000)), dtype=np.int16)
        soundfile.write(path, samples, RATE)
    (place / "speaker-0" / "copy.wav").write_bytes((place / "speaker-1" / "1.wav").read_bytes())
    soundfile.write(place / "speaker-0" / "silent.wav", np.zeros(900, np.int16), RATE)
    (place / "speaker-2" / "text.wav").write_text("no audio")
    return place


@pytest.fixture(scope="module")
def whole(folder: Path) -> Corpus:
    """The corpus of the folder."""
    return read_cached(find_corpus(str(folder)), RATE)


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of its shards in a folder."""
    place = tmp_path_factory.mktemp("store") / "shards"
    write_shards(find_corpus(str(folder)), str(place), RATE, shard_bytes=SHARD_BYTES)
    return store_url(str(place))


@pytest.fixture(scope="module")
def in_s3(folder: Path, s3: s3_server.Proxy) -> str:
    """The URL of its shards in S3."""
    url = "s3://bucket/corpora/small"
    write_shards(find_corpus(str(folder)), url, RATE, shard_bytes=SHARD_BYTES)
    return url


@pytest.fixture
def faults(s3: s3_server.Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3_server.Proxy]:
    """The proxy before S3, without long waits between attempts."""
    monkeypatch.setattr(object_store, "FIRST_WAIT_S", 0.01)
    yield s3
    s3.reset()


def plan(**changes: object) -> WindowPlan:
    small = {"layers_per_stack": 5, "stacks": 1, "residual_channels": 2, "skip_channels": 2}
    config = WaveNetConfig.from_dict({"sample_rate": RATE, **small, **changes})
    return WindowPlan.of(WaveNet(config), 0.05)


def batches(data: Windows, workers: int = 0) -> list[torch.Tensor]:
    return [batch["x"] for batch in DataLoader(data, 4, num_workers=workers)]


def grouped(store: str, cache: Path, *, gigabytes: float = 1.5e-4) -> Corpus:
    """Open it with a cache of about four shards, in groups of two; it has some eight."""
    return Store(store, cache, gigabytes, most_in_group=2).open(RATE)


# --- the same corpus ---


def test_a_store_holds_the_recordings_speakers_and_content_of_the_folder(
    store: str, whole: Corpus, tmp_path: Path
) -> None:
    found = Store(store, tmp_path).open(RATE)
    assert found.content == whole.content
    assert len(found.skipped) == 2
    assert sorted(found.skipped) == sorted(whole.skipped)
    assert [(u.name, u.speaker) for u in found.utterances] == [
        (u.name, u.speaker) for u in whole.utterances
    ]
    for one, other in zip(found.utterances, whole.utterances, strict=True):
        assert np.array_equal(one.samples[:], other.samples[:])
        assert len(one.samples) == len(other.samples)


def test_every_object_is_named_by_its_hash_and_within_the_size(store: str, whole: Corpus) -> None:
    place = Path(store.removeprefix("file://"))
    index = ShardIndex.read(place / INDEX_NAME, "index")
    objects = sorted((place / "shards").iterdir())
    assert len(objects) == len(index.shard_sha256) > 6
    for path in objects:
        assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
        n_inside = index.shard.count(index.shard_sha256.index(path.stem))
        assert path.stat().st_size <= SHARD_BYTES
        assert n_inside > 0
    assert sum(index.class_counts) == whole.n_samples


@pytest.mark.parametrize("augment", [0.0, 0.5])
def test_windows_are_those_of_the_folder_and_so_are_the_validation_files(
    store: str, whole: Corpus, tmp_path: Path, augment: float
) -> None:
    stored = Store(store, tmp_path).open(RATE)
    for one, other in zip(stored.split(0.2), whole.split(0.2), strict=True):
        assert [u.name for u in one.utterances] == [u.name for u in other.utterances]
        made = [
            Windows(part, plan(), n_windows=24, seed=3, augment=augment).shuffle_shards()
            for part in (one, other)
        ]
        for a, b in zip(*map(batches, made), strict=True):
            assert torch.equal(a, b)


def test_a_corpus_of_one_recording_is_split_within_it(tmp_path: Path) -> None:
    samples = np.arange(-4000, 4000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    write_shards(find_corpus(str(tmp_path / "a.wav")), str(tmp_path / "store"), RATE)
    train, valid = Store(str(tmp_path / "store"), tmp_path / "cache").open(RATE).split(0.25)
    assert np.array_equal(train.utterances[0].samples[:], samples[:6000])
    assert np.array_equal(valid.utterances[0].samples[:], samples[6000:])


# --- groups ---


def test_windows_in_groups_are_the_same_with_any_number_of_workers_and_in_any_order(
    store: str, tmp_path: Path
) -> None:
    corpus = grouped(store, tmp_path)
    assert corpus.shards is not None
    assert corpus.shards.per_group == 2
    data = Windows(corpus, plan(), n_windows=60, seed=1).shuffle_shards()
    alone = batches(data)
    for one, other in zip(batches(data, workers=1), alone, strict=True):
        assert torch.equal(one, other)
    again = Windows(
        grouped(store, tmp_path / "other"), plan(), n_windows=60, seed=1
    ).shuffle_shards()
    for i in (59, 0, 31):
        assert torch.equal(again[i]["x"], alone[i // 4][i % 4])
    assert [p.suffix for p in tmp_path.glob("shards/*.tmp")] == []


def test_an_epoch_draws_from_every_shard_once_and_the_next_in_another_order() -> None:
    draw = np.random.default_rng(0)
    shard_of, lengths = np.sort(draw.integers(0, 7, 50)), draw.integers(1, 4000, 50)
    groups = Groups(shard_of, lengths, per_group=3, window=400, seed=5)
    n = groups.epoch_windows
    epochs = []
    for epoch in range(2):
        windows = [groups.of_window(epoch * n + i) for i in range(n)]
        in_order = list(dict.fromkeys(group.shards for group in windows))
        assert [len(shards) for shards in in_order] == [3, 3, 1]
        assert sorted(sum(in_order, ())) == list(range(7))
        for group in windows:
            assert set(shard_of[group.utterances]) == set(group.shards)
            assert group.ends[-1] == lengths[group.utterances].sum()
        epochs.append(in_order)
        following = dict.fromkeys(group.following for group in windows)
        assert [*following][:-1] == in_order[1:]
        assert [*following][-1] == groups.of_window((epoch + 1) * n).shards
    assert epochs[0] != epochs[1]


def test_groups_are_as_large_as_half_of_the_cache() -> None:
    sizes = np.array([10, 8, 10, 10], np.int64)
    assert groups_within(38, sizes, 9) == 0
    assert groups_within(37, sizes, 9) == 1
    assert groups_within(20, sizes, 9) == 1
    assert groups_within(10_000, np.full(2000, 10, np.int64), 32) == 32
    with pytest.raises(ValueError, match="does not hold two shards of .* GB; raise it to at least"):
        groups_within(19, sizes, 9)


def test_the_cache_stays_within_its_limit_and_no_mapping_is_lost(
    store: str, tmp_path: Path
) -> None:
    corpus = grouped(store, tmp_path)
    data = Windows(corpus, plan(), n_windows=300, seed=0).shuffle_shards()
    limit = 150_000
    cache = ShardCache(tmp_path / "shards", limit)
    used = []
    held = data.place(0)[0].samples[:]
    before = held.copy()
    for i in range(0, 300, 5):
        data.__getitems__([i])
        used.append(cache.used_bytes())
    assert corpus.shards is not None
    assert max(used) <= limit < corpus.shards.sizes.sum()
    assert np.array_equal(held, before)


def test_a_damaged_file_of_the_cache_is_fetched_again(store: str, tmp_path: Path) -> None:
    corpus = Store(store, tmp_path).open(RATE)
    first = corpus.utterances[0].samples[:].copy()
    for path in (tmp_path / "shards").glob("*.i16"):
        path.write_bytes(path.read_bytes()[:-2])
    again = Store(store, tmp_path).open(RATE)
    assert np.array_equal(pickle.loads(pickle.dumps(again.utterances[0])).samples[:], first)


# --- S3 ---


def test_from_s3_the_windows_are_those_of_the_folder(
    in_s3: str, whole: Corpus, tmp_path: Path
) -> None:
    stored = Store(in_s3, tmp_path).open(RATE)
    assert stored.content == whole.content
    made = [Windows(part, plan(), n_windows=24, seed=3) for part in (stored, whole)]
    for a, b in zip(*map(batches, made), strict=True):
        assert torch.equal(a, b)


def test_a_store_that_fails_for_a_while_is_waited_for(
    in_s3: str, faults: s3_server.Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults.reset()
    faults.fail, faults.cut = 2, 2
    with caplog.at_level(logging.WARNING, "wavenet"):
        stored = grouped(in_s3, tmp_path)
        read = stored.utterances[0].samples[:]
    assert len(read) == len(stored.utterances[0].samples)
    assert faults.requests == 5
    first, *_ = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"{in_s3}/shards/")
    assert "(Generic S3 error: Server returned non-2xx status code: 503 Service Unavail" in first
    assert "attempt 2 of 6 follows in 0.01 s" in first


def test_a_slow_store_is_a_store(in_s3: str, faults: s3_server.Proxy, tmp_path: Path) -> None:
    faults.delay_s = 0.2
    stored = grouped(in_s3, tmp_path)
    assert len(stored.utterances[0].samples[:]) == len(stored.utterances[0].samples)


def test_a_store_that_hangs_is_given_up(
    in_s3: str, faults: s3_server.Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = grouped(in_s3, tmp_path)
    monkeypatch.setattr(object_store, "REQUEST_S", 1)
    monkeypatch.setattr(object_store, "ATTEMPTS", 2)
    faults.delay_s = 30.0
    with pytest.raises(StoreError, match="cannot be read after 2 attempts: .*; check the store"):
        stored.utterances[0].samples[:]


@pytest.mark.parametrize("fault", ["fail", "cut"])
def test_a_store_that_always_fails_is_one_line_and_leaves_no_file(
    in_s3: str, faults: s3_server.Proxy, tmp_path: Path, fault: str
) -> None:
    stored = grouped(in_s3, tmp_path)
    setattr(faults, fault, 10**6)
    with pytest.raises(StoreError) as raised:
        stored.utterances[0].samples[:]
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith(f"{in_s3}/shards/")
    assert "cannot be read after 6 attempts: " in line
    assert line.endswith("check the store and the network, then run the command again")
    assert not [p for p in (tmp_path / "shards").iterdir() if not p.name.startswith(".lock")]


def test_an_object_with_other_content_is_never_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(object_store, "ATTEMPTS", 2)
    place = tmp_path / "store"
    write_shards(find_corpus(str(folder)), str(place), RATE, shard_bytes=1 << 20)
    (path,) = (place / "shards").iterdir()
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="after 2 attempts: its SHA-256 is another; it is damaged"):
        Store(str(place), tmp_path / "cache").open(RATE)
    path.write_bytes(content[:-2])
    with pytest.raises(StoreError, match=f"it has {len(content) - 2} bytes, not {len(content)}"):
        Store(str(place), tmp_path / "cache").open(RATE)


# --- the command ---


def test_the_command_writes_a_corpus_once_and_goes_on_with_one_that_is_unfinished(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["shard", str(folder), str(tmp_path / "store"), "--sample-rate", str(RATE)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("25 recordings, 0.0")
    assert "in 1 shards" in printed
    assert printed.count("\nleft out ") == 2
    (shard,) = (tmp_path / "store" / "shards").iterdir()
    written = shard.stat().st_mtime_ns
    assert main(command) == 2
    assert "already holds a corpus; name another folder or URL" in capsys.readouterr().err
    (tmp_path / "store" / INDEX_NAME).unlink()
    assert main(command) == 0
    assert shard.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CORPUS", "ftp://a/b"], "is no store; give a folder, or a URL such as s3://BUCKET"),
        (["CORPUS", "s3://"], "is no store; give a folder, or a URL such as s3://BUCKET"),
        (["CORPUS", "file://a/b"], "write file:// and an absolute path"),
        (["nowhere", "out"], "is not a folder; name one with audio files"),
        (["s3://bucket/a", "out"], "is a URL, which `wavenet train` alone reads"),
        (["CORPUS", "out", "--shard-mib", "0"], "--shard-mib=0 must be from 1 to"),
        (["CORPUS", "out", "--sample-rate", "0"], "--sample-rate=0 must be from 1 to"),
        (["CORPUS", "out", "--trim-silence", "3"], "--trim-silence=3 must be negative"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["shard", *(str(folder) if each == "CORPUS" else each for each in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_other_settings_than_those_it_was_written_with_are_refused(
    store: str, tmp_path: Path
) -> None:
    with pytest.raises(CorpusError, match="is at 8000 Hz and the model at 16000 Hz; write it"):
        Store(store, tmp_path).open(16000)
    with pytest.raises(CorpusError, match="written with trim_silence false, and trim_silence=-50"):
        Store(store, tmp_path).open(RATE, -50.0)
    with pytest.raises(CorpusError, match="cache_gb=1e-05 does not hold two shards"):
        Store(store, tmp_path, 1e-5).open(RATE)


def test_features_in_files_are_refused(folder: Path, tmp_path: Path) -> None:
    listing = find_corpus(str(folder))
    first = replace(listing.recordings[0], features=Path("f0.npy"))
    listing = replace(listing, recordings=(first, *listing.recordings[1:]))
    with pytest.raises(CorpusError, match="has a file of features, which shards do not hold"):
        write_shards(listing, str(tmp_path / "store"), RATE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"offset": [', b'"offset": [9, ', "is damaged; write it again"),
        (b'"version": 1', b'"version": 7', "has version 7 of its format, .* reads version 1"),
        (b"wavenet shards", b"another kind", "is no index of shards; write one with"),
        (b"}", b"", "is no index of shards: "),
    ],
)
def test_a_damaged_index_is_one_line(
    store: str, tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    content = Path(store.removeprefix("file://"), INDEX_NAME).read_bytes()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / INDEX_NAME).write_bytes(content.replace(old, new))
    with pytest.raises(CorpusError, match=message):
        Store(str(tmp_path / "store"), tmp_path / "cache").open(RATE)


@pytest.mark.parametrize("command", ["inspect", "shard"])
def test_a_folder_of_shards_is_named_where_recordings_are_needed(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    shards = store.removeprefix("file://")
    assert main([command, shards, *([str(tmp_path / "out")] if command == "shard" else [])]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "holds shards, which `wavenet train` alone reads; name the folder that" in error


def test_a_store_without_a_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"nowhere/{INDEX_NAME} cannot be read: .* check the URL"):
        Store(f"file://{tmp_path}/nowhere", tmp_path / "cache").open(RATE)


def test_without_obstore_the_extra_is_named(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'wavenet-audio\[shard\]'"):
        Store(store, tmp_path).open(RATE)


def test_after_its_end_nothing_is_fetched_ahead(store: str, tmp_path: Path) -> None:
    shards = grouped(store, tmp_path).shards
    assert shards is not None
    shards.fetch_ahead(range(len(shards.hashes)))
    shards.end_fetching_ahead()
    kept = sorted(tmp_path.rglob("*.i16"))
    shutil.rmtree(tmp_path)  # raises if a thread still writes into it
    assert len(kept) < len(shards.hashes)
