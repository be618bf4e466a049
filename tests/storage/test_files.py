"""storage.files: a destination holds the old content or the new one, and nothing is left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from wavenet.cli.signals import unwound_by_signals
from wavenet.storage.files import (
    WriteError,
    atomic_write,
    claimed,
    locked,
    remove_left_over,
    require_writable,
)
from wavenet.storage.paths import is_inside, is_same_file, require_other_file

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


def test_what_could_not_be_written_later_is_refused_now_and_nothing_is_made(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder" / "file.wav")
    (tmp_path / "file").touch()
    require_writable(tmp_path / "file")
    for path in (tmp_path, tmp_path / "file" / "x.wav", Path("/dev/null"), Path("/proc/x.wav")):
        with pytest.raises(WriteError, match=f"^{path}: nothing was written: "):
            require_writable(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_sigterm_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, unwound_by_signals(), atomic_write(path) as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert ended.value.code == 143
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    assert signal.getsignal(signal.SIGTERM) is before


KILLED = """
import os, signal, sys
from wavenet.storage.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert len(os.listdir(tmp_path)) == 1
    elsewhere = tmp_path / ".0123abcd-1-0123456789abcdef.tmp"  # another machine's
    elsewhere.write_text("half")
    (tmp_path / ".mine.tmp").write_text("somebody else's")
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        remove_left_over(tmp_path)
        assert temporary.exists()
    assert sorted(os.listdir(tmp_path)) == [elsewhere.name, ".mine.tmp", "a.txt"]
    week_ago = time.time() - 8 * 86400
    os.utime(elsewhere, (week_ago, week_ago))
    remove_left_over(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "a.txt"]


def test_one_file_by_many_paths_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real = tmp_path / "folder" / "a.wav"
    real.touch()
    (tmp_path / "link").symlink_to(real)
    os.link(real, tmp_path / "hard")
    for path in (real, tmp_path / "link", tmp_path / "hard", tmp_path / "folder/../folder/a.wav"):
        assert is_same_file(path, real)
        with pytest.raises(ValueError, match="would be written over; name another file"):
            require_other_file(path, None, real)
    assert not is_same_file(tmp_path / "folder" / "b.wav", real)
    assert is_same_file(tmp_path / "folder" / "b.wav", tmp_path / "folder/./b.wav")  # not there yet
    require_other_file(tmp_path / "folder" / "b.wav", None, real)


def test_inside_is_where_a_path_leads_not_how_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wavs" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("wavs")
    monkeypatch.chdir(tmp_path)
    for path in (
        "wavs",
        "wavs/new/a.wav",
        "link/deep",
        str(tmp_path / "wavs" / "x"),
        "link/../wavs",
    ):
        assert is_inside(path, "wavs"), path
    for path in (".", "wavs-2", "wavs/..", "link/../other"):
        assert not is_inside(path, "wavs"), path
    assert is_inside("wavs", ".")


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No such file"), atomic_write(tmp_path / "a.txt"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_is_held_by_one_and_freed_at_the_end(tmp_path: Path) -> None:
    order: list[str] = []

    def wait() -> None:
        with locked(tmp_path / "new" / "a.lock") as alone:
            order.append(f"second {alone}")

    with locked(tmp_path / "new" / "a.lock") as alone:
        second = threading.Thread(target=wait)
        second.start()
        second.join(0.1)
        assert second.is_alive()
        order.append(f"first {alone}")
    second.join()
    assert order == ["first True", "second True"]


def test_what_is_claimed_is_claimed_by_one_process_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "claim"
    with claimed(path):
        assert path.exists()
        assert _in_a_child(lambda: _claims(path)) == 1
        (tmp_path / "folder" / "more").write_text("")
    assert os.listdir(tmp_path / "folder") == ["more"]
    assert _in_a_child(lambda: _claims(path)) == 0
    with claimed(tmp_path / "empty" / "claim"):
        pass
    assert os.listdir(tmp_path) == ["folder"]


def test_a_claim_is_free_when_its_process_dies_whoever_it_has_forked(tmp_path: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with claimed(tmp_path / "claim"):
            if os.fork() == 0:  # a process that outlives it, as a loader's worker may
                time.sleep(2)
                os._exit(0)
            os.write(write, b".")
            time.sleep(60)
    os.read(read, 1)
    with pytest.raises(BlockingIOError), claimed(tmp_path / "claim"):
        pytest.fail("the block must not run")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with claimed(tmp_path / "claim"):
        assert os.listdir(tmp_path) == ["claim"]
    assert not os.listdir(tmp_path)


def test_what_cannot_be_claimed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WriteError, match="nothing was written: "), claimed(tmp_path / "file" / "a"):
        pytest.fail("the block must not run")


def _claims(path: Path) -> int:
    try:
        with claimed(path):
            return 0
    except BlockingIOError:
        return 1


def _in_a_child(call: Callable[[], int]) -> int:
    """Exit code of a forked child without running threads, which exits at once."""
    child = os.fork()
    if child == 0:
        os._exit(call())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
