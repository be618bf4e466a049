"""Recordings: listing them without decoding, and decoding one of them.

A recording is a file, or a part of one, with its name and its speaker. Decoded, it is mono, 16-bit,
at one sample rate. A recording that cannot be decoded, or is digital silence throughout, raises an
error of one line with the reason.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavenet.audio import AudioError
from wavenet.audio.blocks import read_blocks
from wavenet.audio.writing import stored_values

logger = logging.getLogger("wavenet")

_READABLE = (
    "aif aifc aiff au avr bwf caf flac mp1 mp2 mp3 mpga nist oga ogg opus paf pvf rf64 sf snd sph "
    "svx voc w64 wav wave wavex wve"
)
_UNREADABLE = (
    "3gp aac ac3 amr ape dsf dts g722 gsm m4a m4b mka mkv mov mp4 mpc pcm ra spx tta weba webm "
    "wma wv"
)
"""Suffixes of unsupported audio, which are reported: ignoring them could lose half of a corpus."""
AUDIO_SUFFIXES = frozenset(f".{kind}" for kind in f"{_READABLE} {_UNREADABLE}".split())
"""Suffixes of the files that are read; other files in a folder are ignored."""

END_TOLERANCE_S = 0.1
"""Tolerance of a part that ends after its file, for rounded manifests; it is cut to the file."""

TRIM_FRAME_S = 0.02
"""Length of the frames whose loudness is measured when silence is trimmed."""
TRIM_MARGIN_S = 0.1
"""Silence that trimming leaves on either side, for a speaker's breath."""


class CorpusError(ValueError):
    """Raised for a corpus that cannot be used for training.

    >>> find_corpus("no-such-folder")
    Traceback (most recent call last):
        ...
    wavenet.data.recordings.CorpusError: corpus='no-such-folder' is not a folder; ...
    """


@dataclass(frozen=True)
class Recording:
    """A file of a corpus, or a part of it.

    >>> wavenet.audio.write_audio("a.wav", torch.randn(48000) / 10, 16000)
    >>> part = Recording("a.wav@1-2.5", Path("a.wav"), "ann", start_s=1.0, end_s=2.5)
    >>> Corpus.read(Listing(Path(), (part,)), 16000).duration_s
    1.5

    Attributes:
        name: path relative to the corpus, with ``/``; a part adds ``@start-end``.
        path: of the file.
        speaker: name of the speaker; empty where the corpus has none.
        start_s: start of the part.
        end_s: end of the part; None is the end of the file.
        features: file of its features in frames (``frame_features``), if it has one.
    """

    name: str
    path: Path
    speaker: str
    start_s: float = 0.0
    end_s: float | None = None
    features: Path | None = None


@dataclass(frozen=True)
class Listing:
    """The recordings of a corpus.

    >>> for who in ("ann", "bob"):
    ...     wavenet.audio.write_audio(f"wavs/{who}/a.wav", torch.randn(8000) / 10, 16000)
    >>> listing = find_corpus("wavs")
    >>> [recording.name for recording in listing.recordings]
    ['ann/a.wav', 'bob/a.wav']

    Attributes:
        place: the folder or manifest.
        recordings: in the order of their names, which are unique.
    """

    place: Path
    recordings: tuple[Recording, ...]


def list_folder(folder: str | Path, files: Iterable[Path] | None = None) -> Listing:
    """List all audio files below a folder; the speaker is the first folder of the name.

    Args:
        folder: searched recursively.
        files: those of ``walk_files``, if they are known.

    Raises:
        CorpusError: if there is no such folder or no audio file in it.
    """
    folder = Path(folder)
    names = [path.relative_to(folder).as_posix() for path in find_audio(folder, files)]
    found = [
        Recording(name, folder / name, name.split("/")[0] if "/" in name else "") for name in names
    ]
    return Listing(folder, tuple(found))


def find_audio(folder: str | Path, files: Iterable[Path] | None = None) -> list[Path]:
    """Find audio files below a folder, sorted by path; hidden files and folders are ignored.

    >>> for who in ("ann", "bob"):
    ...     wavenet.audio.write_audio(f"wavs/{who}/a.wav", torch.randn(8000) / 10, 16000)
    >>> [path.as_posix() for path in find_audio("wavs")]
    ['wavs/ann/a.wav', 'wavs/bob/a.wav']

    Args:
        folder: searched recursively.
        files: those of ``walk_files``, if they are known.

    Raises:
        CorpusError: if there is no such folder or no audio file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"corpus={str(folder)!r} is not a folder; name one with audio files")
    walked = walk_files(folder) if files is None else files
    found = [path for path in walked if path.suffix.lower() in AUDIO_SUFFIXES]
    if not found:
        raise CorpusError(
            f"corpus={str(folder)!r} holds no audio file; looked for "
            f"{', '.join(sorted(AUDIO_SUFFIXES))} in it and below"
        )
    return sorted(found)


def is_hidden(name: str) -> bool:
    """Return true for hidden files and folders, such as the `._a.wav` beside an `a.wav`."""
    return name.startswith(".")


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield files below a folder that are not hidden, in any order; links are followed.

    A link to a parent folder would be a cycle, and is ignored. A folder that cannot be read causes
    a warning; the files that macOS writes beside audio files are counted in one line of the log.
    """

    def warn(error: OSError) -> None:
        logger.warning("left out: %s: cannot be read: %s", error.filename, error.strerror)

    beside = 0
    for place, folders, files in os.walk(folder, onerror=warn, followlinks=True):
        here = Path(place)
        way = [here, *(above for above in here.parents if above.is_relative_to(folder))]
        folders[:] = [name for name in folders if not _is_passed_over(here / name, way)]
        beside += sum(is_beside_sound(name) for name in files)
        found = (here / name for name in files if not is_hidden(name))
        yield from (path for path in found if path.is_file())  # no pipes, no links to nothing
    tell_of_files_beside(beside, folder)


def is_beside_sound(name: str) -> bool:
    """Return true for the attributes that macOS writes beside an audio file: ``._a.wav``.

    Such a file is named like audio but has none (AppleDouble, RFC 1740).
    """
    return name.startswith("._") and Path(name).suffix.lower() in AUDIO_SUFFIXES


def tell_of_files_beside(count: int, folder: Path) -> None:
    """Log the number of such files in a folder, if there are any."""
    if count:
        logger.info("ignored %d ._* files of macOS in %s: they contain no audio", count, folder)


def _is_passed_over(folder: Path, way: list[Path]) -> bool:
    """Return true for a hidden folder, and for a link to a folder on the way to it."""
    if is_hidden(folder.name):
        return True
    target = Path(os.path.realpath(folder))
    return folder.is_symlink() and any(
        Path(os.path.realpath(above)).is_relative_to(target) for above in way
    )


def decode_all(
    recordings: Iterable[Recording], sample_rate: int, *, trim_db: float | None = None
) -> Iterator[np.ndarray | AudioError]:
    """Yield the samples of every recording, int16 ``[T]``, or the reason why there are none."""
    whole = functools.lru_cache(maxsize=1)(decode)  # neighbouring parts share their file
    for recording in recordings:
        try:
            samples = cut(recording, whole(recording.path, sample_rate), sample_rate)
            yield _usable(recording, samples, trim_db, sample_rate)
        except AudioError as error:
            yield error
        except UnicodeEncodeError:  # libsndfile takes UTF-8 names alone
            yield AudioError(f"{str(recording.path)!a}: the name is not UTF-8; rename the file")


def decode(path: Path, sample_rate: int) -> np.ndarray:
    """Decode all samples of a file, int16 ``[T]``, with hardly more memory than these take.

    Raises:
        AudioError: as ``read_audio``; also for a path that is no file, such as a pipe.
    """
    require_file(path)
    content = bytearray()  # grows in place, where a list of blocks would be copied together
    for block in read_blocks(path, sample_rate):
        content += stored_values(block, "PCM_16").tobytes()
    return np.frombuffer(content, np.int16)


def require_file(path: Path) -> None:
    """Refuse a path that is no file: opening a pipe would block until another process writes.

    Raises:
        AudioError: for a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise AudioError(f"{path}: not a file; list files in the manifest")


def cut(recording: Recording, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cut the recording's part from the samples ``[T]`` of its file; a part is a copy.

    Raises:
        AudioError: if the file is shorter.
    """
    if recording.end_s is None and not recording.start_s:
        return samples
    duration_s = len(samples) / sample_rate
    end_s = duration_s if recording.end_s is None else recording.end_s
    first, stop = round(recording.start_s * sample_rate), round(end_s * sample_rate)
    if end_s > duration_s + END_TOLERANCE_S or not first < min(stop, len(samples)):
        raise AudioError(
            f"{recording.path}: {recording.start_s:.10g} to {end_s:.10g} s were requested; the "
            f"file has {duration_s:.3f} s"
        )
    return samples[first:stop].copy()  # a view would keep the whole file in memory


def _usable(
    recording: Recording, samples: np.ndarray, trim_db: float | None, sample_rate: int
) -> np.ndarray:
    if not samples.any():
        raise AudioError(f"{recording.path}: digital silence throughout; leave the file out")
    if trim_db is None:
        return samples
    trimmed = trim(samples, sample_rate, trim_db)
    if not len(trimmed):
        raise AudioError(
            f"{recording.path}: its level never reaches trim_silence={trim_db:g} dB; leave the "
            "file out or lower the threshold"
        )
    return trimmed


def trim(samples: np.ndarray, sample_rate: int, threshold_db: float) -> np.ndarray:
    """Remove the silence at both ends, except for ``TRIM_MARGIN_S`` of it.

    Args:
        samples: int16 ``[T]``.
        sample_rate: in Hz.
        threshold_db: frames of ``TRIM_FRAME_S`` with an RMS below it are silent; 0 dB is the RMS of
            a square wave at full scale.
    """
    frame, margin = (max(1, round(s * sample_rate)) for s in (TRIM_FRAME_S, TRIM_MARGIN_S))
    starts = np.arange(0, len(samples), frame)
    energy = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    power = energy / np.diff(starts, append=len(samples)) / 32768**2
    loud = np.flatnonzero(power >= 10 ** (threshold_db / 10))
    if not len(loud):
        return samples[:0]
    return samples[max(0, loud[0] * frame - margin) : (loud[-1] + 1) * frame + margin]
