"""Opening an audio file: errors of the system, the header and libsndfile.

The values of a header are checked here, before anything is allocated for them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from wavenet.audio.libraries import AudioError, import_soundfile
from wavenet.audio.media import REMEDY, decoded_copy, has_decoder
from wavenet.audio.standard_error import silenced_standard_error

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 1_536_000
"""Limits of plausible sample rates: a second at 1 Hz would be resampled to a model's 16,000."""

_A_FOLDER = "cannot be read: Is a directory; name an audio file inside it"

LARGEST_PIPE_BYTES = 1 << 32
"""Largest size of a pipe, which is copied to a temporary file: it must not fill the disk."""

# Above this a length is a placeholder: libsndfile gives 2^63 - 1 for a FLAC without a sample count.
_UNKNOWN_LENGTH = 1 << 62
# In a WAV from a pipe the length is the largest possible one, signed or unsigned.
_WAV_PLACEHOLDER = 0x7FFFF000
_COPIED_AT_ONCE = 1 << 20


def require_no_folder(path: str | os.PathLike[str]) -> None:
    """Raise AudioError for a folder: a check before others, of which it explains some."""
    if os.path.isdir(path):
        raise AudioError(f"{path}: {_A_FOLDER}")


def open_audio(path: str | os.PathLike[str]) -> Any:
    """Open `path` as a soundfile.SoundFile that has all samples that its header declares.

    A pipe, such as /dev/stdin, is copied to a temporary file first, once in this process. What
    libsndfile does not read is decoded by PyAV, if that is installed (``wavenet.audio.media``).

    Raises:
        AudioError: as `read_audio`.
    """
    soundfile = import_soundfile()
    found = _seekable(path)
    try:
        with silenced_standard_error():
            file = soundfile.SoundFile(found)
    except (RuntimeError, TypeError) as error:  # TypeError: .raw, which has no header
        copy = decoded_copy(found)
        if copy is None:
            raise AudioError(
                f"{path}: not an audio file that can be read, whatever its name says; "
                f"remove it or convert it to wav, flac or ogg{'' if has_decoder() else REMEDY}"
            ) from error
        file = soundfile.SoundFile(copy)
    try:
        _require_plausible(file, path)
    except AudioError:
        file.close()
        raise
    return file


@contextlib.contextmanager
def decoding(file: Any, path: str | os.PathLike[str]) -> Iterator[None]:
    """Convert all errors of seeking and decoding to one.

    libmpg123, which reads MP3, prints to standard error. In a damaged file libsndfile may lose its
    position, and soundfile then raises ValueError for a negative number of samples.

    Raises:
        AudioError: the samples cannot be decoded.
    """
    prints = "MP3" in file.format or "MPEG" in file.subtype
    try:
        with silenced_standard_error() if prints else contextlib.nullcontext():
            yield
    except (RuntimeError, ValueError, AssertionError) as error:
        raise cut_short(path, file.frames) from error


def cut_short(path: str | os.PathLike[str], promised: int) -> AudioError:
    """Make the error of a file that is truncated, or cannot be decoded to its end."""
    return AudioError(
        f"{path}: cut short or damaged: not all of its {promised} samples can be decoded; "
        "copy or download it again"
    )


def _seekable(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return the path, or that of a copy of a pipe; raise AudioError for what cannot be opened."""
    try:
        status = os.stat(path)
        if stat.S_ISFIFO(status.st_mode):
            return _copy_of_pipe(os.fspath(path), status.st_dev, status.st_ino).name
        if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            raise AudioError(f"{path}: a device or a terminal; name an audio file or a pipe")
        with open(path, "rb") as raw:
            empty = not raw.read(1)
    except IsADirectoryError:
        raise AudioError(f"{path}: {_A_FOLDER}") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    if empty:
        raise AudioError(f"{path}: the file is empty (0 bytes); remove it or make it again")
    return path


@functools.cache
def _copy_of_pipe(path: str, device: int, number: int) -> IO[bytes]:
    """Copy a pipe to a file that is removed when this process ends.

    A pipe can be read once, but audio is read twice: to check it, then to use it.
    """
    copy = tempfile.NamedTemporaryFile(prefix="wavenet-pipe-")  # noqa: SIM115 - kept open
    with open(path, "rb") as pipe:
        while content := pipe.read(_COPIED_AT_ONCE):
            try:
                copy.write(content)
                copy.flush()
            except OSError as error:
                raise AudioError(
                    f"{path}: cannot be copied to {copy.name}: {error.strerror}; let TMPDIR name "
                    "a folder with space"
                ) from error
            if copy.tell() > LARGEST_PIPE_BYTES:
                raise AudioError(
                    f"{path}: more than {LARGEST_PIPE_BYTES >> 30} GiB came through the pipe; "
                    "write it to a file first"
                )
    if not copy.tell():
        raise AudioError(f"{path}: nothing came through the pipe; check the command behind it")
    return copy


def _require_plausible(file: Any, path: str | os.PathLike[str]) -> None:
    """Refuse a file without samples, of unknown length or implausible rate, or a truncated WAV.

    libsndfile silently shortens a truncated WAV; its log has the length that the header declares.
    """
    if not LOWEST_RATE_HZ <= file.samplerate <= HIGHEST_RATE_HZ:
        raise AudioError(
            f"{path}: the sample rate in the header is {file.samplerate} Hz, not within "
            f"{LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz; repair the header or leave the file out"
        )
    if file.frames <= 0:
        raise AudioError(f"{path}: the file holds no samples; remove it or make it again")
    if file.frames >= _UNKNOWN_LENGTH:
        raise AudioError(f"{path}: the header has no number of samples; convert the file again")
    lengths = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if lengths is not None:
        promised, present = int(lengths[1]), int(lengths[2])
        if present < promised < _WAV_PLACEHOLDER:
            raise cut_short(path, file.frames * promised // max(present, 1))
