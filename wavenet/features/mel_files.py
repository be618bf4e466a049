"""Log-mel spectrograms of any length, and files of them with their settings.

A mel file is an ``.npz`` (an uncompressed zip of ``.npy``, read by ``numpy.load`` without pickle):

- ``mel``: float32 ``[M, F]``, stored frame after frame (Fortran order), so that it can be written
  and read in chunks;
- ``config``: the ``MelConfig`` as JSON, a string of no dimension;
- ``n_samples``: length of its audio in samples, an integer of no dimension.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.features import log_mel_rows, mel_filterbank
from wavenet.features.mel_arrays import open_archive, open_array, read_integer, read_text
from wavenet.features.mel_config import MelConfig
from wavenet.storage.files import atomic_write
from wavenet.values.size_limits import MAX_MEL_BANDS

logger = logging.getLogger("wavenet")

FRAMES = 256
"""Frames of a block, and of a chunk that is read."""
_DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RuntimeError,  # of zipfile: encrypted, or a compression that it does not know
    zipfile.BadZipFile,
    zlib.error,
)
"""Exceptions that reading a damaged file may raise."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date of a zip: the same mel gives the same bytes


class MelFileError(ValueError):
    """Raised for a file without a valid mel; the message is one line with path and remedy."""


def mel_blocks(
    audio: Iterable[Tensor], config: MelConfig, filterbank: Tensor | None = None
) -> Iterator[Tensor]:
    """Yield the frames of ``log_mel`` of a signal that arrives in chunks, without delay.

    Args:
        audio: consecutive chunks ``[n]`` in [-1, 1] at ``config.sample_rate``.
        config: the settings.
        filterbank: as for ``log_mel``.

    Yields:
        ``[M, FRAMES]``; the last may be shorter.

    Raises:
        ValueError: if there is no sample.
    """
    filterbank = mel_filterbank(config) if filterbank is None else filterbank
    hop, begin, skipped = config.hop_samples, 0, 0  # next frame; frames whose samples are dropped
    block_samples = (FRAMES - 1) * hop - config.pad_samples + config.n_fft
    known = torch.empty(0, dtype=torch.float32)
    for piece in audio:
        known = torch.cat((known, piece))
        while (begin - skipped) * hop + block_samples <= len(known):
            yield log_mel_rows(known, config, begin - skipped, FRAMES, filterbank)
            begin += FRAMES
            # Far enough back for the reflection, should the signal end here, and for a block.
            behind = max(FRAMES, (config.pad_samples + 2 * config.n_fft) // hop + 1)
            keep = max(skipped, begin - behind)
            known, skipped = known[(keep - skipped) * hop :], keep
    if not len(known):
        raise ValueError("audio holds no samples; a mel needs at least one")
    n_frames = config.frames(len(known)) + skipped
    while begin < n_frames:
        # As wide as the others: the order of sums in a product may depend on its width.
        count = min(FRAMES, n_frames - skipped)
        first = min(begin, n_frames - count)
        rows = log_mel_rows(known, config, first - skipped, count, filterbank)
        yield rows[:, begin - first :]
        begin = first + count


def write_mel(
    path: str | os.PathLike[str], frames: Iterable[Tensor], config: MelConfig, n_samples: int
) -> int:
    """Write a mel file frame by frame; it appears when it is complete.

    >>> config, speech = MelConfig(), torch.randn(16000)
    >>> write_mel("speech.npz", [log_mel(speech, config)], config, n_samples=16000)
    80
    >>> open_mel("speech.npz").config == config
    True

    Args:
        path: ends in ``.npz``.
        frames: ``[M, F_i]`` each, ``config.frames(n_samples)`` of them in total.
        config: their settings.
        n_samples: length of the audio in samples.

    Returns:
        F.

    Raises:
        MelFileError: if the path has another suffix.
        WriteError: if the file cannot be written.
    """
    require_npz(path)
    n_frames = config.frames(n_samples)
    with _told(path), atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        settings = np.array(json.dumps(config.to_dict()))
        _write_member(archive, "config.npy", [_npy(settings)])
        _write_member(archive, "n_samples.npy", [_npy(np.array(n_samples, np.int64))])
        shape = (config.n_mels, n_frames)
        columns = (np.ascontiguousarray(part.T, "<f4").tobytes() for part in frames)
        _write_member(archive, "mel.npy", [_header(shape)], columns)
    return n_frames


@contextlib.contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Report an interruption: a mel is written completely or not at all."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        logger.warning("interrupted: %s is not written", path)
        raise


def require_npz(path: str | os.PathLike[str]) -> None:
    """Raise MelFileError unless a mel file may have this name."""
    if Path(path).suffix.lower() != ".npz":
        raise MelFileError(f"{path}: a mel file ends in .npz; rename it")


def _write_member(
    archive: zipfile.ZipFile, name: str, start: list[bytes], more: Iterable[bytes] = ()
) -> None:
    with archive.open(zipfile.ZipInfo(name, _EPOCH), "w", force_zip64=True) as member:
        for part in itertools.chain(start, more):
            member.write(part)


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=False)
    return content.getvalue()


def _header(shape: tuple[int, int]) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": "<f4", "fortran_order": True, "shape": shape}
    )
    return content.getvalue()


@dataclass(frozen=True)
class StoredMel:
    """A mel in a file.

    Attributes:
        path: of the file.
        config: its settings; None in a bare ``.npy``.
        n_frames: F.
        n_mels: M.
        n_samples: length of its audio; None where the file has no length.
        lowest, highest: of all values.
    """

    path: Path
    config: MelConfig | None
    n_frames: int
    n_mels: int
    n_samples: int | None
    lowest: float = math.nan
    highest: float = math.nan

    def frames(self) -> Iterator[Tensor]:
        """Yield ``[M, F_i]``, float32, chunk after chunk.

        Raises:
            MelFileError: if the file is too short, or a value is not finite.
        """
        first = 0
        for piece in _pieces(self.path):
            if not bool(piece.isfinite().all()):
                raise MelFileError(
                    f"{self.path}: frames {first} to {first + piece.shape[1]} hold values that "
                    "are not finite; make the mel anew"
                )
            yield piece
            first += piece.shape[1]


def open_mel(path: str | os.PathLike[str]) -> StoredMel:
    """Open a ``.npz`` of ``write_mel``, or a bare ``.npy`` ``[M, F]``; all of it is read once.

    >>> np.save("mel.npy", np.zeros((80, 5), np.float32))
    >>> stored = open_mel("mel.npy")
    >>> stored.n_mels, stored.n_frames, stored.config
    (80, 5, None)

    Raises:
        MelFileError: if it is missing, damaged, or has no such mel.
    """
    path = Path(path)
    config = n_samples = None
    with _named(path):
        if _is_archive(path):
            with open_archive(path, ("mel", "config")) as archive:
                config = MelConfig.from_json(read_text(archive, "config"))
                if "n_samples.npy" in archive.namelist():
                    n_samples = read_integer(archive, "n_samples")
        stored = StoredMel(path, None, 0, 0, None)
        n_mels = n_frames = 0
        lowest, highest = math.inf, -math.inf
        for piece in stored.frames():
            n_mels, n_frames = piece.shape[0], n_frames + piece.shape[1]
            lowest = min(lowest, float(piece.min()))
            highest = max(highest, float(piece.max()))
        if config is not None:
            _require_agreement(n_mels, n_frames, config, n_samples)
    return StoredMel(path, config, n_frames, n_mels, n_samples, lowest, highest)


def _require_agreement(
    n_mels: int, n_frames: int, config: MelConfig, n_samples: int | None
) -> None:
    """Raise ValueError unless the frames agree with the settings and the length."""
    if n_mels != config.n_mels:
        raise ValueError(f"the mel has {n_mels} bands, its settings say n_mels={config.n_mels}")
    if n_samples is not None and config.frames(n_samples) != n_frames:
        raise ValueError(
            f"{n_frames} frames are not the {config.frames(n_samples)} of its n_samples={n_samples}"
        )


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Convert all errors of reading to one MelFileError."""
    try:
        yield
    except MelFileError:
        raise
    except FileNotFoundError as error:
        raise MelFileError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except _DAMAGE as error:
        # A message of zipfile or numpy may quote a whole header of the file.
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise MelFileError(
            f"{path}: no mel that can be read: {reason}; make it with wavenet mel"
        ) from error


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _pieces(path: Path) -> Iterator[Tensor]:
    """Yield ``[M, F_i]`` of a ``.npz`` or ``.npy``, read in chunks if its order allows that."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_named(path))
        archive = None
        if _is_archive(path):
            archive = stack.enter_context(open_archive(path, ("mel",)))
        array = stack.enter_context(open_array(path if archive is None else (archive, "mel")))
        if len(array.shape) != 2 or array.dtype.kind != "f":
            raise ValueError(f"shape {array.shape} of {array.dtype}; it takes [M, F] of floats")
        n_mels, n_frames = array.shape
        if not n_mels or not n_frames:
            raise ValueError("the mel has no frames")
        if n_mels > MAX_MEL_BANDS:
            raise ValueError(f"shape {array.shape} has {n_mels} bands; is it [F, M]? transpose it")
        for first in range(0, n_frames, FRAMES):
            piece = array.columns(first, min(FRAMES, n_frames - first))
            yield torch.from_numpy(piece.astype(np.float32))
