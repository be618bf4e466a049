"""wavenet.data.inspect: what is odd is found, counted, and told with what training does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavenet.data import Corpus, find_corpus
from wavenet.data.inspect import ADVICE, CLIPPED_RUN, Inspection, inspect_corpus

RATE = 16_000


def noise(seed: int, rms: float = 0.1, duration_s: float = 1.0, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, rms, round(duration_s * rate))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One recording of every oddity among good ones, by two speakers."""
    folder = tmp_path_factory.mktemp("odd")
    for speaker in ("mary", "john"):
        (folder / speaker).mkdir()
    clipped = noise(1, rms=0.5).clip(-1, 1)
    contents = {
        "mary/good.wav": (noise(0), RATE),
        "mary/clipped.wav": (np.repeat(clipped, 3), RATE),
        "mary/peak.wav": (np.where(np.arange(RATE) == 99, 1.0, noise(9)), RATE),
        "mary/shifted.wav": (noise(2) + 0.05, RATE),
        "mary/other_rate.wav": (noise(3, rate=44_100), 44_100),
        "mary/stereo.wav": (np.stack([noise(4), noise(5)], axis=1), RATE),
        "john/digital_silence.wav": (np.zeros(RATE), RATE),
        "john/silent.wav": (noise(6, rms=0.0003), RATE),
        "john/short.wav": (noise(7, duration_s=0.4), RATE),
        "john/copy.wav": (noise(0), RATE),
    }
    for name, (sound, rate) in contents.items():
        soundfile.write(folder / name, sound, rate)
    soundfile.write(
        folder / "john" / "copy.flac", soundfile.read(folder / "john/copy.wav")[0], RATE
    )
    (folder / "john" / "broken.wav").write_text("no sound")
    good = (folder / "mary" / "good.wav").read_bytes()
    (folder / "john" / "cut.wav").write_bytes(good[: len(good) // 2])
    (folder / "john" / "empty.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> Inspection:
    return inspect_corpus("odd", find_corpus(str(folder)))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("silent", ["john/digital_silence.wav", "john/silent.wav"]),
        ("clipped", ["mary/clipped.wav"]),
        ("dc_shifted", ["mary/shifted.wav"]),
        ("too_short", ["john/short.wav"]),
        ("multichannel", ["mary/stereo.wav"]),
        ("duplicated", ["john/copy.wav = john/copy.flac", "mary/good.wav = john/copy.flac"]),
    ],
)
def test_each_oddity_is_found_where_it_is_and_nowhere_else(
    found: Inspection, kind: str, names: list[str]
) -> None:
    assert list(found.found[kind]) == names


def test_broken_files_are_counted_with_their_reasons(found: Inspection, folder: Path) -> None:
    reasons = found.found["broken"]
    assert len(reasons) == 3
    for reason, name in zip(reasons, ("broken", "cut", "empty"), strict=True):
        assert reason.startswith(f"{folder}/john/{name}.wav: ")


def test_speakers_rates_channels_and_hours_are_summed(found: Inspection) -> None:
    assert (found.recordings, found.usable) == (14, 10)
    assert found.sample_rates == {16_000: 10, 44_100: 1}
    assert found.channels == {1: 10, 2: 1}
    seconds = {name: round(has["hours"] * 3600, 6) for name, has in found.speakers.items()}
    assert seconds == {"john": 4.4, "mary": 8.0}
    assert found.hours == pytest.approx(12.4 / 3600)


def test_usable_is_what_training_uses(found: Inspection, folder: Path) -> None:
    corpus = Corpus.read(folder, RATE)
    assert len(corpus.utterances) == found.usable
    assert len(corpus.skipped) == found.recordings - found.usable


def test_loudness_is_the_rms_in_db_of_full_scale(tmp_path: Path) -> None:
    for i in range(11):  # every 2 dB from -40 to -20
        level = 10 ** ((-40 + 2 * i) / 20)
        square = level * np.sign(np.sin(np.arange(RATE) / 20) + 1e-9)
        soundfile.write(tmp_path / f"{i}.wav", square, RATE, subtype="FLOAT")
    loudness = inspect_corpus("levels", find_corpus(str(tmp_path))).loudness_dbfs
    assert loudness == pytest.approx({"5%": -39.0, "50%": -30.0, "95%": -21.0}, abs=0.01)


def test_the_json_has_every_finding_with_its_count_and_what_training_does(
    found: Inspection,
) -> None:
    facts = json.loads(json.dumps(found.to_dict()))
    assert facts["found"].keys() == ADVICE.keys()
    assert facts["found"]["clipped"] == {
        "count": 1,
        "training": ADVICE["clipped"],
        "recordings": ["mary/clipped.wav"],
    }
    assert facts["sample_rates"] == {"16000": 10, "44100": 1}


def test_the_table_is_aligned_and_has_the_handling_by_training(found: Inspection) -> None:
    lines = str(found).splitlines()
    head = next(line for line in lines if line.startswith("finding"))
    for kind, names in found.found.items():
        (line,) = [line for line in lines if line.startswith(kind)]
        assert line[head.index("count") :].startswith(str(len(names)))
        assert line[head.index("training") :].startswith(ADVICE[kind])
    assert "speaker       john: 5 recordings, 0.07 min" in lines
    assert "sample rates  16000 Hz (10), 44100 Hz (1); training resamples to the model's" in lines


def test_parts_of_a_file_are_judged_apart(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.concatenate([noise(0), np.zeros(RATE)]), RATE)
    (tmp_path / "list.csv").write_text("path,start,end\na.wav,0,1\na.wav,1,2\na.wav,1,9\n")
    found = inspect_corpus("parts", find_corpus(str(tmp_path / "list.csv")))
    assert found.found["silent"] == ("a.wav@1-2",)
    assert (found.recordings, found.usable, len(found.found["broken"])) == (3, 1, 1)


def test_a_corpus_of_broken_files_alone_and_a_name_that_is_not_utf8_are_reported(
    tmp_path: Path,
) -> None:
    soundfile.write(tmp_path / "new.wav", noise(0), RATE)
    os.rename(tmp_path / "new.wav", os.path.join(os.fsencode(tmp_path), b"\xff.wav"))
    found = inspect_corpus("bad", find_corpus(str(tmp_path)))
    assert found.usable == 0
    assert "the name is not UTF-8; rename the file" in found.found["broken"][0]
    assert "usable" in str(found)


def test_a_peak_that_was_cut_off_is_found_wherever_the_file_is_taken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavenet.data.inspect._BLOCK", 100)
    for first in range(95, 105):
        samples = np.zeros(250, np.int16)
        samples[first : first + CLIPPED_RUN] = 32767
        soundfile.write(tmp_path / f"{first}.wav", samples, RATE)
    found = inspect_corpus("x", find_corpus(str(tmp_path)))
    assert len(found.found["clipped"]) == 10
    loud = 10 * np.log10(CLIPPED_RUN / 250)
    assert found.loudness_dbfs["50%"] == pytest.approx(loud, abs=0.01)


def test_the_table_has_one_line_for_a_name_with_a_line_break(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a\nb.wav", noise(0, rms=0.0003), RATE)
    table = str(inspect_corpus("x", find_corpus(str(tmp_path))))
    assert next(line for line in table.splitlines() if "silent" in line).endswith("a\\nb.wav")
