"""The cache of shards: files of one folder, within a limit, shared by processes.

A file is named by the SHA-256 of its content, so that corpora share equal ones. It is written
beside its name, verified and renamed: it is whole or absent. Before a download, the files that were
used longest ago are removed until the new one fits; a process that has mapped one of them keeps its
mapping, whose pages the system frees when it is dropped (POSIX ``unlink``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wavenet.storage.files import is_temporary, locked, remove_left_over, temporary_in
from wavenet.storage.object_store import StoreError, fetch

SUFFIX = ".i16"


@dataclass(frozen=True)
class ShardCache:
    """A folder of downloaded shards.

    Attributes:
        folder: is made if it is missing.
        limit_bytes: size of all files together; a file that is larger alone is kept all the same.
    """

    folder: Path
    limit_bytes: int

    def path(self, url: str, key: str, sha256: str, size: int) -> Path:
        """Return the file of a shard; download it if it is not there.

        The file may be removed by another process at any time: map it, or ask again.

        Args:
            url: of the store.
            key: of the object.
            sha256: of its content, in hexadecimal digits.
            size: in bytes.

        Raises:
            StoreError: if it cannot be read, or the cache cannot be written.
        """
        target = self.folder / f"{sha256}{SUFFIX}"
        try:
            if _is_whole(target, size):
                return target
            with locked(self.folder / f".lock-{sha256[:2]}", quiet=True):
                if not _is_whole(target, size):  # another process may have been faster
                    with self._reserved(size) as temporary:
                        fetch(url, key, temporary, size=size, sha256=sha256)
                        os.replace(temporary, target)
        except OSError as error:
            raise StoreError(
                f"cache={str(self.folder)!r} cannot be written: {error.strerror or error}; set "
                "cache to a folder with space, or lower cache_gb"
            ) from None
        return target

    def used_bytes(self) -> int:
        """Size of all files, those that are being downloaded included."""
        return sum(size for _, size, _ in self._files())

    @contextlib.contextmanager
    def _reserved(self, size: int) -> Iterator[Path]:
        """Yield a temporary file that counts with its final size from the beginning."""
        with locked(self.folder / ".lock", quiet=True):
            remove_left_over(self.folder)
            self._make_room(size)
            temporary = temporary_in(self.folder)
            with open(temporary, "wb") as file:
                file.truncate(size)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        files = sorted(self._files())
        used = sum(each for _, each, _ in files)
        for _, each, path in files:
            if used + size <= self.limit_bytes:
                break
            if not is_temporary(path.name):
                path.unlink(missing_ok=True)
                used -= each

    def _files(self) -> list[tuple[int, int, Path]]:
        """Time of the last use, size and path of each file."""
        found = []
        for path in self.folder.iterdir():
            if path.suffix == SUFFIX or is_temporary(path.name):
                with contextlib.suppress(FileNotFoundError):
                    facts = path.stat()
                    found.append((facts.st_mtime_ns, facts.st_size, path))
        return found


def _is_whole(path: Path, size: int) -> bool:
    """Return whether a file is there, and note that it is used now."""
    try:
        whole = path.stat().st_size == size
        if whole:
            os.utime(path)
    except FileNotFoundError:
        return False
    return whole
