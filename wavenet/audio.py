"""Audio files: what they hold, their samples as mono float32, writing them, and resampling.

A sample is a float in [-1, 1]. A file of b bits stores the integers i of [-2^(b-1), 2^(b-1) - 1]
and means i / 2^(b-1), for reading as for writing: what was read from a 16-bit file is written back
bit for bit. The codecs are libsndfile's (through soundfile), the resampler is SoX's (through soxr);
both are imported when first needed, so that `import wavenet` works without them.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.files import WriteError, atomic_write

FULL_SCALE = 32768  # 2^15: the 16-bit integer that would mean 1.0
FORMATS = {".wav": ("WAV", "PCM_16"), ".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS")}
_VORBIS_RATES = (8000, 192000)  # Hz; libvorbis has no tuning, and libsndfile crashes, far outside
# Above this a length is a placeholder: libsndfile gives 2^63 - 1 for a FLAC without a sample count.
_UNKNOWN_LENGTH = 1 << 62
# In a WAV made by a pipe the writer leaves the greatest length it can, signed or unsigned.
_WAV_PLACEHOLDER = 0x7FFFF000
BLOCK = 1 << 16  # samples read or written at once; long Vorbis blocks overflow libsndfile's stack
_OGG_SERIAL = 0


class AudioError(ValueError):
    """An audio file cannot be read or written; the message is one line with path and remedy."""


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        sample_rate: Hz.
        channels: 1 is mono.
        n_samples: samples per channel.
    """

    sample_rate: int
    channels: int
    n_samples: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


def audio_info(path: str | os.PathLike[str]) -> AudioInfo:
    """Sample rate, channels and length of an audio file, without decoding all of it.

    The last sample is decoded, which shows that the file is complete.

    Raises:
        AudioError: missing, empty, cut short, or not an audio file.
    """
    with open_audio(path) as file:
        info = AudioInfo(file.samplerate, file.channels, file.frames)
        if not file.seekable():  # such as GSM in WAV
            return info
        try:
            file.seek(info.n_samples - 1)
            found = len(file.read(1))
        except RuntimeError as error:  # soundfile.SoundFileError is one
            raise _cut_short(path, info.n_samples) from error
    if not found:
        raise _cut_short(path, info.n_samples)
    return info


def read_audio(
    path: str | os.PathLike[str],
    sample_rate: int | None = None,
    *,
    first: int = 0,
    count: int | None = None,
) -> tuple[Tensor, int]:
    """Read a file, or a part of it, as mono: the mean of its channels.

    Reads WAV, FLAC, Ogg and what else libsndfile knows, integers of 8 to 32 bits and floats. Values
    beyond full scale, which float files and resampling can have, are clipped to [-1, 1]. WAV and
    FLAC promise a length, and with fewer samples are refused; Ogg is read as far as it goes.

    Args:
        path: the file.
        sample_rate: resample to this rate in Hz (`resample`); None keeps the rate of the file.
        first: start at this sample of the file.
        count: read so many samples; None reads to the end. A part can only be read at the rate of
            the file, since the resampler would hear the edges of the part.

    Returns:
        The samples, float32 `[T]` in [-1, 1], and their sample rate in Hz.

    Raises:
        AudioError: missing, empty, cut short, not audio, holding NaN or infinity, or shorter than
            the part that was asked for.
    """
    with open_audio(path) as file:
        rate, length = int(file.samplerate), int(file.frames)
        if sample_rate not in (None, rate) and (first, count) != (0, None):
            raise AudioError(
                f"{path}: a part of a file of {rate} Hz cannot be read at {sample_rate} Hz; "
                "resample the file first, or read all of it"
            )
        stop = length if count is None else first + count
        if not 0 <= first < stop <= length:
            raise AudioError(
                f"{path}: samples {first} to {stop} were asked for; the file holds 0 to {length}"
            )
        samples = _read_mono(file, path, first, stop)
    if sample_rate is not None and sample_rate != rate:
        samples = resample(samples, rate, sample_rate)
        if not len(samples):
            raise AudioError(
                f"{path}: {length} samples at {rate} Hz are less than one at {sample_rate} Hz; "
                "leave the file out"
            )
        rate = sample_rate
    return samples.clamp_(-1.0, 1.0), rate


def write_audio(path: str | os.PathLike[str], samples: Tensor, sample_rate: int) -> None:
    """Write mono samples as the extension says: 16-bit `.wav` or `.flac`, Vorbis `.ogg`.

    To 16 bits a sample is rounded to the nearest step of 1 / 32768 and clipped at full scale (1.0
    becomes 32767 / 32768). The same samples give the same bytes. The file appears when it is whole
    (`wavenet.files.atomic_write`); missing folders are made.

    Args:
        path: the file; an existing one is replaced.
        samples: `[T]` or `[1, T]` in [-1, 1], any floating dtype, any device.
        sample_rate: Hz.

    Raises:
        AudioError: unknown extension, wrong shape, no samples, NaN or infinity, a rate that the
            format does not have, or a file that the system refuses to write.
    """
    suffix = require_extension(path)
    _require_rate("sample_rate", sample_rate)
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


def resample(x: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Resample by the band-limited, linear-phase SoX resampler at its "HQ" quality.

    Sample n of `x` and sample n * to_rate / from_rate of the result lie at the same time. Not
    differentiable; computed on the CPU.

    Args:
        x: `[..., T]`, floating point.
        from_rate: the rate of `x`, Hz.
        to_rate: the rate wanted, Hz.

    Returns:
        `[..., T']`, T' = T * to_rate / from_rate to the nearest integer, with x's dtype and device.

    Raises:
        ValueError: a rate that is not a positive integer.
    """
    _require_rate("from_rate", from_rate)
    _require_rate("to_rate", to_rate)
    if from_rate == to_rate:
        return x
    wide = x.detach().to("cpu", torch.float64 if x.dtype == torch.float64 else torch.float32)
    columns = wide.reshape(-1, x.shape[-1]).T.contiguous().numpy()
    y = import_soxr().resample(columns, from_rate, to_rate, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(y.T)).reshape(*x.shape[:-1], len(y)).to(x)


def import_soundfile() -> Any:
    """The module soundfile, or ModuleNotFoundError with the remedy."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: soundfile without its libsndfile
        raise _missing("soundfile") from error
    return soundfile


def import_soxr() -> Any:
    """The module soxr, or ModuleNotFoundError with the remedy."""
    try:
        import soxr
    except ImportError as error:
        raise _missing("soxr") from error
    return soxr


def _missing(name: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f'audio needs {name}, which cannot be imported; run: pip install "wavenet-audio[audio]"',
        name=name,
    )


def open_audio(path: str | os.PathLike[str]) -> Any:
    """Open `path` as a soundfile.SoundFile that has samples, all that its header promises.

    Raises:
        AudioError: as `read_audio`.
    """
    soundfile = import_soundfile()
    try:
        with open(
            path, "rb"
        ) as raw:  # the system's own reason, where libsndfile has "System error"
            empty = not raw.read(1)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    if empty:
        raise AudioError(f"{path}: the file is empty (0 bytes); remove it or make it again")
    try:
        file = soundfile.SoundFile(path)
    except (RuntimeError, TypeError) as error:  # TypeError: .raw, which has no header
        raise AudioError(
            f"{path}: not an audio file that can be read, whatever its name says; "
            "remove it or convert it to wav, flac or ogg"
        ) from error
    try:
        _require_samples(file, path)
    except AudioError:
        file.close()
        raise
    return file


def _require_samples(file: Any, path: str | os.PathLike[str]) -> None:
    """Refuse a file without samples, of unknown length, or a WAV with fewer than its header says.

    libsndfile shortens a truncated WAV silently; its log keeps the length that the header promised.
    """
    if file.frames <= 0:
        raise AudioError(f"{path}: the file holds no samples; remove it or make it again")
    if file.frames >= _UNKNOWN_LENGTH:
        raise AudioError(
            f"{path}: the header does not say how many samples there are; convert the file anew"
        )
    lengths = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if lengths is not None:
        promised, present = int(lengths[1]), int(lengths[2])
        if present < promised < _WAV_PLACEHOLDER:
            raise _cut_short(path, file.frames * promised // max(present, 1))


def _cut_short(path: str | os.PathLike[str], promised: int) -> AudioError:
    return AudioError(
        f"{path}: cut short or damaged: not all of its {promised} samples can be decoded; "
        "copy or download it again"
    )


def _read_mono(file: Any, path: str | os.PathLike[str], first: int, stop: int) -> Tensor:
    """Samples `first` to `stop` as float32 `[T]`, checked to be all there and finite.

    In blocks: a damaged header may promise more than the memory holds.
    """
    samples = torch.from_numpy(np.concatenate(list(mono_blocks(file, path, first, stop))))
    bad = torch.nonzero(~torch.isfinite(samples))
    if len(bad):
        raise AudioError(
            f"{path}: sample {first + int(bad[0])} is {samples[bad[0]].item()}, and {len(bad)} in "
            "all are not finite; repair the file or leave it out"
        )
    return samples


def mono_blocks(
    file: Any, path: str | os.PathLike[str], first: int, stop: int
) -> Iterator[np.ndarray[Any, Any]]:
    """Samples `first` to `stop` of an open file as float32 `[n]`, n up to 65536, not yet clipped.

    Raises:
        AudioError: not all of them are there.
    """
    missing = stop - first
    try:
        if first:
            file.seek(first)
        while missing:
            block = file.read(min(missing, BLOCK), dtype="float32", always_2d=True)
            if not len(block):
                raise _cut_short(path, file.frames)
            yield block[:, 0] if file.channels == 1 else block.mean(axis=1)
            missing -= len(block)
    except RuntimeError as error:
        raise _cut_short(path, file.frames) from error


def _require_rate(name: str, rate: int) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int) or rate < 1:
        raise ValueError(f"{name} is {rate!r}; give a positive integer, in Hz")


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


_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def set_ogg_serial(pages: bytearray | mmap) -> None:
    """Give every page of an Ogg file one serial number, where libsndfile draws one at random.

    A page (RFC 3533, section 6) has its serial number at byte 14, a checksum at 22, the number of
    segments at 26, then their lengths. The checksum is over the page with a checksum of zero, by
    the polynomial of zlib's CRC-32 but with the bits of bytes and result in the other order,
    starting from zero instead of from ones.
    """
    start = 0
    while start < len(pages):
        segments = pages[start + 26]
        header = start + 27 + segments
        stop = header + sum(pages[start + 27 : header])
        pages[start + 14 : start + 18] = _OGG_SERIAL.to_bytes(4, "little")
        pages[start + 22 : start + 26] = bytes(4)
        ones = 0xFFFFFFFF  # zlib inverts the register before and after
        register = zlib.crc32(pages[start:stop].translate(_REVERSED_BITS), ones) ^ ones
        checksum = int(f"{register:032b}"[::-1], 2)
        pages[start + 22 : start + 26] = checksum.to_bytes(4, "little")
        start = stop
