"""wavenet.storage.unpacking: files of an archive arrive below the folder, or nowhere."""

from __future__ import annotations

import io
import logging
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from wavenet.storage.unpacking import ArchiveError, unpack

FILES = {"a/b/one.txt": b"one" * 100_000, "a/two.txt": b"two", "three.txt": b""}
TARS = {"": "a.tar", "gz": "a.tar.gz", "bz2": "a.tar.bz2"}


def tar(path: Path, names: dict[str, bytes], *more: tarfile.TarInfo, kind: str = "") -> Path:
    with tarfile.open(path, f"w:{kind}") as out:
        folder = tarfile.TarInfo("a")
        folder.type = tarfile.DIRTYPE
        out.addfile(folder)
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o4777
            out.addfile(member, io.BytesIO(content))
        for member in more:
            out.addfile(member)
    return path


def zipped(path: Path, names: dict[str, bytes], link: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a/", "")
        for name, content in names.items():
            out.writestr(name, content)
        if link:
            member = zipfile.ZipInfo(link)
            member.external_attr = (stat.S_IFLNK | 0o777) << 16
            out.writestr(member, "/etc")
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["", "gz", "bz2", "zip"])
def test_an_archive_unpacks_whole(tmp_path: Path, kind: str) -> None:
    if kind == "zip":
        archive = zipped(tmp_path / "a.zip", FILES)
    else:
        archive = tar(tmp_path / TARS[kind], FILES, kind=kind)
    for _ in range(2):  # over what is there as well
        unpack(archive, tmp_path / "new" / "out")
        assert files_below(tmp_path / "new" / "out") == FILES
    assert (tmp_path / "new/out/a/two.txt").stat().st_mode & 0o7022 == 0


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "{tmp}/out.txt", "./../out.txt"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_leads_out_of_the_folder_is_refused(
    tmp_path: Path, name: str, kind: str
) -> None:
    names = {"a.txt": b"a", name.format(tmp=tmp_path): b"out", "b.txt": b"b"}
    archive = (tar if kind == "tar" else zipped)(tmp_path / f"a.{kind}", names)
    with pytest.raises(ArchiveError, match=r"a\.(tar|zip): '.*out.txt' leads out of the folder"):
        unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "out.txt").exists()


def test_links_and_devices_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = []
    for name, kind in (
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("p", tarfile.FIFOTYPE),
    ):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, str(tmp_path)
        members.append(member)
    archive = tar(tmp_path / "a.tar", FILES, *members)
    with caplog.at_level(logging.INFO, "wavenet"):
        unpack(archive, tmp_path / "out")
        assert files_below(tmp_path / "out") == FILES
        unpack(zipped(tmp_path / "a.zip", FILES, "link"), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "three.txt"}
    assert caplog.messages == [
        f"left out 3 links or devices of {archive}",
        f"left out 1 links or devices of {tmp_path / 'a.zip'}",
    ]


def test_a_link_does_not_lead_the_file_behind_it_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as out:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
        out.addfile(link)
        member = tarfile.TarInfo("a/file.txt")
        member.size = 1
        out.addfile(member, io.BytesIO(b"x"))
    unpack(archive, tmp_path / "out")
    assert files_below(tmp_path / "out") == {"a/file.txt": b"x"}
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip", "a.tar"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    for content in (b"", b"no archive"):
        archive.write_bytes(content)
        with pytest.raises(ArchiveError, match=f"{name}: damaged: .*; download it again"):
            unpack(archive, tmp_path / "out")


def test_an_archive_that_ends_early_is_damaged(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar.gz", FILES, kind="gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match="a.tar.gz: damaged: "):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
