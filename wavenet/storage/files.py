"""Atomic writes and locks of files.

A file is written under a temporary name in the folder of its destination, flushed to the disk, and
renamed over the destination in one step. POSIX makes that rename atomic (IEEE Std 1003.1,
`rename`): after a crash or with a full disk there is the old file or the new one, never a part.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

logger = logging.getLogger("wavenet")

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EFBIG: "write a shorter file or raise the limit on file sizes",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EISDIR: "name a file inside that folder",
    errno.ENAMETOOLONG: "choose a shorter name",
}


# A temporary file's name identifies its machine and process; that of earlier versions did not.
_TEMPORARY = re.compile(r"\.(?:([0-9a-f]{8})-([0-9]+)-)?[0-9a-f]{16}\.tmp")
_ABANDONED_S = 7 * 86400.0
"""Age from which on an unchanged temporary file of another machine counts as abandoned."""
_unfinished: set[Path] = set()
"""Temporary files of this process that are being written."""


class WriteError(OSError):
    """Raised if a file cannot be written; the message has path, reason and remedy in one line."""


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success, that file is renamed to `path`.

    Missing parent folders are made. A link is followed; an existing file keeps its permissions.
    If the body raises, the temporary file is removed and `path` is unchanged. Temporary files of
    killed processes in that folder are removed, too.

        with atomic_write("out/hello.txt") as temporary:
            temporary.write_text("hello")

    Raises:
        WriteError: writing failed (no space, no permission, `path` is a folder or a device).
            Every `OSError` of the body is converted to it.
    """
    target = Path(os.path.realpath(path))
    temporary = temporary_in(target.parent)
    _unfinished.add(temporary)
    try:
        _require_replaceable(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over_once(target.parent)
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except WriteError:
        raise
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _unfinished.discard(temporary)


def has_unfinished() -> bool:
    """Return true while an ``atomic_write`` of this process is in progress."""
    return bool(_unfinished)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Check before long work that ``atomic_write`` will be able to write a path.

    A file is made in the nearest existing folder, and removed; nothing else is.

    Raises:
        WriteError: as ``atomic_write``.
    """
    target = Path(os.path.realpath(path))
    try:
        _require_replaceable(target)
        folder = next(each for each in target.parents if each.exists())
        if not folder.is_dir():  # as mkdir would say it
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        probe = temporary_in(folder)
        try:
            probe.touch(exist_ok=False)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(path, error) from error


def is_temporary(name: str) -> bool:
    """Return true for the name of a temporary file of ``atomic_write``."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_left_over(folder: str | os.PathLike[str]) -> None:
    """Remove temporary files of processes that were killed; those of running ones stay.

    The processes of another machine are not visible: its files count as abandoned if they have not
    changed for a week.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match is not None and _is_left_over(entry.path, match[1], match[2]):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


@functools.lru_cache(maxsize=1024)
def _remove_left_over_once(folder: Path) -> None:
    """Remove them once per process: listing a folder for each of thousands of files is slow."""
    remove_left_over(folder)


def _is_left_over(path: str, machine: str | None, process: str | None) -> bool:
    if machine == _machine() and process is not None:
        return not _is_alive(int(process))
    with contextlib.suppress(OSError):
        return time.time() - os.stat(path).st_mtime > _ABANDONED_S
    return False


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is a real one
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def temporary_in(folder: Path) -> Path:
    """Return a new name that ``is_temporary``: its suffix is that of no other kind of file."""
    return folder / f".{_machine()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


@functools.cache
def _machine() -> str:
    """Eight digits that identify a set of processes: the machine, its boot and its container."""
    facts = [platform.node()]
    with contextlib.suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        facts.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return f"{zlib.crc32(' '.join(facts).encode('utf-8', 'backslashreplace')):08x}"


def _refused(path: str | os.PathLike[str], error: OSError) -> WriteError:
    reason = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, "choose another path")
    return WriteError(f"{os.fspath(path)}: nothing was written: {reason}; {remedy}")


def _require_replaceable(target: Path) -> None:
    """Raise OSError for folders, and for devices such as /dev/null: a rename would replace them."""
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], *, quiet: bool = False) -> Iterator[bool]:
    """Hold a lock within this block; wait for another process that holds it, with a log line.

    The system frees the lock of a process that dies; the empty file stays. Yields False where there
    are no locks: on Windows, and on file systems without them.

    Args:
        path: of the lock's file.
        quiet: wait without the log line, for work that is short.

    Raises:
        OSError: if the file or its folder cannot be made.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        if not quiet and _must_wait(file):
            folder = Path(path).parent
            logger.info("another process is at work on %s; waiting for it", folder)
        yield _lock(file)


def _lock(file: IO[str]) -> bool:
    """Wait for the lock; return false where there are no locks."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _must_wait(file: IO[str]) -> bool:
    """Return whether another process holds the lock; if none does, it is held from now on."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def claimed(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold an exclusive lock within this block, or fail at once.

    The file exists while the block runs, and its folder is made if it is missing; both are removed
    afterwards, the folder if it is empty. The system frees the lock of a process that dies, and
    forked processes do not keep it: a POSIX lock belongs to one process. Where there are no locks
    (on Windows, and on file systems without them) nothing is locked.

    Raises:
        BlockingIOError: if another process holds the lock.
        WriteError: if the file or its folder cannot be made.
    """
    target = Path(path)
    made = not target.parent.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = _claim(target)
    except BlockingIOError:
        raise
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            target.unlink()  # before others can lock it: a process that has opened it will notice
        file.close()
        if made:
            with contextlib.suppress(OSError):
                target.parent.rmdir()


def _claim(target: Path) -> IO[str]:
    """Open and lock the file, and check that it is still the one of that name."""
    while True:
        file = open(target, "a")  # noqa: SIM115 - to close it is to free the lock
        try:
            if not _is_free(file):
                raise BlockingIOError(errno.EAGAIN, "another process is at work", str(target))
            if os.path.samestat(os.fstat(file.fileno()), os.stat(target)):
                return file
        except FileNotFoundError:  # its owner has just left
            pass
        except BaseException:
            file.close()
            raise
        file.close()


def _is_free(file: IO[str]) -> bool:
    """Lock the file; return false if another process holds the lock."""
    try:
        import fcntl
    except ModuleNotFoundError:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either errno for a lock that is held
        return False
    except OSError:
        return True
    return True
