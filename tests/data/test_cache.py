"""wavenet.data.cache: decoded once, never half, never stale, and never in the way."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavenet.audio import media, opening
from wavenet.data import (
    Corpus,
    CorpusError,
    Recording,
    WindowPlan,
    Windows,
    find_corpus,
    read_cached,
)
from wavenet.data.cache import INDEX_NAME, SAMPLES_NAME
from wavenet.data.recordings import list_folder
from wavenet.storage.paths import cache_folder

RATE = 8000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of three files of two speakers, at another rate."""
    draw = np.random.default_rng(0)
    for name in ("mary/a", "mary/b", "john/c"):
        path = tmp_path / "speech" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, draw.normal(0, 0.1, 16_000), 16_000)
    return tmp_path / "speech"


class Decoded:
    """A progress that counts what is decoded."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, recordings: Sequence[Recording]) -> Iterable[Recording]:
        for recording in recordings:
            self.n += 1
            yield recording


def open_corpus(folder: Path, cache: Path, **options: float) -> tuple[Corpus, int]:
    """The corpus, and how many files were decoded for it."""
    decoded = Decoded()
    corpus = read_cached(list_folder(folder), RATE, cache=cache, progress=decoded, **options)  # type: ignore[arg-type]
    return corpus, decoded.n


def same(one: Corpus, other: Corpus) -> bool:
    return one.skipped == other.skipped and all(
        (a.name, a.speaker) == (b.name, b.speaker) and np.array_equal(a.samples, b.samples)
        for a, b in zip(one.utterances, other.utterances, strict=True)
    )


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def settle(folder: Path) -> None:
    """Age all files: a recent change may not be visible in their times."""
    for path in folder.rglob("*.wav"):
        os.utime(path, (path.stat().st_mtime - 100,) * 2)


def test_the_cache_holds_what_decoding_gives_and_the_second_run_decodes_nothing(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "bad.wav").write_text("no sound")
    cache = tmp_path / "cache"
    first, n_first = open_corpus(folder, cache)
    again, n_again = open_corpus(folder, cache)
    plain = Corpus.read(folder, RATE)
    assert (n_first, n_again) == (4, 0)
    assert same(first, plain)
    assert same(again, plain)
    assert plain.skipped[0].startswith(f"{folder}/bad.wav: not an audio file")
    assert all(isinstance(part.samples, np.memmap) for part in again.utterances)


def test_a_copied_or_touched_corpus_keeps_its_entry_and_its_own_paths(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "bad.wav").write_text("no sound")
    cache, copy = tmp_path / "cache", tmp_path / "copy"
    open_corpus(folder, cache)
    shutil.copytree(folder, copy)
    settle(folder)
    for place in (folder, copy):
        corpus, n_decoded = open_corpus(place, cache)
        assert n_decoded == 0
        assert corpus.skipped[0].startswith(f"{place}/bad.wav: ")


@pytest.mark.parametrize("settled_s", [2.0, -1.0])  # by reading it again, by its ctime
def test_another_content_behind_the_same_size_and_date_is_seen(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled_s: float
) -> None:
    monkeypatch.setattr("wavenet.data.cache.SETTLED_S", settled_s)
    cache, path = tmp_path / "cache", folder / "mary" / "a.wav"
    settle(folder)
    open_corpus(folder, cache)
    before = path.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    shutil.copyfile(folder / "mary" / "b.wav", path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    corpus, n_decoded = open_corpus(folder, cache)
    assert n_decoded == 3
    assert same(corpus, Corpus.read(folder, RATE))


def test_rate_trimming_and_files_each_have_their_entry(folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    open_corpus(folder, cache)
    read_cached(list_folder(folder), 16_000, cache=cache)
    open_corpus(folder, cache, trim_db=-50.0)
    (folder / "john" / "c.wav").rename(folder / "john" / "d.wav")
    corpus, _ = open_corpus(folder, cache)
    assert [part.name for part in corpus.utterances] == ["john/d.wav", "mary/a.wav", "mary/b.wav"]
    assert len(entries(cache)) == 4


def record_digests(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files whose content is hashed from now on."""
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return "another digest"

    monkeypatch.setattr("wavenet.data.cache._digest", digest)
    return read


def test_unchanged_files_are_not_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    settle(folder)
    monkeypatch.setattr("wavenet.data.cache.SETTLED_S", -1)  # ctime cannot be set back
    open_corpus(folder, cache)
    read = record_digests(monkeypatch)
    assert open_corpus(folder, cache)[1] == 0
    assert read == []


def test_nothing_usable_is_an_error_and_kept_as_one(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "bad.wav").write_text("no sound")
    for n_decoded in (1, 0):
        decoded = Decoded()
        with pytest.raises(CorpusError, match="none of the 1 audio files can be used: .*bad.wav"):
            read_cached(
                list_folder(tmp_path / "speech"), RATE, cache=tmp_path / "c", progress=decoded
            )
        assert decoded.n == n_decoded


def test_files_that_wanted_a_decoder_are_decoded_again_once_it_is_installed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    (folder / "bad.m4a").write_text("no sound")
    find_spec = media.importlib.util.find_spec
    monkeypatch.setattr(media.importlib.util, "find_spec", lambda name: None)
    corpus, _ = open_corpus(folder, cache)
    assert "install PyAV" in corpus.skipped[0]
    assert open_corpus(folder, cache)[1] == 0
    monkeypatch.setattr(
        media.importlib.util, "find_spec", lambda name: name == "av" or find_spec(name)
    )
    monkeypatch.setattr(opening, "decoded_copy", lambda path: str(folder / "mary" / "a.wav"))
    corpus, n_decoded = open_corpus(folder, cache)
    assert n_decoded == 4
    assert len(corpus.utterances) == 4
    assert not corpus.skipped
    assert open_corpus(folder, cache)[1] == 0


@pytest.mark.parametrize("damaged", [SAMPLES_NAME, INDEX_NAME])
def test_an_entry_that_is_not_as_it_was_written_is_made_again(
    folder: Path, tmp_path: Path, damaged: str
) -> None:
    cache = tmp_path / "cache"
    open_corpus(folder, cache)
    (entry,) = entries(cache)
    (entry / damaged).unlink()
    (entry / damaged).write_bytes(b"short")
    corpus, n_decoded = open_corpus(folder, cache)
    assert n_decoded == 3
    assert same(corpus, Corpus.read(folder, RATE))
    assert open_corpus(folder, cache)[1] == 0


# --- where it lies ---


def test_samples_that_were_cut_in_the_file_are_not_read_by_an_older_map(
    folder: Path, tmp_path: Path
) -> None:
    first, _ = open_corpus(folder, tmp_path / "cache")
    whole = [part.samples.copy() for part in first.utterances]
    (entry,) = entries(tmp_path / "cache")
    (entry / SAMPLES_NAME).write_bytes(b"")  # the same file, mapped by this process
    again, n_decoded = open_corpus(folder, tmp_path / "cache")
    assert n_decoded == 3
    for part, samples in zip(again.utterances, whole, strict=True):
        assert np.array_equal(part.samples, samples)


def test_the_folder_is_as_given_or_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WAVENET_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder("given") == Path("given")
    assert cache_folder("~/given") == tmp_path / "home" / "given"
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("WAVENET_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "wavenet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "wavenet"


def test_without_a_writable_cache_samples_are_in_memory_with_one_warning(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    with caplog.at_level(logging.WARNING, "wavenet"):
        corpus, n_decoded = open_corpus(folder, tmp_path / "file" / "cache")
    assert n_decoded == 3
    assert same(corpus, Corpus.read(folder, RATE))
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith(
        f"cache='{tmp_path}/file/cache' cannot be written (Not a directory); sam"
    )
    assert "\n" not in line


def test_a_full_disk_leaves_nothing_half_and_memory_serves(
    folder: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    files_of_at_most: Callable[[int], AbstractContextManager[None]],
) -> None:
    cache = tmp_path / "cache"
    with caplog.at_level(logging.WARNING, "wavenet"), files_of_at_most(20_000):
        corpus, _ = open_corpus(folder, cache)
    assert same(corpus, Corpus.read(folder, RATE))
    (record,) = caplog.records
    assert "cannot be written (File too large); samples are kept in memory" in record.getMessage()
    assert entries(cache) == []


# --- several processes ---

OPEN = """
import sys, time
from wavenet.data import read_cached
from wavenet.data.recordings import list_folder

def slowly(recordings):
    print("decoding", flush=True)
    for recording in recordings:
        yield recording
        time.sleep(float(sys.argv[3]))

corpus = read_cached(list_folder(sys.argv[1]), 8000, cache=sys.argv[2], progress=slowly)
print("samples", corpus.n_samples, flush=True)
"""


StartPython = Callable[..., BaseProcess]


def test_of_two_processes_that_start_at_once_one_decodes_and_both_have_it_all(
    folder: Path, tmp_path: Path, start_python: StartPython
) -> None:
    answers = [tmp_path / "one", tmp_path / "other"]
    both = [
        start_python(answer, OPEN, str(folder), str(tmp_path / "cache"), "0.1")
        for answer in answers
    ]
    for process in both:
        process.join()
        assert process.exitcode == 0
    said = sorted(answer.read_text() for answer in answers)
    assert said == ["decoding\nsamples 24000\n", "samples 24000\n"]


def test_without_locks_all_decode_and_one_entry_remains(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavenet.storage.files._lock", lambda file: False)
    cache, inner = tmp_path / "cache", []

    def meanwhile(recordings: Sequence[Recording]) -> Iterable[Recording]:
        inner.append(open_corpus(folder, cache))  # another one begins later and ends first
        return iter(recordings)

    outer = read_cached(list_folder(folder), RATE, cache=cache, progress=meanwhile)
    ((other, n_decoded),) = inner
    assert n_decoded == 3
    assert same(outer, other)
    assert len(entries(cache)) == 1


def test_a_process_killed_while_it_decodes_leaves_nothing_that_is_taken(
    folder: Path, tmp_path: Path, start_python: StartPython
) -> None:
    cache, said = tmp_path / "cache", tmp_path / "said"
    process = start_python(said, OPEN, str(folder), str(cache), "60")
    while not (list(cache.glob(".*.part-*")) and said.read_text()):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert said.read_text() == "decoding\n"
    assert list(cache.glob(".*.part-*"))
    corpus, n_decoded = open_corpus(folder, cache)
    assert n_decoded == 3
    assert same(corpus, Corpus.read(folder, RATE))
    assert not list(cache.glob(".*.part-*"))  # and what it left is taken away


def test_what_another_machine_writes_is_left_alone_until_it_is_abandoned(
    folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    open_corpus(folder, cache)
    (entry,) = entries(cache)
    shutil.rmtree(entry)
    live, dead = (cache / f".{entry.name}.part-elsewhere-{name}" for name in ("live", "dead"))
    for part in (live, dead):
        part.mkdir()
        (part / SAMPLES_NAME).write_bytes(b"..")
    os.utime(dead / SAMPLES_NAME, (time.time() - 1e5,) * 2)
    young, old = (cache / f".{letter * 16}.tmp" for letter in "ab")  # of a list of hashes
    for half in (young, old):
        half.touch()
    os.utime(old, (time.time() - 1e5,) * 2)
    open_corpus(folder, cache)
    assert live.exists()
    assert not dead.exists()
    assert young.exists()
    assert not old.exists()


@pytest.mark.parametrize(
    "index", ["{}", "[" * 99_999, '{"lengths": [8000]}', '{"lengths": ["a", -1, 3], "reasons": {}}']
)
def test_an_index_that_is_damaged_is_made_anew(folder: Path, tmp_path: Path, index: str) -> None:
    open_corpus(folder, tmp_path / "cache")
    (entry,) = entries(tmp_path / "cache")
    (entry / INDEX_NAME).write_text(index)
    corpus, n_decoded = open_corpus(folder, tmp_path / "cache")
    assert n_decoded == 3
    assert same(corpus, Corpus.read(folder, RATE))


# --- loaders ---


def test_a_mapped_corpus_is_pickled_as_its_places(folder: Path, tmp_path: Path) -> None:
    corpus, _ = open_corpus(folder, tmp_path / "cache")
    for part in (corpus, *corpus.split(0.3)):
        content = pickle.dumps(part)
        assert len(content) < 1500 < 2 * part.n_samples
        assert same(pickle.loads(content), part)
    only = Corpus(corpus.utterances[1:2], RATE)
    for part in only.split(0.25):  # a cut through one recording
        assert same(pickle.loads(pickle.dumps(part)), part)


def test_a_corpus_in_memory_is_pickled_with_its_samples(folder: Path) -> None:
    corpus = Corpus.read(folder, RATE)
    assert same(pickle.loads(pickle.dumps(corpus)), corpus)


def test_windows_that_are_pickled_for_a_worker_stay_the_same(folder: Path, tmp_path: Path) -> None:
    corpus, _ = open_corpus(folder, tmp_path / "cache")
    plan = WindowPlan(length=100, warm_up=20, hop=1, context_frames=0, mel=None, speakers=())
    windows = Windows(corpus, plan, n_windows=8, seed=0)
    again = pickle.loads(pickle.dumps(windows))
    assert all(torch.equal(windows[i]["x"], again[i]["x"]) for i in range(8))


def test_the_index_is_plain(folder: Path, tmp_path: Path) -> None:
    open_corpus(folder, tmp_path / "cache")
    (entry,) = entries(tmp_path / "cache")
    assert json.loads((entry / INDEX_NAME).read_text()) == {
        "lengths": [8000, 8000, 8000],
        "reasons": {},
    }
    assert (entry / SAMPLES_NAME).stat().st_size == 48_000


def test_manifests_in_one_folder_do_not_forget_each_others_files(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavenet.data.cache.SETTLED_S", -1)
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text(f"path\nmary/{name}.wav\n")
        read_cached(find_corpus(str(folder / f"{name}.csv")), RATE, cache=tmp_path / "cache")
    read = record_digests(monkeypatch)
    for name in ("a", "b"):
        read_cached(find_corpus(str(folder / f"{name}.csv")), RATE, cache=tmp_path / "cache")
    assert read == []
