"""wavenet.files: a destination holds the old content or the new one, and nothing is left over."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from wavenet.files import WriteError, atomic_write

Limit = Callable[[int], AbstractContextManager[None]]


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "a.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent
        assert temporary.suffix != target.suffix  # a search for *.txt does not find it
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
def test_any_exception_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(
    tmp_path: Path, files_of_at_most: Limit
) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with (
        pytest.raises(WriteError) as caught,
        files_of_at_most(1000),
        atomic_write(target) as temporary,
    ):
        temporary.write_bytes(bytes(2000))
    assert str(caught.value).startswith(f"{target}: nothing was written: File too large; ")
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_permissions_are_those_of_an_ordinary_file_or_of_the_file_replaced(tmp_path: Path) -> None:
    plain, target = tmp_path / "plain", tmp_path / "target"
    plain.write_text("made by open()")
    for mode in (plain.stat().st_mode, 0o100640):
        with atomic_write(target) as temporary:
            temporary.write_text("x")
        assert target.stat().st_mode == mode
        target.chmod(0o640)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_folders_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for target, reason in ((tmp_path, "Is a directory"), (tmp_path / "pipe", "Not a regular file")):
        with pytest.raises(WriteError, match=reason), atomic_write(target):
            pytest.fail("the block must not run")
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    target = tmp_path / "file" / "a.txt"
    with pytest.raises(WriteError, match="is a file, not a folder"), atomic_write(target):
        pytest.fail("the block must not run")


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file"), atomic_write(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []
