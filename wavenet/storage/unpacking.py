"""Archives, tar and zip, unpacked without leaving the folder they are unpacked to."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from wavenet.values.text import short

logger = logging.getLogger("wavenet")

Member = tuple[str, IO[bytes] | None]
"""Name of a file with its content; of what is neither file nor folder, the content is None."""


class ArchiveError(ValueError):
    """Raised for an archive that cannot be unpacked."""


def unpack(archive: str | Path, folder: str | Path) -> None:
    """Write the files of an archive below a folder, which is made.

    Links and devices are left out and counted in one line of the log: a link could lead the files
    behind it elsewhere. Owners, permissions and times are those of new files.

    Args:
        archive: zip, or tar, as it is or compressed by gzip or bzip2.
        folder: where the files go; those of the same names are replaced.

    Raises:
        ArchiveError: if it is damaged, or a name in it leads out of the folder.
        OSError: if a file cannot be read or written.
    """
    archive, folder = Path(archive), Path(os.path.abspath(folder))
    folder.mkdir(parents=True, exist_ok=True)
    members = _zip_members if archive.suffix.lower() == ".zip" else _tar_members
    left_out = 0
    try:
        for name, content in members(archive):
            path = Path(os.path.normpath(folder / name))
            if not path.is_relative_to(folder):
                raise ArchiveError(
                    f"{archive}: {short(name)} leads out of the folder; not unpacked"
                )
            if content is None:
                left_out += 1
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, open(path, "wb") as out:
                shutil.copyfileobj(content, out, 1 << 20)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        reason = " ".join(str(error).split())
        raise ArchiveError(f"{archive}: damaged: {reason}; download it again") from error
    if left_out:
        logger.info("left out %d links or devices of %s", left_out, archive)


def _tar_members(archive: Path) -> Iterator[Member]:
    tar: Any  # its list of members is not among the declared attributes
    with tarfile.open(archive, "r:*") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # of half a million files they would take half a gigabyte
            if not member.isdir():
                yield member.name, tar.extractfile(member) if member.isreg() else None


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as content:
        for member in content.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the system had no modes
            if not member.is_dir():
                yield member.filename, content.open(member) if kind in (0, stat.S_IFREG) else None
