"""Arrays of ``.npy`` files and ``.npz`` archives from anywhere, in bounded memory.

The sizes in a header or an archive are compared with the bytes of the file before anything is
allocated. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import tokenize
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

LARGEST_IN_MEMORY = 1 << 28
"""Largest size in bytes of an array in C order, and of a compressed one."""
_LARGEST_HEADER = 4096
_LARGEST_VALUE = 1 << 18
_MOST_MEMBERS = 64
_MAGIC_BYTES = 8


@dataclass(frozen=True)
class StoredArray:
    """An array that is read column after column, in order.

    Attributes:
        shape, dtype: from its header; the file has as many bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _file: IO[bytes]
    _whole: np.ndarray[Any, Any] | None

    def columns(self, first: int, count: int) -> np.ndarray[Any, Any]:
        """Read ``[rows, count]`` of an array of two dimensions.

        Raises:
            ValueError: if the file is too short.
        """
        if self._whole is not None:
            return self._whole[:, first : first + count]
        rows = self.shape[0]
        content = _read(self._file, rows * count * self.dtype.itemsize)
        return np.frombuffer(content, self.dtype).reshape(count, rows).T


@contextlib.contextmanager
def open_archive(path: Path, needed: Sequence[str]) -> Iterator[zipfile.ZipFile]:
    """Open a ``.npz``.

    Args:
        path: of the file.
        needed: names of arrays that it must contain.

    Raises:
        ValueError: if it is too large, is encrypted, or lacks an array.
        zipfile.BadZipFile: if it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > _MOST_MEMBERS:
            raise ValueError(f"an archive of {len(members)} members")
        missing = [name for name in needed if f"{name}.npy" not in archive.namelist()]
        if missing:
            raise ValueError(f"it has no {' and no '.join(missing)}")
        for member in members:
            if member.flag_bits & 1:
                raise ValueError("it is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("it is compressed in a way that numpy does not use")
        yield archive


@contextlib.contextmanager
def open_array(source: Path | tuple[zipfile.ZipFile, str]) -> Iterator[StoredArray]:
    """Open a ``.npy``, or a member of an archive, by its name.

    Raises:
        ValueError: if it is no array, is cut short, or has to be read into memory and is too large.
    """
    if isinstance(source, Path):
        with open(source, "rb") as file:
            yield _open(file, os.fstat(file.fileno()).st_size, compressed=False)
        return
    archive, name = source
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        compressed = member.compress_type != zipfile.ZIP_STORED
        yield _open(file, member.file_size, compressed=compressed)


def read_text(archive: zipfile.ZipFile, name: str) -> str:
    """Read a string of no dimension.

    Raises:
        ValueError: if the member is anything else.
    """
    value = _read_value(archive, name, "U")
    return str(value)


def read_integer(archive: zipfile.ZipFile, name: str) -> int:
    """Read an integer of no dimension.

    Raises:
        ValueError: if the member is anything else.
    """
    return int(_read_value(archive, name, "iu"))


def _read_value(archive: zipfile.ZipFile, name: str, kinds: str) -> Any:
    with open_array((archive, name)) as array:
        if array.shape or array.dtype.kind not in kinds:
            expected = "a string" if kinds == "U" else "an integer"
            raise ValueError(f"{name} is shape {array.shape} of {array.dtype}, not {expected}")
        if array.dtype.itemsize > _LARGEST_VALUE:
            raise ValueError(f"{name} has {array.dtype.itemsize} bytes")
        return np.frombuffer(_read(array._file, array.dtype.itemsize), array.dtype)[0]


def _open(file: IO[bytes], n_bytes: int, *, compressed: bool) -> StoredArray:
    """Read the header of a file of ``n_bytes`` bytes in total, and return the array."""
    header_bytes, (shape, fortran_order, dtype) = _read_header(file)
    if any(length < 0 for length in shape):
        raise ValueError(f"its shape is {shape}")
    size = math.prod(shape) * dtype.itemsize
    if size > n_bytes - header_bytes:
        raise ValueError(f"it is cut short: {size} bytes promised, {n_bytes - header_bytes} there")
    by_rows = len(shape) > 1 and not fortran_order
    if (by_rows or compressed) and size > LARGEST_IN_MEMORY:
        how = "compressed" if compressed else "stored row after row (C order)"
        raise ValueError(f"{size} bytes, {how}, are more than {LARGEST_IN_MEMORY}")
    if not by_rows or dtype.hasobject:
        return StoredArray(shape, dtype, file, None)
    return StoredArray(shape, dtype, file, np.frombuffer(_read(file, size), dtype).reshape(shape))


def _read(file: IO[bytes], n_bytes: int) -> np.ndarray[Any, Any]:
    """Read n bytes into memory that is allocated once; ValueError if there are fewer."""
    content = np.empty(n_bytes, np.uint8)
    left = content.data
    buffered = cast(io.BufferedIOBase, file)
    while len(left):
        n_read = buffered.readinto(left)
        if not n_read:
            raise ValueError("it is cut short")
        left = left[n_read:]
    return content


def _read_header(file: IO[bytes]) -> tuple[int, tuple[tuple[int, ...], bool, np.dtype[Any]]]:
    """Length of the header in bytes; shape, Fortran order and dtype of the array."""
    start = file.read(_MAGIC_BYTES)
    version = np.lib.format.read_magic(io.BytesIO(start))
    width = 2 if version == (1, 0) else 4
    length = file.read(width)
    n_bytes = int.from_bytes(length, "little")
    if n_bytes > _LARGEST_HEADER:
        raise ValueError(f"its header has {n_bytes} bytes")
    header = io.BytesIO(length + file.read(n_bytes))
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    with warnings.catch_warnings():  # numpy and Python warn of unusual headers
        warnings.simplefilter("ignore")
        try:
            return _MAGIC_BYTES + width + n_bytes, read(header)
        except (MemoryError, SyntaxError, TypeError, tokenize.TokenError) as error:
            raise ValueError("its header cannot be read") from error
