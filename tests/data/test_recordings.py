"""wavenet.data.recordings: silence stays unless it is asked to go, and a file is decoded once."""

from __future__ import annotations

import errno
import logging
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from torch import Tensor

from wavenet.audio import read_audio
from wavenet.audio.blocks import read_blocks
from wavenet.data import Corpus, CorpusError, Recording, find_audio
from wavenet.data.recordings import decode, decode_all, trim

RATE = 8000


def spoken(before_s: float, speech_s: float, after_s: float, rms: float = 0.1) -> np.ndarray:
    """Speech between two silences that are not quite silent, in [-1, 1]."""
    draw = np.random.default_rng(0)
    n_before, n_speech, n_after = (round(s * RATE) for s in (before_s, speech_s, after_s))
    sound = draw.normal(0, 0.0005, n_before + n_speech + n_after)
    sound[n_before : n_before + n_speech] = draw.normal(0, rms, n_speech)
    return sound


def test_silence_at_both_ends_goes_but_for_a_tenth_of_a_second() -> None:
    samples = np.round(spoken(1.0, 0.6, 0.8) * 32768).astype(np.int16)
    trimmed = trim(samples, RATE, -50.0)
    assert np.array_equal(trimmed, samples[round(0.9 * RATE) : round(1.7 * RATE)])
    assert len(trim(samples, RATE, -80.0)) == len(samples)
    assert len(trim(samples, RATE, -10.0)) == 0


@pytest.mark.parametrize("n_samples", [1, 159, 160, 161, 4001])
def test_loud_recordings_of_any_length_stay_whole(n_samples: int) -> None:
    loud = np.full(n_samples, 10_000, dtype=np.int16)
    assert np.array_equal(trim(loud, RATE, -50.0), loud)


def test_silence_stays_unless_it_is_asked_to_go(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", spoken(1.0, 0.6, 0.8), RATE)
    assert Corpus.read(tmp_path, RATE).duration_s == 2.4
    assert Corpus.read(tmp_path, RATE, trim_db=-50.0).duration_s == pytest.approx(0.8)


def test_a_file_without_anything_so_loud_is_left_out_with_the_threshold(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", spoken(1.0, 0.6, 0.8), RATE)
    with pytest.raises(
        CorpusError, match=r"a.wav: its level never reaches trim_silence=-5 dB; leave"
    ):
        Corpus.read(tmp_path, RATE, trim_db=-5.0)


def test_neighbouring_parts_of_a_file_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, spoken(0.1, 1.0, 0.1), RATE)
    read: list[Path] = []

    def counted(path: Path, rate: int) -> Iterator[Tensor]:
        read.append(path)
        return read_blocks(path, rate)

    monkeypatch.setattr("wavenet.data.recordings.read_blocks", counted)
    parts = [Recording(f"a@{i}", path, "", i / 10, (i + 1) / 10) for i in range(10)]
    decoded = [part for part in decode_all(parts, RATE) if isinstance(part, np.ndarray)]
    assert [len(part) for part in decoded] == [800] * 10
    assert read == [path]


def test_a_file_takes_hardly_more_memory_than_its_samples(tmp_path: Path) -> None:
    path, n_samples = tmp_path / "long.wav", 4_000_000
    soundfile.write(path, np.full((n_samples, 2), 0.25, np.float32), 48_000, subtype="PCM_16")
    decode(path, 48_000)  # what is imported on the way does not count
    tracemalloc.start()
    try:
        decoded = decode(path, 48_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(decoded) == n_samples
    assert np.all(decoded == 8192)
    # 2 bytes a sample, an eighth that a growing bytearray keeps ready, and some blocks
    assert peak < 2 * n_samples * 1.25 + 4_000_000


@pytest.mark.parametrize("rate", [RATE, 11_025])
def test_samples_are_those_of_read_audio_to_the_last_bit(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, spoken(0.1, 9.0, 0.1), RATE, subtype="FLOAT")
    whole, _ = read_audio(path, rate)
    assert np.array_equal(decode(path, rate), (whole * 32768).round().short().numpy())


def test_folders_that_link_to_each_other_are_searched_once_by_each_way(tmp_path: Path) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.wav").touch()
        (folder / "link").symlink_to(tmp_path / other)
    found = [str(path.relative_to(tmp_path)) for path in find_audio(tmp_path)]
    assert found == ["one/a.wav", "one/link/a.wav", "two/a.wav", "two/link/a.wav"]


def test_linked_folders_are_searched_once_and_loops_end(tmp_path: Path) -> None:
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    elsewhere.mkdir()
    corpus.mkdir()
    for folder in (corpus, elsewhere):
        soundfile.write(folder / "a.wav", spoken(0, 0.1, 0), RATE)
    (corpus / "mary").symlink_to(elsewhere)
    (corpus / "loop").symlink_to(corpus)
    (elsewhere / "up").symlink_to(tmp_path)
    (corpus / "nowhere.wav").symlink_to(tmp_path / "gone.wav")
    os.mkfifo(corpus / "pipe.wav")
    found = [path.relative_to(corpus).as_posix() for path in find_audio(corpus)]
    assert found == ["a.wav", "mary/a.wav"]


def test_a_folder_that_cannot_be_read_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    soundfile.write(tmp_path / "a.wav", spoken(0, 0.1, 0), RATE)
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def refuse(path: Path) -> Any:  # as to everybody but root, who may run this test
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_audio(tmp_path) == [tmp_path / "a.wav"]
    assert caplog.messages == [f"left out: {tmp_path}/locked: cannot be read: Permission denied"]


@pytest.mark.parametrize("suffix", ["wave", "bwf", "BWF", "voc"])
def test_less_common_suffixes_of_audio_are_read(tmp_path: Path, suffix: str) -> None:
    kind = "VOC" if suffix == "voc" else "WAV"
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, spoken(0.1, 0.6, 0.1), RATE, "PCM_16", format=kind)
    assert find_audio(tmp_path) == [path]
    assert len(decode(path, RATE)) == round(0.8 * RATE)


def test_audio_that_cannot_be_decoded_is_reported(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", spoken(0, 0.1, 0), RATE)
    unreadable = ("m4a", "mp4", "webm", "mkv", "wv", "3gp")
    for suffix in unreadable:
        (tmp_path / f"phone.{suffix}").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    corpus = Corpus.read(tmp_path, RATE)
    assert len(corpus.utterances) == 1
    for suffix in unreadable:
        begin = f"{tmp_path}/phone.{suffix}: not an audio file that can be read"
        assert sum(line.startswith(begin) for line in corpus.skipped) == 1


@pytest.mark.parametrize(("suffix", "format"), [("wave", "WAV"), ("bwf", "WAV"), ("VOC", "VOC")])
def test_sound_is_found_by_its_rarer_suffixes(tmp_path: Path, suffix: str, format: str) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", spoken(0, 0.1, 0), RATE, "PCM_16", format=format)
    assert len(Corpus.read(tmp_path, RATE).utterances) == 1


def test_what_macos_writes_beside_sound_is_counted_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mary").mkdir()
    for name in ("a.wav", "mary/b.wav"):
        soundfile.write(tmp_path / name, spoken(0, 0.1, 0), RATE)
    for name in ("._a.wav", "mary/._b.WAV", "._notes.txt", ".hidden.wav"):
        (tmp_path / name).write_bytes(b"\0\x05\x16\x07")
    with caplog.at_level(logging.INFO, "wavenet"):
        assert len(find_audio(tmp_path)) == 2
    assert caplog.messages == [f"ignored 2 ._* files of macOS in {tmp_path}: they contain no audio"]
