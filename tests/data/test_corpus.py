"""wavenet.data.corpus: every readable file counts, every other is reported, and the split stays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavenet.data import Corpus, CorpusError, Utterance, find_audio

RATE = 16000


def tone(sample_rate: int, frequency_hz: float = 440) -> np.ndarray:
    """Half a second."""
    time_s = np.arange(sample_rate // 2) / sample_rate
    return 0.5 * np.sin(2 * np.pi * frequency_hz * time_s)


def utterances(*names: str, copies: Mapping[str, str] | None = None) -> Corpus:
    """Utterances of ten samples each; ``copies`` maps copies to their originals."""
    parts = []
    for name in names:
        draw = np.random.default_rng(list((copies or {}).get(name, name).encode()))
        samples = draw.integers(-100, 100, 10).astype(np.int16)
        parts.append(Utterance(name, samples, ""))
    return Corpus(tuple(parts), RATE)


def names(corpus: Corpus) -> set[str]:
    return {utterance.name for utterance in corpus.utterances}


# --- finding ---


def test_audio_is_found_in_all_folders_whatever_the_case_and_hidden_files_are_not(
    tmp_path: Path,
) -> None:
    found = ["b.wav", "a/B.FLAC", "a/deep/er/c.ogg"]
    passed_over = ["notes.txt", ".hidden.wav", ".cache/d.wav", "wav", "a/.tmp/e.flac"]
    for name in found + passed_over:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    assert find_audio(tmp_path) == sorted(tmp_path / name for name in found)


def test_a_missing_or_empty_folder_is_one_line_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"corpus='{tmp_path}/nowhere' is not a folder; name one"):
        Corpus.read(tmp_path / "nowhere", RATE)
    with pytest.raises(CorpusError, match=f"corpus='{tmp_path}' holds no audio file; looked for"):
        Corpus.read(tmp_path, RATE)


# --- reading ---


@pytest.mark.parametrize(
    ("subtype", "channels", "sample_rate", "tolerance"),
    [
        ("PCM_16", 1, 16000, 1e-4),
        ("PCM_U8", 1, 16000, 1 / 128),  # a step of 8 bits
        ("PCM_24", 1, 16000, 1e-4),
        ("FLOAT", 1, 16000, 1e-4),
        ("PCM_16", 2, 16000, 1e-4),
        ("PCM_16", 1, 44100, 2e-3),  # the resampler's ripple
        ("PCM_24", 2, 48000, 2e-3),
    ],
)
def test_every_kind_of_wav_is_the_same_sound(
    tmp_path: Path, subtype: str, channels: int, sample_rate: int, tolerance: float
) -> None:
    sound = np.repeat(tone(sample_rate)[:, None], channels, axis=1)
    soundfile.write(tmp_path / "a.wav", sound, sample_rate, subtype=subtype)
    corpus = Corpus.read(tmp_path, RATE)
    (utterance,) = corpus.utterances
    assert (corpus.sample_rate, corpus.skipped) == (RATE, ())
    assert utterance.samples.dtype == np.int16
    middle = slice(1000, 7000)  # a resampler rings where a tone begins and ends
    error = np.abs(utterance.samples / 32768 - tone(RATE))[middle]
    assert error.max() < tolerance


def bad_text(path: Path) -> None:
    path.write_text("no sound at all")


def bad_empty(path: Path) -> None:
    path.write_bytes(b"")


def bad_truncated_flac(path: Path) -> None:
    draw = np.random.default_rng(0)
    soundfile.write(path, draw.uniform(-0.5, 0.5, 50000), RATE, format="FLAC")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bad_nan(path: Path) -> None:
    samples = tone(RATE)
    samples[100] = np.nan
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def bad_silence(path: Path) -> None:
    soundfile.write(path, np.zeros(5000), RATE)


BAD = [
    pytest.param(bad_text, "not an audio file", id="text"),
    pytest.param(bad_empty, "empty", id="empty"),
    pytest.param(bad_truncated_flac, "cut short", id="truncated"),
    pytest.param(bad_nan, "sample 100 is nan", id="nan"),
    pytest.param(bad_silence, "digital silence", id="silence"),
]


@pytest.mark.parametrize(("write", "reason"), BAD)
def test_a_bad_file_among_good_ones_is_left_out_and_reported_in_one_line(
    tmp_path: Path, write: Callable[[Path], None], reason: str
) -> None:
    soundfile.write(tmp_path / "good.wav", tone(RATE), RATE)
    write(tmp_path / "bad.wav")
    corpus = Corpus.read(tmp_path, RATE)
    assert names(corpus) == {"good.wav"}
    (line,) = corpus.skipped
    assert line.startswith(f"{tmp_path}/bad.wav: ")
    assert reason in line
    assert "\n" not in line


@pytest.mark.parametrize(("write", "reason"), BAD)
def test_bad_files_alone_are_one_line_that_counts_them_and_names_one(
    tmp_path: Path, write: Callable[[Path], None], reason: str
) -> None:
    write(tmp_path / "bad.wav")
    with pytest.raises(CorpusError, match=r"none of the 1 audio files can be used: ") as caught:
        Corpus.read(tmp_path, RATE)
    assert f"{tmp_path}/bad.wav" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_utterances_are_in_the_order_of_their_names_and_know_their_speaker(tmp_path: Path) -> None:
    for name in ("mary/2/b.wav", "top.wav", "john/a.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, tone(RATE), RATE)
    corpus = Corpus.read(tmp_path, RATE)
    found = [(utterance.name, utterance.speaker) for utterance in corpus.utterances]
    assert found == [("john/a.wav", "john"), ("mary/2/b.wav", "mary"), ("top.wav", "")]
    assert corpus.speakers == ("", "john", "mary")
    assert corpus.n_samples == 24000
    assert corpus.duration_s == 1.5


def test_a_file_whose_name_is_not_utf8_is_left_out_and_reported(tmp_path: Path) -> None:
    for name in (b"\xff.wav", b"b.wav"):
        soundfile.write(tmp_path / "new.wav", tone(RATE), RATE)
        os.rename(os.fsencode(tmp_path / "new.wav"), os.path.join(os.fsencode(tmp_path), name))
    corpus = Corpus.read(tmp_path, RATE)
    assert names(corpus) == {"b.wav"}
    assert corpus.skipped == (f"'{tmp_path}/\\udcff.wav': the name is not UTF-8; rename the file",)


def test_before_and_after_a_recording_is_silence() -> None:
    utterance = Utterance("a", np.array([-32768, 16384, 1], dtype=np.int16), "")
    expected = torch.tensor([0.0, 0.0, -1.0, 0.5, 1 / 32768, 0.0])
    assert torch.equal(utterance.audio(-2, 4), expected)
    assert torch.equal(utterance.audio(1, 2), torch.tensor([0.5]))
    assert torch.equal(utterance.audio(5, 7), torch.zeros(2))


# --- the split ---


def test_the_split_is_by_file_and_loses_none() -> None:
    corpus = utterances(*(f"{i}.wav" for i in range(200)))
    train, valid = corpus.split(0.1)
    assert names(train) | names(valid) == names(corpus)
    assert not names(train) & names(valid)
    assert 8 <= len(names(valid)) <= 35  # binomial, mean 20, standard deviation 4.2


def test_the_split_is_that_of_every_other_run_and_machine() -> None:
    train, valid = utterances(*(f"{i}.wav" for i in range(10))).split(0.3)
    # SHA-256 of the name, its first 8 bytes as a big-endian number below 0.3 * 2^64
    assert names(valid) == {"0.wav", "1.wav", "3.wav"}
    assert len(train.utterances) == 7


def test_files_stay_on_their_side_when_others_are_added_or_taken_away() -> None:
    small = utterances(*(f"{i}.wav" for i in range(60)))
    large = utterances(*(f"{i}.wav" for i in range(30, 500)))
    common = names(small) & names(large)
    held_out = names(small.split(0.1)[1]) & common
    assert held_out
    assert held_out == names(large.split(0.1)[1]) & common


@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.999])
@pytest.mark.parametrize("n_files", [2, 3, 5])
def test_neither_side_is_empty(fraction: float, n_files: int) -> None:
    train, valid = utterances(*(f"{i}.wav" for i in range(n_files))).split(fraction)
    assert train.utterances
    assert valid.utterances
    assert len(train.utterances) + len(valid.utterances) == n_files


def test_a_single_file_gives_its_end_to_validation() -> None:
    corpus = utterances("only.wav")
    train, valid = corpus.split(0.3)
    whole = corpus.utterances[0].samples.tolist()
    assert train.utterances[0].samples.tolist() == whole[:7]
    assert valid.utterances[0].samples.tolist() == whole[7:]


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.3, 0.5, 0.999])
def test_copies_of_one_recording_keep_together_whatever_their_names(fraction: float) -> None:
    numbered = [f"{i}.wav" for i in range(40)]
    copies = {f"copy-{i}-{k}.wav": f"{i}.wav" for i in range(20) for k in range(2)}
    train, valid = utterances(*numbered, *copies, copies=copies).split(fraction)
    assert len(train.utterances) + len(valid.utterances) == 80
    trained = {utterance.samples.tobytes() for utterance in train.utterances}
    validated = {utterance.samples.tobytes() for utterance in valid.utterances}
    assert trained
    assert validated
    assert not trained & validated


def test_a_copy_that_is_added_leaves_the_other_files_where_they_were() -> None:
    numbered = [f"{i}.wav" for i in range(60)]
    held_out = names(utterances(*numbered).split(0.2)[1])
    moved = min(held_out)  # whichever: the copies' names fall on both sides
    copies = dict.fromkeys((f"{moved}.{k}" for k in range(20)), moved)
    with_copies = names(utterances(*numbered, *copies, copies=copies).split(0.2)[1])
    assert with_copies == held_out - {moved}


def test_recordings_that_differ_in_one_sample_alone_are_no_copies() -> None:
    long = np.arange(1000, dtype=np.int16)
    other = long.copy()
    other[0] = 7
    parts = tuple(Utterance(name, s, "") for name, s in (("3.wav", long), ("4.wav", other)))
    train, valid = Corpus(parts, RATE).split(0.3)
    assert (names(train), names(valid)) == ({"4.wav"}, {"3.wav"})


def test_copies_of_one_recording_alone_are_split_as_that_one() -> None:
    corpus = utterances("a.wav", "b.wav", copies={"b.wav": "a.wav"})
    train, valid = corpus.split(0.3)
    whole = corpus.utterances[0].samples.tolist()
    assert train.utterances[0].samples.tolist() + valid.utterances[0].samples.tolist() == whole


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_parts_of_a_file_that_overlap_keep_together_and_others_stay_where_they_were(
    fraction: float,
) -> None:
    apart = [f"{i}.wav@{k}-{k + 1}.05" for i in range(10) for k in range(4)]
    chains = [[f"long-{i}.wav@{k}-{k + 1.5}" for k in range(3)] for i in range(10)]
    wholes = [[f"whole-{i}.wav", f"whole-{i}.wav@7-7.05", f"whole-{i}.wav@1e-05-"] for i in (1, 2)]
    before = names(utterances(*apart).split(fraction)[1])
    joined = [*chains, *wholes]
    valid = names(utterances(*apart, *(name for one in joined for name in one)).split(fraction)[1])
    assert valid & set(apart) == before
    for together in joined:
        assert len(valid & set(together)) in (0, len(together))


def test_a_file_of_overlapping_parts_alone_cannot_be_split() -> None:
    with pytest.raises(CorpusError, match="a.wav@0-2 and the other recordings overlap, so that"):
        utterances("a.wav@0-2", "a.wav@1-3", "a.wav@2.5-4").split(0.5)


def test_a_single_file_of_one_sample_cannot_be_split() -> None:
    corpus = Corpus((Utterance("only.wav", np.ones(1, dtype=np.int16), ""),), RATE)
    with pytest.raises(CorpusError, match="only.wav is too short to be split into training and"):
        corpus.split(0.5)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"validation_fraction={fraction} must be between 0 and"):
        utterances("a.wav", "b.wav").split(fraction)
