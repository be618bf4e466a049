"""wavenet.data.manifest: files and parts of files, and a line for each mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavenet.data import Corpus, CorpusError, find_corpus, read_cached
from wavenet.data.inspect import inspect_corpus
from wavenet.data.manifest import read_manifest

RATE = 8000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files whose sample values are their indices, of 1 s and of 0.5 s."""
    ramp = np.arange(1, RATE + 1, dtype=np.int16)
    soundfile.write(tmp_path / "long.wav", ramp, RATE)
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "short.wav", ramp[: RATE // 2], RATE)
    return tmp_path


def write_csv(folder: Path, *lines: str) -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_jsonl(folder: Path, *rows: object) -> Path:
    path = folder / "list.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return path


def both(folder: Path) -> list[Path]:
    return [
        write_csv(
            folder,
            "path,text,speaker,start,end",
            'long.wav,"Hello, you",mary,0.5,0.75',
            "long.wav,,mary,,0.5",
            "deep/short.wav,,john,,",
        ),
        write_jsonl(
            folder,
            {"path": "long.wav", "speaker": "mary", "start": 0.5, "end": 0.75, "text": "Hello"},
            {"path": "long.wav", "speaker": "mary", "start": None, "end": 0.5},
            {"path": "deep/short.wav", "speaker": "john"},
        ),
    ]


def test_csv_and_jsonl_list_files_and_parts_with_their_speakers(folder: Path) -> None:
    for path in both(folder):
        corpus = Corpus.read(read_manifest(path), RATE)
        found = {
            part.name: (part.speaker, int(part.samples[0]), len(part.samples))
            for part in corpus.utterances
        }
        assert found == {
            "deep/short.wav": ("john", 1, 4000),
            "long.wav@0-0.5": ("mary", 1, 4000),
            "long.wav@0.5-0.75": ("mary", 4001, 2000),
        }


def test_a_part_is_cut_at_its_time_whatever_the_rate(folder: Path) -> None:
    path = write_csv(folder, "path,start,end", "long.wav,0.25,0.5")
    (part,) = Corpus.read(read_manifest(path), 2 * RATE).utterances
    assert len(part.samples) == 4000
    assert abs(int(part.samples[100]) - 2051) <= 1  # 2000 + 100 / 2 + 1: a ramp stays a ramp


def test_the_cache_tells_parts_apart(folder: Path, tmp_path: Path) -> None:
    for end, n_samples in ((0.5, 4000), (0.75, 6000)):
        path = write_csv(folder, "path,end", f"long.wav,{end}")
        corpus = read_cached(find_corpus(str(path)), RATE, cache=tmp_path / "cache")
        assert corpus.n_samples == n_samples


def test_a_part_after_the_end_of_a_file_is_skipped_and_a_rounded_end_is_not(
    folder: Path,
) -> None:
    path = write_csv(
        folder, "path,start,end", "long.wav,0.5,1.05", "long.wav,0.5,2", "long.wav,1.5,", "no.wav,,"
    )
    corpus = Corpus.read(read_manifest(path), RATE)
    assert [len(part.samples) for part in corpus.utterances] == [4000]
    assert len(corpus.skipped) == 3
    assert f"{folder}/long.wav: 0.5 to 2 s were requested; the file has 1.000 s" in corpus.skipped
    assert any(
        line.startswith(f"{folder}/no.wav: cannot be read: No such") for line in corpus.skipped
    )


def test_a_file_that_is_listed_by_two_paths_is_refused(tmp_path: Path) -> None:
    for other in (f"{tmp_path}/a.wav", f"../{tmp_path.name}/a.wav"):
        with pytest.raises(CorpusError, match="line 3: .* is the same file as 'a.wav'; remove one"):
            read_manifest(write_csv(tmp_path, "path", "a.wav", other))
        found = read_manifest(write_csv(tmp_path, "path,start,end", "a.wav,0,1", f"{other},1,2"))
        assert len(found.recordings) == 2


def test_parts_far_into_a_long_file_differ_by_the_millisecond(tmp_path: Path) -> None:
    lines = ["path,start,end", "a.wav,12345.671,12345.772", "a.wav,12345.672,12345.773"]
    listing = find_corpus(str(write_csv(tmp_path, *lines)))
    names = [recording.name for recording in listing.recordings]
    assert names == ["a.wav@12345.671-12345.772", "a.wav@12345.672-12345.773"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "list.csv, line 1: no 'path' among"),
        (["path;speaker", "a.wav;b"], "a CSV names its columns, with commas between"),
        (["path,speaker"], "list.csv: lists no recording"),
        (
            ["file,speaker", "a.wav,b"],
            "line 1: no 'path' among ['file', 'speaker']; known: path, sp",
        ),
        (["path,speeker", "a.wav,b"], "line 1: 'speeker' is unknown; did you mean 'speaker'?"),
        (["path,start", "a.wav,soon"], "line 2: start='soon' must be a time in seconds"),
        (
            ["path,speaker", "a.wav, ann"],
            "line 2: speaker=' ann' begins or ends with a space; drop",
        ),
        (["path,start", "a.wav,1_0"], "line 2: start='1_0' must be a time in seconds"),
        (["path,start", "a.wav,-1"], "line 2: start='-1' must be a time in seconds"),
        (["path,end", "a.wav,nan"], "line 2: end='nan' must be a time in seconds"),
        (["path,start,end", "a.wav,2,1"], "line 2: end=1 must be after start=2, in seconds"),
        (["path,speaker", ",mary"], "line 2: path is ''; name a file"),
        (["path", "a.wav", "a.wav"], "line 3: 'a.wav' is listed twice; remove one of them"),
        (["path,start", "a.wav,1e308"], "line 2: start='1e308' must be a time in seconds, at most"),
        (["path,start", "a.wav,1e999"], "line 2: start='1e999' must be a time in seconds"),
        (["path,start", "a.wav," + "9" * 999], "line 2: start='99999999"),
        (
            ["path", "a.wav", "b\0.wav"],
            r"line 3: path='b\x00.wav' contains NUL or a lone surrogate",
        ),
        (["path,speaker", "a.wav,\0"], r"line 2: speaker='\x00' contains NUL or a lone surrogate"),
        (["path", "a" * 200_000], "list.csv, line 2: not CSV: field larger than field limit"),
        (["path,path", "a.wav,b.wav"], "line 1: 'path' is given twice; remove one of them"),
        (
            ["path", "a.wav,b,c"],
            "line 2: more values than columns; put a value that contains a comma",
        ),
    ],
)
def test_a_mistake_in_a_csv_manifest_is_one_line_that_names_it(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(CorpusError) as caught:
        find_corpus(str(write_csv(tmp_path, *lines)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"path": "a.wav"', "list.jsonl, line 1: not JSON: "),
        ('{"path": "a.wav"}\n["b.wav"]', 'line 2: give an object, such as {"path": "a.wav"}'),
        ('{"path": 3}', "line 1: path is 3; name a file"),
        ('{"path": "a.wav", "path": "b.wav"}', "line 1: 'path' is given twice; remove one of them"),
        ('{"path": "a.wav", "start": true}', "line 1: start=True must be a time in seconds"),
        ('{"path": "a.wav", "ende": 3}', "line 1: 'ende' is unknown; did you mean 'end'?"),
        ('{"path": "a.wav"}\n\udcff', "list.jsonl, line 2: not UTF-8 (invalid start byte); save"),
        ('{"path": "a.wav", "end": 1e308}', "line 1: end=1e+308 must be a time in seconds"),
        (
            '{"path": "a.wav", "end": ' + "9" * 999 + "}",
            "line 1: end=9999999999999999999999999999...99999",
        ),
        ('{"path": "a.wav", "end": ' + "9" * 9999 + "}", "line 1: not JSON: Exceeds the limit"),
        ('{"path": "a.wav", "end": [1]}', "line 1: end=[1] must be a time in seconds"),
        ('{"path": ["a.wav"]}', "line 1: path is ['a.wav']; name a file"),
        ('{"path": "a.wav", "speaker": ["x"]}', "line 1: speaker is ['x']; give a name, or"),
        ('{"path": "a.wav", "speaker": true}', "line 1: speaker is True; give a name, or leave"),
        (r'{"path": "a\u0000"}', r"line 1: path='a\x00' contains NUL or a lone surrogate"),
        (r'{"path": "\ud800"}', r"line 1: path='\ud800' contains NUL or a lone surrogate"),
        (
            r'{"path": "a.wav", "speaker": "\udfff"}',
            r"line 1: speaker='\udfff' contains NUL or a lone surrogate",
        ),
        ('{"path": ' + "[" * 99_999, "line 1: nested too deeply; keep it flat"),
        (
            '{"path": "a.wav", "end": ' + "[" * 500 + "]" * 500 + "}",
            "line 1: end=[[[[[[[...]]]]]]] must be a time in seconds",
        ),
    ],
)
def test_a_mistake_in_a_jsonl_manifest_is_one_line_that_names_it(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "list.jsonl"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(CorpusError) as caught:
        find_corpus(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_speaker_may_be_a_number(folder: Path) -> None:
    listing = read_manifest(write_jsonl(folder, {"path": "long.wav", "speaker": 84}))
    assert [recording.speaker for recording in listing.recordings] == ["84"]


def test_what_is_no_file_is_left_out_and_nothing_waits_for_it(folder: Path) -> None:
    os.mkfifo(folder / "pipe.wav")
    path = write_csv(folder, "path", "long.wav", "pipe.wav", "/dev/zero", "deep")
    corpus = read_cached(find_corpus(str(path)), RATE, cache=folder / "cache")
    assert [utterance.name for utterance in corpus.utterances] == ["long.wav"]
    for name in (f"{folder}/pipe.wav", "/dev/zero", f"{folder}/deep"):
        assert f"{name}: not a file; list files in the manifest" in corpus.skipped
    assert len(inspect_corpus("list", find_corpus(str(path))).found["broken"]) == 3


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"{tmp_path}/no.csv: cannot be read: No such file"):
        find_corpus(f"{tmp_path}/no.csv")


def test_a_column_like_a_known_one_that_is_there_too_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,speaker,speaker_id\na.wav,ann,7\n")
    (recording,) = read_manifest(tmp_path / "m.csv").recordings
    assert recording.speaker == "ann"
