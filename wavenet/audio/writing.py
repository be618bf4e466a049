"""Mono samples into a file that appears when it is whole."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio.libraries import BLOCK, AudioError, import_soundfile, require_rate
from wavenet.audio.ogg import set_ogg_serial
from wavenet.storage.files import WriteError, atomic_write

FULL_SCALE = 32768  # 2^15: the 16-bit integer that would mean 1.0
FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
_VORBIS_RATES = (8000, 192000)  # Hz; libvorbis has no tuning, and libsndfile crashes, far outside


def write_audio(path: str | os.PathLike[str], samples: Tensor, sample_rate: int) -> None:
    """Write mono samples as the extension says: 16-bit `.wav` or `.flac`, Vorbis `.ogg`.

    To 16 bits a sample is rounded to the nearest step of 1 / 32768 and clipped at full scale (1.0
    becomes 32767 / 32768). The same samples give the same bytes. The file appears when it is whole
    (`wavenet.storage.files.atomic_write`); missing folders are made.

    Args:
        path: the file; an existing one is replaced.
        samples: `[T]` or `[1, T]` in [-1, 1], any floating dtype, any device.
        sample_rate: Hz.

    Raises:
        AudioError: unknown extension, wrong shape, no samples, NaN or infinity, a rate that the
            format does not have, or a file that the system refuses to write.
    """
    suffix = require_extension(path)
    require_rate("sample_rate", sample_rate)
    require_vorbis_rate(path, sample_rate)
    content = _encode(path, _require_mono(path, samples), sample_rate, *FORMATS[suffix])
    if suffix == ".ogg":
        set_ogg_serial(content)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except WriteError as error:
        raise AudioError(str(error)) from error


def require_vorbis_rate(path: str | os.PathLike[str], sample_rate: int) -> None:
    """Raise AudioError if `path` is to be Vorbis, and Vorbis does not have this rate."""
    low, high = _VORBIS_RATES
    if Path(path).suffix.lower() == ".ogg" and not low <= sample_rate <= high:
        raise AudioError(
            f"{path}: sample_rate {sample_rate} is outside Vorbis's {low} to {high} Hz; "
            "resample, or write .wav"
        )


def require_extension(path: str | os.PathLike[str]) -> str:
    """The extension, one that `write_audio` knows; to be asked before hours of work.

    Raises:
        AudioError: unknown extension.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise AudioError(f"{path}: unknown extension {suffix!r}; use one of {', '.join(FORMATS)}")
    return suffix


def _require_mono(path: str | os.PathLike[str], samples: Tensor) -> Tensor:
    """The samples as float64 `[T]` on the CPU, checked."""
    if not isinstance(samples, Tensor) or not samples.is_floating_point():
        kind = samples.dtype if isinstance(samples, Tensor) else type(samples).__name__
        raise AudioError(f"{path}: samples are {kind}; give a floating-point tensor in [-1, 1]")
    if samples.ndim > 2 or samples.ndim == 0 or (samples.ndim == 2 and len(samples) != 1):
        shape = list(samples.shape)
        raise AudioError(f"{path}: samples have shape {shape}; give [T] or [1, T], one row a file")
    samples = samples.detach().to("cpu", torch.float64).reshape(-1)
    if not len(samples):
        raise AudioError(f"{path}: there are no samples to write; give at least one")
    bad = int((~torch.isfinite(samples)).sum())
    if bad:
        raise AudioError(f"{path}: {bad} samples are NaN or infinite; write finite ones")
    return samples


def _encode(
    path: str | os.PathLike[str], samples: Tensor, sample_rate: int, container: str, subtype: str
) -> bytearray:
    """The content of the file. Encoded in memory: libsndfile hides why a write to disk failed."""
    soundfile = import_soundfile()
    values = stored_values(samples, subtype)
    content = io.BytesIO()
    try:
        with soundfile.SoundFile(
            content, "w", sample_rate, channels=1, subtype=subtype, format=container
        ) as file:
            for start in range(0, len(values), BLOCK):
                file.write(values[start : start + BLOCK])
    except RuntimeError as error:
        raise AudioError(
            f"{path}: {container} cannot hold {len(values)} samples at {sample_rate} Hz; "
            "use another sample rate or extension"
        ) from error
    return bytearray(content.getbuffer())


def stored_values(samples: Tensor, subtype: str) -> np.ndarray[Any, Any]:
    """Samples `[T]` as libsndfile takes them: int16 for "PCM_16", else float32, clipped."""
    if subtype == "PCM_16":
        steps = (samples * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1)
        return steps.to(torch.int16).numpy()
    return samples.clamp(-1.0, 1.0).to(torch.float32).numpy()
