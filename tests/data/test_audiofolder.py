"""wavenet.data.audiofolder: folders with metadata of Hugging Face are read as they are."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavenet.cli.main import main
from wavenet.data import Corpus, CorpusError, find_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight recordings of 0.1 s, in two splits with two folders each."""
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for who in ("ann", "bob"):
            for name in "ab":
                path = tmp_path / split / who / f"{name}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, draw.uniform(-0.5, 0.5, 800), 8000)
    return tmp_path


def found(place: Path) -> dict[str, str]:
    listing = find_corpus(str(place))
    assert [each.name for each in listing.recordings] == sorted(
        each.name for each in listing.recordings
    )
    assert all(each.path.is_file() for each in listing.recordings)
    return {each.name: each.speaker for each in listing.recordings}


def test_without_metadata_all_files_are_read_and_the_first_folder_speaks(folder: Path) -> None:
    assert found(folder / "train") == {
        "ann/a.wav": "ann",
        "ann/b.wav": "ann",
        "bob/a.wav": "bob",
        "bob/b.wav": "bob",
    }
    assert len(found(folder)) == 8


def test_metadata_as_parquet_is_refused_rather_than_ignored(folder: Path) -> None:
    (folder / "train" / "metadata.parquet").write_bytes(b"PAR1")
    (folder / "metadata.csv").write_text("file_name\ntrain/bob/b.wav\n")
    with pytest.raises(CorpusError, match=r"metadata\.parquet is not read.* metadata\.csv"):
        find_corpus(str(folder))
    assert find_corpus(str(folder / "test")).recordings


@pytest.mark.parametrize("column", ["speaker", "speaker_id"])
def test_metadata_as_csv_names_the_files_and_speakers(folder: Path, column: str) -> None:
    (folder / "metadata.csv").write_text(
        f'file_name,transcription,"{column}"\n'
        'train/bob/b.wav,"so, to say",7\ntrain/ann/a.wav,hello,\n'
    )
    expected = {"train/ann/a.wav": "", "train/bob/b.wav": "7"}
    assert found(folder) == expected
    assert found(folder / "metadata.csv") == expected
    corpus = Corpus.read(folder, 8000)
    assert [each.name for each in corpus.utterances] == list(expected)
    assert corpus.skipped == ()


def test_metadata_as_jsonl_beside_the_files_of_each_split(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"file_name": "bob/a.wav", "text": "one", "start": "anything"},
        {"file_name": "./ann/../ann/b.wav", "text": "two", "speaker": "Ann Smith"},
    ]
    for split in ("train", "test"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / split / "metadata.jsonl").write_text(text)
    with caplog.at_level(logging.INFO, "wavenet"):
        assert found(folder) == {
            "test/ann/b.wav": "Ann Smith",
            "test/bob/a.wav": "bob",
            "train/ann/b.wav": "Ann Smith",
            "train/bob/a.wav": "bob",
        }
    assert caplog.messages == [f"left out 4 audio files in {folder} that no metadata lists"]
    assert found(folder / "test") == {"ann/b.wav": "Ann Smith", "bob/a.wav": "bob"}


def test_metadata_of_other_layouts_is_no_list(folder: Path) -> None:
    (folder / "metadata.csv").write_text("LJ001-0001|text|text\n")  # LJSpeech
    (folder / "train" / "metadata.csv").write_text("name,speaker\na.wav,ann\n")
    (folder / "train" / "metadata.jsonl").write_text('{"id": 1, "text": "a file_name: b"}\n')
    (folder / "bob").mkdir(exist_ok=True)
    (folder / "bob" / "metadata.csv").write_text("audio_file_name,speaker\na.wav,ann\n")
    (folder / "test" / "metadata.jsonl").write_bytes(b"\xff\xfe\0")
    assert len(found(folder)) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name\n", "metadata.csv: lists no recording; give one per line"),
        ("file_name,speaker\n,ann\n", "metadata.csv, line 2: file_name is ''; name a file"),
        ("speaker,file_name\nann\n", "metadata.csv, line 2: file_name is None; name a file"),
        ("file_name\na.wav,b\n", "metadata.csv, line 2: more values than columns"),
        ("file_name\na.wav\n./a.wav\n", "metadata.csv, line 3: 'a.wav' is listed twice; remove"),
        ('file_name\n"a.wav', "metadata.csv, line 2: not CSV: "),
        (
            "file_name;speaker\na.wav;ann\n",
            "line 2: no 'file_name' among ['file_name;speaker']; the",
        ),
        (
            "speaker, file_name\nann, a.wav\n",
            "line 2: no 'file_name' among ['speaker', ' file_name",
        ),
    ],
)
def test_a_line_that_is_no_recording_is_one_line(folder: Path, text: str, message: str) -> None:
    (folder / "metadata.csv").write_text(text)
    with pytest.raises(CorpusError) as caught:
        find_corpus(str(folder))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file_name": 3}, "line 2: file_name is 3; name a file"),
        ({"file_name": "a\0.wav"}, "line 2: file_name='a\\x00.wav' contains NUL"),
        ({"file_name": "a.wav", "speaker": [1]}, "line 2: speaker is [1]; give a name, or"),
        ({"file_name": "a.wav", "speaker_id": "\ud800"}, "line 2: speaker='\\ud800' contains"),
        ([1], "line 2: give an object"),
    ],
)
def test_a_row_of_jsonl_that_is_no_recording_is_one_line(
    folder: Path, row: object, message: str
) -> None:
    (folder / "metadata.jsonl").write_text(f'{{"file_name": "x.wav"}}\n{json.dumps(row)}\n')
    with pytest.raises(CorpusError) as caught:
        find_corpus(str(folder))
    assert message in str(caught.value)


def test_a_file_elsewhere_keeps_its_path_and_has_no_speaker(folder: Path) -> None:
    inside, outside = folder / "train" / "ann", folder / "test" / "bob" / "a.wav"
    (inside / "metadata.csv").write_text(f"file_name\n../bob/a.wav\n{outside}\nb.wav\n")
    names = {"b.wav": "", (folder / "train/bob/a.wav").as_posix(): "", outside.as_posix(): ""}
    assert found(inside) == names


def test_inspect_counts_what_metadata_lists(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "metadata.csv").write_text("file_name,speaker\ntrain/ann/a.wav,x\n")
    assert main(["inspect", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["speakers"].keys() == {"x"}


def test_metadata_in_another_encoding_is_an_error_and_not_overlooked(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,speaker\na.wav,ann\n", encoding="utf-16")
    with pytest.raises(CorpusError, match=r"metadata.csv, line 1: not UTF-8 .*; save it as UTF-8"):
        find_corpus(str(folder))


def test_metadata_that_begins_with_an_empty_line_is_read(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('\n{"text": "x", "file_name" : "train/bob/a.wav"}\n')
    assert list(found(folder)) == ["train/bob/a.wav"]
