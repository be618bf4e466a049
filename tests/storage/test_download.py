"""wavenet.storage.download: whole and checked, or none; what was interrupted is continued."""

from __future__ import annotations

import hashlib
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from file_server import FileServer, file_server

from wavenet.storage import download as downloads
from wavenet.storage.download import DownloadError, Published, download

CONTENT = bytes(range(256)) * 9000
"""2.3 MB: three blocks."""
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "WAITS_S", (0.01, 0.01))
    with file_server() as served:
        served.files["/a.zip"] = CONTENT
        yield served


def published(
    server: FileServer, size: int | None = len(CONTENT), digest: str = SHA256
) -> Published:
    return Published((f"{server.url}/a.zip",), size, digest)


@pytest.mark.parametrize("digest", [SHA256, MD5, ""])
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_file_arrives_whole(
    server: FileServer, tmp_path: Path, size: int | None, digest: str
) -> None:
    path = download(published(server, size, digest), tmp_path / "new" / "a.zip")
    assert path == tmp_path / "new" / "a.zip"
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["a.zip"]
    assert server.requests == [("/a.zip", None)]


def test_without_tqdm_it_arrives_as_well(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    assert download(published(server), tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_file_that_is_there_is_checked_and_not_requested(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT)
    download(published(server), tmp_path / "a.zip")
    assert server.requests == []
    (tmp_path / "a.zip").write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DownloadError, match=r"a\.zip has sha256 [0-9a-f]{64}, and [0-9a-f]{64} is"):
        download(published(server), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").exists()  # it is the user's


def test_a_lost_connection_is_continued_where_it_broke(
    server: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.cuts = [1_000_000, 1, 0, 0, 500_000]  # two answers in a row without a byte
    with caplog.at_level(logging.INFO, "wavenet"):
        assert download(published(server), tmp_path / "a.zip").read_bytes() == CONTENT
    asked = [None, 1_000_000, 1_000_001, 1_000_001, 1_000_001, 1_500_001]
    assert server.requests == [("/a.zip", first and f"bytes={first}-") for first in asked]
    assert len(caplog.messages) == 5
    assert "a.zip: IncompleteRead(" in caplog.messages[0]
    assert caplog.messages[0].endswith("; trying again in 0.01 s")


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_later_run_continues_what_an_earlier_one_left(
    server: FileServer, tmp_path: Path, size: int | None
) -> None:
    server.cuts = [700_000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"http://127.0.0.1:\d+/a.zip: IncompleteRead"):
        download(published(server, size), tmp_path / "a.zip")
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip.part"]
    assert download(published(server, size), tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests[-1] == ("/a.zip", "bytes=700000-")


def test_a_part_that_is_whole_is_only_renamed(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert download(published(server), tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests == []
    (tmp_path / "a.zip").rename(tmp_path / "a.zip.part")
    assert download(published(server, None), tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests == [("/a.zip", f"bytes={len(CONTENT)}-")]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_longer_than_the_file_begins_anew(
    server: FileServer, tmp_path: Path, size: int | None
) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    assert download(published(server, size), tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_of_it_again(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [1_000_000]
    assert download(published(server), tmp_path / "a.zip").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000000-"]


def test_a_wrong_checksum_is_one_line_and_leaves_nothing(
    server: FileServer, tmp_path: Path
) -> None:
    server.files["/a.zip"] = CONTENT[::-1]
    with pytest.raises(DownloadError) as caught:
        download(published(server), tmp_path / "a.zip")
    assert str(caught.value).startswith(f"{server.url}/a.zip has sha256 ")
    assert str(caught.value).endswith(f", and {SHA256[7:]} is published")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_size_is_refused_before_it_is_read(
    server: FileServer, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match="a.zip: has 2304000 bytes, and 44565031479 are publ"):
        download(published(server, 44565031479), tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_asked_for_once_and_then_elsewhere(
    server: FileServer, tmp_path: Path
) -> None:
    missing = f"{server.url}/gone.zip"
    with pytest.raises(DownloadError) as caught:
        download(Published((missing,), None, ""), tmp_path / "a.zip")
    assert str(caught.value) == f"{missing}: HTTP 404 Not Found"
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []
    both = Published((missing, f"{server.url}/a.zip"), len(CONTENT), SHA256)
    assert download(both, tmp_path / "a.zip").read_bytes() == CONTENT
    assert both.name == "gone.zip"


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.refusals = [503, 429]
    assert download(published(server), tmp_path / "a.zip").read_bytes() == CONTENT
    server.refusals = [503, 503, 503]
    with pytest.raises(DownloadError, match="a.zip: HTTP 503 Service Unavailable$"):
        download(published(server), tmp_path / "b.zip")


def test_where_nobody_listens_the_line_says_so(server: FileServer, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.zip"
        with pytest.raises(DownloadError, match="a.zip: .*refused"):
            download(Published((url,)), tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_lost_connection(
    server: FileServer,
    tmp_path: Path,
    files_of_at_most: Callable[[int], AbstractContextManager[None]],
) -> None:
    with files_of_at_most(1 << 20), pytest.raises(OSError, match="File too large"):
        download(published(server), tmp_path / "a.zip")
    assert len(server.requests) == 1
    assert download(published(server), tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests[-1] == ("/a.zip", f"bytes={1 << 20}-")


def test_an_answer_without_a_length_is_continued_to_the_published_size(
    server: FileServer, tmp_path: Path
) -> None:
    server.lengths, server.cuts = False, [1_000_000]
    assert download(published(server), tmp_path / "a.zip").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=1000000-"]


def test_an_answer_without_a_length_is_read_no_further_than_the_published_size(
    server: FileServer, tmp_path: Path
) -> None:
    server.lengths = False
    with pytest.raises(DownloadError, match=r"a\.zip: sends more than the 1000 bytes of the file"):
        download(published(server, 1000), tmp_path / "a.zip")
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []
