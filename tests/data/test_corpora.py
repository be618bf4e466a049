"""wavenet.data.corpora: named corpora lie as torchaudio unpacks them, and say who speaks."""

from __future__ import annotations

import builtins
import io
import logging
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torchaudio.datasets

from wavenet.data import Corpus, CorpusError, Recording, find_corpus
from wavenet.data.corpora import LAYOUTS, import_datasets

RATE = 16_000

Copy = Callable[..., None]


@pytest.fixture
def copy(tmp_path: Path, samples: Path) -> Copy:
    """``copy("a/b.wav")``: half a second of speech there, and texts where content is given."""
    speech, rate = soundfile.read(samples / "prompts-en" / "agent-user.flac", stop=RATE // 2)

    def write(name: str, text: str | None = None) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            soundfile.write(path, speech, rate)
        else:
            path.write_text(text)

    return write


def lay_out(name: str, copy: Copy) -> dict[str, str]:
    """A small copy of a corpus; the speaker of each of its files."""
    found: dict[str, str] = {}
    if name == "LJSPEECH":
        copy("LJSpeech-1.1/metadata.csv", "LJ001-0001|a|a\nLJ050-0278|b|b\n")
        found = {f"LJSpeech-1.1/wavs/{file}.wav": "LJ" for file in ("LJ001-0001", "LJ050-0278")}
    elif name == "VCTK":
        for speaker in ("p225", "s5"):
            for file in (f"{speaker}_001", f"{speaker}_002"):
                copy(f"VCTK-Corpus-0.92/txt/{speaker}/{file}.txt", "text")
                copy(f"VCTK-Corpus-0.92/wav48_silence_trimmed/{speaker}/{file}_mic1.flac")
                path = f"VCTK-Corpus-0.92/wav48_silence_trimmed/{speaker}/{file}_mic2.flac"
                found[path] = speaker
    elif name == "LIBRITTS":
        copy("LibriTTS/dev-clean/84/121123/84_121123_000007_000001.wav")
        for speaker, chapter in (("103", "1240"), ("1034", "121119")):
            file = f"{speaker}_{chapter}_000001_000000"
            found[f"LibriTTS/train-clean-100/{speaker}/{chapter}/{file}.wav"] = speaker
    elif name == "CMUARCTIC":
        for speaker in ("bdl", "slt"):
            folder = f"ARCTIC/cmu_us_{speaker}_arctic"
            copy(f"{folder}/etc/txt.done.data", '( arctic_a0001 "text" )\n')
            found[f"{folder}/wav/arctic_a0001.wav"] = speaker
    elif name == "YESNO":
        found = {f"waves_yesno/{file}.wav": "yesno" for file in ("0_0_1_1", "1_0_1_0")}
    elif name == "SPEECHCOMMANDS":
        folder = "SpeechCommands/speech_commands_v0.02"
        copy(f"{folder}/_background_noise_/pink_noise.wav")
        for word, speaker in (("yes", "0a7c2a8d"), ("no", "0a7c2a8d"), ("no", "ffd2ba2f")):
            found[f"{folder}/{word}/{speaker}_nohash_0.wav"] = speaker
    elif name == "PROMPTS":
        found = {
            f"prompts/{lang}/{file}.flac": lang for lang in ("en", "fr", "it") for file in "ab"
        }
    for path in found:
        copy(path)
    return found


NAMES = ["LJSPEECH", "VCTK", "LIBRITTS", "CMUARCTIC", "YESNO", "SPEECHCOMMANDS", "PROMPTS"]


@pytest.mark.parametrize("name", ["LJSPEECH", "VCTK", "PROMPTS"])
def test_what_macos_puts_beside_a_file_is_no_recording(
    name: str, tmp_path: Path, copy: Copy
) -> None:
    expected = lay_out(name, copy)
    for path in map(Path, expected):
        copy(str(path.with_name(f"._{path.name}")), "resource fork")
    assert len(find_corpus(name, root=tmp_path).recordings) == len(expected)


def test_all_named_corpora_are_tested() -> None:
    assert set(LAYOUTS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_named_corpus_is_found_with_its_speakers(name: str, tmp_path: Path, copy: Copy) -> None:
    expected = lay_out(name, copy)
    listing = find_corpus(name, root=tmp_path)
    found = {str(each.path.relative_to(tmp_path)): each.speaker for each in listing.recordings}
    assert found == expected
    assert [each.name for each in listing.recordings] == sorted(
        each.name for each in listing.recordings
    )
    corpus = Corpus.read(listing, RATE)
    assert corpus.skipped == ()
    assert set(corpus.speakers) == set(expected.values())
    assert corpus.duration_s == 0.5 * len(expected)


@pytest.mark.parametrize("name", [name for name in NAMES if LAYOUTS[name].dataset])
def test_torchaudio_finds_as_many_in_the_same_folder(name: str, tmp_path: Path, copy: Copy) -> None:
    lay_out(name, copy)
    layout = LAYOUTS[name]
    dataset = getattr(torchaudio.datasets, layout.dataset)
    parts = ("bdl", "slt") if name == "CMUARCTIC" else layout.fetched
    options = [{layout.option: part} if layout.option else {} for part in parts]
    theirs = sum(len(dataset(str(tmp_path), **option)) for option in options)
    assert len(find_corpus(name, root=tmp_path).recordings) == theirs > 0


def test_a_speaker_of_vctk_with_one_microphone_is_used_and_logged(
    tmp_path: Path, copy: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    expected = lay_out("VCTK", copy)
    for name in ("p280/p280_001_mic1", "p280/p280_002_mic1", "p225/._p225_001_mic2"):
        copy(f"VCTK-Corpus-0.92/wav48_silence_trimmed/{name}.flac")
    with caplog.at_level(logging.INFO, "wavenet"):
        listing = find_corpus("VCTK", root=tmp_path)
    found = [each.speaker for each in listing.recordings]
    assert sorted(found) == sorted([*expected.values(), "p280", "p280"])
    folder = tmp_path / "VCTK-Corpus-0.92"
    assert caplog.messages == [
        f"ignored 1 ._* files of macOS in {folder}: they contain no audio",
        f"{folder} holds no wav48_silence_trimmed/*/*_mic2.flac of p280; "
        "wav48_silence_trimmed/*/*_mic1.flac is used instead",
    ]


def test_parts_are_those_that_are_named(tmp_path: Path, copy: Copy) -> None:
    for name in ("LIBRITTS", "CMUARCTIC"):
        lay_out(name, copy)
    held_out = find_corpus("LIBRITTS/dev-clean", root=tmp_path)
    assert {each.speaker for each in held_out.recordings} == {"84"}
    assert len(find_corpus("LIBRITTS/dev-clean,train-clean-100", root=tmp_path).recordings) == 3
    assert len(find_corpus("CMUARCTIC/slt", root=tmp_path).recordings) == 1


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (
            "YESNO",
            "corpus=YESNO: there is no {root}/waves_yesno; set download to true, or corpus_r",
        ),
        (
            "PROMPTS",
            "there is no {root}/prompts; decode Debian's packages asterisk-core-sounds-*-g",
        ),
        ("YESNO/all", "corpus='YESNO/all': YESNO has no such part; it has no parts"),
        (
            "LIBRITTS/dev",
            "corpus='LIBRITTS/dev': LIBRITTS has no such part; its parts are train-cl",
        ),
        ("CMUARCTIC/bdl", "there is no {root}/ARCTIC/cmu_us_bdl_arctic; set download to true"),
        (
            "ljspeech",
            "corpus='ljspeech' is not a folder; name one with audio files, a file, a manife",
        ),
    ],
)
def test_a_corpus_that_is_not_there_is_one_line(tmp_path: Path, corpus: str, message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        find_corpus(corpus, root=tmp_path)
    assert message.format(root=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_corpus_without_audio_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "waves_yesno").mkdir()
    with pytest.raises(CorpusError, match=r"waves_yesno holds no \*.wav; fetch it again"):
        find_corpus("YESNO", root=tmp_path)


# --- fetching ---


@pytest.fixture
def archive(copy: Copy, tmp_path: Path) -> bytes:
    """Archive on the server of YESNO."""
    lay_out("YESNO", copy)
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.add(tmp_path / "waves_yesno", "waves_yesno")
    return content.getvalue()


def test_what_is_not_there_is_fetched_once_and_unpacked_whole(
    tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(url: str, path: str, hash_prefix: str) -> None:
        fetched.append(url)
        Path(path).write_bytes(archive)

    monkeypatch.setattr("torchaudio.datasets.yesno.download_url_to_file", fetch)
    root = tmp_path / "root"
    for _ in range(2):
        assert len(find_corpus("YESNO", root=root, download=True).recordings) == 2
    assert len(fetched) == 1
    assert {path.name for path in root.iterdir()} == {"waves_yesno", ".download.lock"}


def test_a_download_that_died_while_it_unpacked_is_unpacked_again(
    tmp_path: Path, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "root" / ".download"
    (beside / "waves_yesno").mkdir(parents=True)
    (beside / "waves_yesno" / "half.wav").write_bytes(b"RIFF")
    (beside / "waves_yesno.tar.gz").write_bytes(archive)
    monkeypatch.setattr(
        "torchaudio.datasets.yesno.download_url_to_file",
        lambda *_, **__: pytest.fail("the archive is there"),
    )
    listing = find_corpus("YESNO", root=tmp_path / "root", download=True)
    assert {each.path.name for each in listing.recordings} == {"0_0_1_1.wav", "1_0_1_0.wav"}


def test_a_network_that_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr("torchaudio.datasets.yesno.download_url_to_file", refuse)
    with pytest.raises(
        CorpusError,
        match="corpus=YESNO cannot be fetched into corpus_root='.*': no route to host; t",
    ):
        find_corpus("YESNO", root=tmp_path, download=True)
    assert not (tmp_path / "waves_yesno").exists()


def test_a_corpus_that_torchaudio_does_not_have_is_an_error_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="corpus=PROMPTS cannot be downloaded; decode Debian's"):
        find_corpus("PROMPTS", root=tmp_path, download=True)


@pytest.fixture(params=[ImportError, OSError], ids=["missing", "undefined symbol"])
def without_torchaudio(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a missing torchaudio, or one built for another torch."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("torchaudio"):
            raise request.param("libtorchaudio.so: undefined\nsymbol")
        return real(name, *rest)

    for name in [name for name in sys.modules if name.startswith("torchaudio")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.usefixtures("without_torchaudio")
def test_a_torch_that_torchaudio_cannot_work_with_is_one_line_that_names_those_that_do(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        find_corpus("YESNO", root=tmp_path, download=True)
    line = str(caught.value)
    assert "torch 2.11.0 and 2.12.1 work with torchaudio 2.11" in line
    assert "undefined symbol" in line
    assert "\n" not in line


@pytest.mark.usefixtures("without_torchaudio")
def test_unpacked_corpora_need_no_torchaudio(tmp_path: Path, copy: Copy) -> None:
    lay_out("YESNO", copy)
    assert len(find_corpus("YESNO", root=tmp_path, download=True).recordings) == 2


def test_the_data_sets_of_torchaudio_are_those_we_name() -> None:
    datasets: SimpleNamespace = import_datasets()
    for layout in LAYOUTS.values():
        assert not layout.dataset or hasattr(datasets, layout.dataset)


def test_one_audio_file_is_a_corpus_of_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.full(80, 0.1), 8000)
    assert find_corpus(str(path)).recordings == (Recording("a.flac", path, ""),)
    assert Corpus.read(find_corpus(str(path)), 8000).duration_s == 0.01
