"""M4A, AAC, WMA and further formats of FFmpeg, which libsndfile does not read.

PyAV decodes such a file, where it is installed, to a temporary file of float32 samples; everything
else reads that one. FFmpeg gets an open file, the formats of recordings alone and no protocol, so
that a playlist opens neither another file nor a connection.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from typing import IO, Any

from wavenet.audio.libraries import AudioError, import_soundfile

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,aac,asf,matroska,webm,amr,ac3,ape,dsf,dts,mpc,mpc8,tta,wv"
"""Formats of FFmpeg that are opened, by their names there."""

LARGEST_BYTES = 1 << 33
"""Largest decoded size, 6 hours of stereo at 48 kHz: it must not fill the disk."""

REMEDY = ', or, for M4A, AAC or WMA, install PyAV: pip install "wavenet-audio[media]"'


def has_decoder() -> bool:
    """Return true if PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def decoded_copy(path: str | os.PathLike[str]) -> IO[bytes] | None:
    """Decode a file to a temporary one that soundfile reads, and that is removed when it is closed.

    Args:
        path: the file.

    Returns:
        A W64 file of float32 samples at the file's rate, with all its channels; None if PyAV is
        missing, or knows no audio in the file.

    Raises:
        AudioError: if the audio cannot be decoded to its end, or is too long.
    """
    if not has_decoder():
        return None
    import av

    with open(path, "rb") as raw:
        try:
            container = av.open(
                raw, options={"format_whitelist": FORMATS, "protocol_whitelist": "none"}
            )
        except (av.FFmpegError, ValueError):
            return None
        with container:
            if not container.streams.audio:
                return None
            try:
                return _written(container, path)
            except av.FFmpegError as error:
                raise AudioError(
                    f"{path}: cut short or damaged: it cannot be decoded to its end; "
                    "copy or download it again"
                ) from error


def _written(container: Any, path: str | os.PathLike[str]) -> IO[bytes] | None:
    """Decode the first audio stream of an open file; None if it has no samples."""
    import av

    stream = container.streams.audio[0]
    rate, channels = int(stream.rate or 0), len(stream.layout.channels)
    if rate < 1 or channels < 1:
        return None
    copy = tempfile.NamedTemporaryFile(prefix="wavenet-media-")  # noqa: SIM115 - kept open
    resampler = av.AudioResampler(format="flt", layout=stream.layout, rate=rate)
    settings = {"samplerate": rate, "channels": channels, "format": "W64", "subtype": "FLOAT"}
    with import_soundfile().SoundFile(copy, "w", **settings) as file:
        for frame in _and_none(container.decode(stream)):
            for part in resampler.resample(frame):
                file.write(part.to_ndarray().reshape(-1, channels))
            if copy.tell() > LARGEST_BYTES:
                raise AudioError(f"{path}: more than {LARGEST_BYTES >> 30} GiB decoded; cut it")
    copy.seek(0)
    return copy


def _and_none(frames: Any) -> Any:
    """Yield what is decoded, then None, for which a resampler returns what it still holds."""
    yield from frames
    yield None
