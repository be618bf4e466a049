"""wavenet.data.corpora: named corpora are fetched, and listed as torchaudio lists them."""

from __future__ import annotations

import hashlib
import io
import itertools
import logging
import re
import socket
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.datasets
from file_server import FileServer, file_server

from wavenet.data import Corpus, CorpusError, Recording, find_corpus
from wavenet.data.archives import ARCHIVES
from wavenet.data.corpora import LAYOUTS
from wavenet.storage import download as downloads
from wavenet.storage.download import Published

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
    elif name in ("LIBRITTS", "LIBRITTS_R"):
        folder = "LibriTTS" if name == "LIBRITTS" else "LibriTTS_R"
        copy(f"{folder}/dev-clean/84/121123/84_121123_000007_000001.wav")
        for speaker, chapter in (("103", "1240"), ("1034", "121119")):
            file = f"{speaker}_{chapter}_000001_000000"
            path = f"{folder}/train-clean-100/{speaker}/{chapter}/{file}"
            copy(f"{path}.original.txt", "text")
            copy(f"{path}.normalized.txt", "text")
            found[f"{path}.wav"] = speaker
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


NAMES = [
    "LJSPEECH",
    "VCTK",
    "LIBRITTS",
    "LIBRITTS_R",
    "CMUARCTIC",
    "YESNO",
    "SPEECHCOMMANDS",
    "PROMPTS",
]


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


THEIRS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "LJSPEECH": [("LJSPEECH", {})],
    "VCTK": [("VCTK_092", {})],
    "LIBRITTS": [("LIBRITTS", {"url": "train-clean-100"})],
    "LIBRITTS_R": [("LIBRITTS", {"url": "train-clean-100", "folder_in_archive": "LibriTTS_R"})],
    "CMUARCTIC": [("CMUARCTIC", {"url": "bdl"}), ("CMUARCTIC", {"url": "slt"})],
    "YESNO": [("YESNO", {})],
    "SPEECHCOMMANDS": [("SPEECHCOMMANDS", {})],
}
"""The classes of torchaudio.datasets that read each corpus."""

SPEAKER_AT: dict[str, int] = {"VCTK": 3, "LIBRITTS": 4, "LIBRITTS_R": 4, "SPEECHCOMMANDS": 3}
"""Position of the speaker in the items of torchaudio, where they have one."""


@pytest.mark.parametrize("name", THEIRS)
def test_torchaudio_finds_the_same_files_and_speakers_in_the_same_order(
    name: str, tmp_path: Path, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = lay_out(name, copy)
    read: list[str] = []

    def note(path: Any) -> tuple[torch.Tensor, int]:
        read.append(Path(path).relative_to(tmp_path).as_posix())
        return torch.zeros(1, 1), RATE

    monkeypatch.setattr(torchaudio, "load", note)
    items = []
    for kind, options in THEIRS[name]:
        dataset = getattr(torchaudio.datasets, kind)(str(tmp_path), **options)
        items += [dataset[i] for i in range(len(dataset))]
    ours = [(each.name, each.speaker) for each in find_corpus(name, root=tmp_path).recordings]
    assert len(items) == len(ours) == len(expected)
    if name.startswith("LIBRITTS"):  # it sorts file names, where 1034_ is before 103_
        ours.sort(key=lambda each: each[0].rpartition("/")[2])
    assert [path for path, _ in ours] == read
    if name in SPEAKER_AT:
        assert [who for _, who in ours] == [str(item[SPEAKER_AT[name]]) for item in items]


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


def archive_of(name: str, folder: Path) -> bytes:
    """The archive of a corpus's first part, from a small copy of it below a folder."""
    layout = LAYOUTS[name]
    part = "bdl" if name == "CMUARCTIC" else layout.fetched[0]
    base, top = folder / layout.base, folder / layout.folder.format(part=part)
    content = io.BytesIO()
    if ARCHIVES[name][part].name.endswith(".zip"):
        with zipfile.ZipFile(content, "w") as out:
            for path in top.rglob("*"):
                out.write(path, path.relative_to(base))
    else:
        kind = "w:bz2" if ARCHIVES[name][part].name.endswith(".bz2") else "w:gz"
        with tarfile.open(fileobj=content, mode=kind) as tar:
            tar.add(top, top.relative_to(base))
    return content.getvalue()


class Source:
    """A server that is the only source of the corpora."""

    def __init__(self, server: FileServer, patch: pytest.MonkeyPatch) -> None:
        self.server, self.patch = server, patch

    def publish(self, name: str, part: str, content: bytes) -> Published:
        """Serve the archive of one part at the path it has elsewhere, the rest nowhere."""
        file = ARCHIVES[name][part]
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        here = Published((f"{self.server.url}/{file.name}",), len(content), digest)
        self.patch.setitem(ARCHIVES[name], part, here)
        self.server.files[f"/{file.name}"] = content
        return here


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "WAITS_S", (0.01, 0.01))
    with file_server() as server:
        yield Source(server, monkeypatch)


@pytest.fixture
def archive(copy: Copy, tmp_path: Path) -> bytes:
    """Archive on the server of YESNO."""
    lay_out("YESNO", copy)
    return archive_of("YESNO", tmp_path)


@pytest.mark.parametrize("name", THEIRS)
def test_each_corpus_is_fetched_and_listed_as_the_copy_it_was_made_from(
    name: str, tmp_path: Path, copy: Copy, source: Source
) -> None:
    lay_out(name, copy)
    part = "bdl" if name == "CMUARCTIC" else LAYOUTS[name].fetched[0]
    asked = f"{name}/{part}" if part else name
    source.publish(name, part, archive_of(name, tmp_path))
    found = find_corpus(asked, root=tmp_path / "root", download=True)
    expected = find_corpus(asked, root=tmp_path)
    names = [(each.name, each.speaker) for each in found.recordings]
    assert names == [(each.name, each.speaker) for each in expected.recordings]
    assert Corpus.read(found, RATE).skipped == ()


def test_the_table_of_archives_is_that_of_the_layouts_and_of_torchaudio() -> None:
    for name, layout in LAYOUTS.items():
        assert set(ARCHIVES.get(name, ())) == (
            set() if layout.home else {*layout.parts, *layout.held_out}
        )
        assert layout.fetched[0] in ARCHIVES.get(name, layout.fetched)
    tables = [
        getattr(module, table)
        for module, table in itertools.product(
            vars(torchaudio.datasets).values(), ("_CHECKSUMS", "_RELEASE_CONFIGS")
        )
        if hasattr(module, table)
    ]
    known = {
        url.rpartition("//")[2].removeprefix("www."): digest
        for table in tables
        for url, digest in (
            (each["url"], each["checksum"]) if isinstance(each, dict) else (key, each)
            for key, each in table.items()
            if isinstance(each, str) or "checksum" in each
        )
    }
    compared = 0
    for name, parts in ARCHIVES.items():
        for file in parts.values():
            assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.digest)
            hosts = [url.rpartition("//")[2].removeprefix("www.") for url in file.urls]
            theirs = {known[url] for url in hosts if url in known}
            assert theirs <= {file.digest.removeprefix("sha256:")}, file.urls
            compared += len(theirs)
            assert theirs or name == "LIBRITTS_R", file.urls
    assert compared == 1 + 1 + 7 + 18 + 1 + 1


def test_what_is_not_there_is_fetched_once_and_unpacked_whole(
    tmp_path: Path, archive: bytes, source: Source
) -> None:
    source.publish("YESNO", "", archive)
    root = tmp_path / "root"
    for _ in range(2):
        assert len(find_corpus("YESNO", root=root, download=True).recordings) == 2
    assert source.server.requests == [("/waves_yesno.tar.gz", None)]
    assert {path.name for path in root.iterdir()} == {"waves_yesno", ".download.lock"}


def test_fetching_needs_no_torchaudio(
    tmp_path: Path, archive: bytes, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    source.publish("YESNO", "", archive)
    assert len(find_corpus("YESNO", root=tmp_path / "root", download=True).recordings) == 2


def test_nothing_is_requested_unless_it_is_asked_for(
    tmp_path: Path, archive: bytes, source: Source
) -> None:
    source.publish("YESNO", "", archive)
    with pytest.raises(CorpusError, match="set download to true"):
        find_corpus("YESNO", root=tmp_path / "root")
    assert find_corpus("YESNO", root=tmp_path).recordings
    assert find_corpus("YESNO", root=tmp_path, download=True).recordings  # it is there
    assert source.server.requests == []


def test_a_download_that_died_while_it_unpacked_is_unpacked_again(
    tmp_path: Path, archive: bytes, source: Source
) -> None:
    source.publish("YESNO", "", archive)
    beside = tmp_path / "root" / ".download"
    (beside / "waves_yesno").mkdir(parents=True)
    (beside / "waves_yesno" / "half.wav").write_bytes(b"RIFF")
    (beside / "waves_yesno.tar.gz").write_bytes(archive)
    listing = find_corpus("YESNO", root=tmp_path / "root", download=True)
    assert {each.path.name for each in listing.recordings} == {"0_0_1_1.wav", "1_0_1_0.wav"}
    assert source.server.requests == []


def test_downloads_of_other_archives_survive_one_that_ends(
    tmp_path: Path, archive: bytes, source: Source
) -> None:
    source.publish("YESNO", "", archive)
    beside = tmp_path / "root" / ".download"
    beside.mkdir(parents=True)
    for name in ("train-clean-360.tar.gz.part", "dev_clean.tar.gz", "readme"):
        (beside / name).write_bytes(b"beginning")
    assert len(find_corpus("YESNO", root=tmp_path / "root", download=True).recordings) == 2
    kept = {path.name for path in beside.iterdir()}
    assert kept == {"train-clean-360.tar.gz.part", "dev_clean.tar.gz"}


def test_a_downloaded_archive_that_was_damaged_is_downloaded_again(
    tmp_path: Path, archive: bytes, source: Source
) -> None:
    source.publish("YESNO", "", archive)
    beside = tmp_path / "root" / ".download"
    beside.mkdir(parents=True)
    (beside / "waves_yesno.tar.gz").write_bytes(b"")  # what a power failure may leave
    assert len(find_corpus("YESNO", root=tmp_path / "root", download=True).recordings) == 2
    assert source.server.requests == [("/waves_yesno.tar.gz", None)]
    assert not beside.exists()


def test_a_misspelt_name_of_a_corpus_is_corrected(tmp_path: Path) -> None:
    for given, meant in (("ljspeech", "LJSPEECH"), ("LibriTTS-R/dev-clean", "LIBRITTS_R")):
        with pytest.raises(CorpusError, match=f"; did you mean {meant}\\?$"):
            find_corpus(given, root=tmp_path)


def test_a_download_that_was_interrupted_is_continued_by_the_next_run(
    tmp_path: Path, archive: bytes, source: Source
) -> None:
    source.publish("YESNO", "", archive)
    source.server.cuts = [1000, 0, 0, 0]
    with pytest.raises(CorpusError, match="corpus=YESNO cannot be fetched .*: IncompleteRead"):
        find_corpus("YESNO", root=tmp_path / "root", download=True)
    assert len(find_corpus("YESNO", root=tmp_path / "root", download=True).recordings) == 2
    assert source.server.requests[-1] == ("/waves_yesno.tar.gz", "bytes=1000-")


def test_an_archive_that_lies_in_the_root_is_checked_unpacked_and_kept(
    tmp_path: Path, archive: bytes, source: Source
) -> None:
    source.publish("YESNO", "", archive)
    root = tmp_path / "root"
    root.mkdir()
    (root / "waves_yesno.tar.gz").write_bytes(archive[:-1])
    with pytest.raises(CorpusError, match=rf"waves_yesno.tar.gz has {len(archive) - 1} bytes"):
        find_corpus("YESNO", root=root, download=True)
    (root / "waves_yesno.tar.gz").write_bytes(archive)
    assert len(find_corpus("YESNO", root=root, download=True).recordings) == 2
    assert (root / "waves_yesno.tar.gz").read_bytes() == archive
    assert source.server.requests == []


def test_a_network_that_refuses_is_one_line(tmp_path: Path, source: Source) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/waves_yesno.tar.gz"
        source.patch.setitem(ARCHIVES["YESNO"], "", Published((url,)))
        with pytest.raises(
            CorpusError,
            match=f"corpus=YESNO cannot be fetched into corpus_root='.*': {url}: .*refused; t",
        ) as caught:
            find_corpus("YESNO", root=tmp_path, download=True)
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {".download.lock"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[::-1], "has sha256 [0-9a-f]{64}, and [0-9a-f]{64} is published"),
        (lambda content: content + b"?", r"has \d+ bytes, and \d+ are published"),
        (lambda content: None, "HTTP 404 Not Found"),
    ],
    ids=["checksum", "size", "404"],
)
def test_another_archive_than_the_published_one_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    archive: bytes,
    source: Source,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    source.publish("YESNO", "", archive)
    source.server.files["/waves_yesno.tar.gz"] = damage(archive)
    root = tmp_path / "root"
    with pytest.raises(CorpusError, match=f"corpus=YESNO cannot be fetched into .*{message}") as at:
        find_corpus("YESNO", root=root, download=True)
    assert "\n" not in str(at.value)
    assert {path.name for path in root.iterdir()} == {".download.lock"}


def test_an_archive_whose_files_lead_out_of_the_folder_is_refused(
    tmp_path: Path, source: Source
) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in ("waves_yesno/0_0_1_1.wav", "../../outside.wav"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"RIFF"))
    source.publish("YESNO", "", content.getvalue())
    root = tmp_path / "root"
    with pytest.raises(CorpusError, match="'../../outside.wav' leads out of the folder"):
        find_corpus("YESNO", root=root, download=True)
    assert not list(tmp_path.rglob("*.wav"))


def test_an_archive_without_the_corpus_is_one_line(tmp_path: Path, source: Source) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz"):
        pass
    source.publish("YESNO", "", content.getvalue())
    with pytest.raises(CorpusError, match="waves_yesno.tar.gz contains no folder waves_yesno"):
        find_corpus("YESNO", root=tmp_path / "root", download=True)


def test_a_corpus_that_is_not_published_is_an_error_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="corpus=PROMPTS cannot be downloaded; decode Debian's"):
        find_corpus("PROMPTS", root=tmp_path, download=True)


def test_one_audio_file_is_a_corpus_of_one_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.full(80, 0.1), 8000)
    assert find_corpus(str(path)).recordings == (Recording("a.flac", path, ""),)
    assert Corpus.read(find_corpus(str(path)), 8000).duration_s == 0.01
