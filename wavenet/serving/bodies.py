"""Bodies of requests: onto the disk within bounds, then into a mel; and audio into a body."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import torch
from starlette.requests import ClientDisconnect, Request
from torch import Tensor

from wavenet.audio import AudioError, audio_info, write_audio
from wavenet.audio.libraries import import_soundfile
from wavenet.features.mel_files import MelFileError
from wavenet.generation.mel_sources import open_source
from wavenet.model import WaveNet
from wavenet.serving.limits import Limits, RequestError

_ZIP = b"PK\x03\x04"


@contextlib.asynccontextmanager
async def spooled(request: Request, limits: Limits) -> AsyncIterator[Path]:
    """Keep the body in a file: an ``.npz`` or, whatever it is, ``.audio``.

    Raises:
        RequestError: for a form, an empty body, a large one, and one that does not arrive in time.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise RequestError(
            415, "the body is a form; send the file itself, as curl --data-binary @FILE does"
        )
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.max_bytes:
        raise _too_large(limits)
    with tempfile.TemporaryDirectory(prefix="wavenet-serve-") as folder:
        path = Path(folder) / "body"
        try:
            async with asyncio.timeout(limits.timeout_s):
                first = await _receive(request, path, limits)
        except TimeoutError:
            raise RequestError(
                408, f"the body did not arrive within {limits.timeout_s:g} s"
            ) from None
        except ClientDisconnect:
            raise RequestError(400, "the client left before the body was complete") from None
        yield path.rename(path.with_suffix(".npz" if first.startswith(_ZIP) else ".audio"))


async def _receive(request: Request, path: Path, limits: Limits) -> bytes:
    """Write the body to a file; returns its first bytes."""
    first, n_bytes = b"", 0
    with path.open("wb") as file:
        async for piece in request.stream():
            first += piece[: len(_ZIP) - len(first)]
            n_bytes += len(piece)
            if n_bytes > limits.max_bytes:
                raise _too_large(limits)
            file.write(piece)
    if not n_bytes:
        raise RequestError(400, "the body is empty; send audio or an .npz of wavenet mel")
    return first


def _too_large(limits: Limits) -> RequestError:
    return RequestError(413, f"the body is larger than {limits.max_bytes} bytes")


def read_mel(path: Path, model: WaveNet, limits: Limits) -> tuple[Tensor, int]:
    """Return the mel ``[M, F]`` of a body, and the length of its audio in samples.

    Raises:
        RequestError: if the body is no audio (415), too long (413) or not what the model takes.
    """
    if path.suffix != ".npz":
        require_audio(path, limits)
    try:
        source = open_source(path, model)
        if source.longest > limits.max_seconds * model.sample_rate:
            raise _too_long(source.longest / model.sample_rate, limits)
        return torch.cat(list(source.frames()), dim=-1), source.n_samples
    except (AudioError, MelFileError) as error:
        raise RequestError(422, str(error).replace(str(path), "the body")) from None


def require_audio(path: Path, limits: Limits) -> None:
    """Raise RequestError unless the body is audio that is short enough."""
    try:
        import_soundfile().info(str(path))  # PyAV would decode all of it to know its length
    except RuntimeError:
        raise RequestError(
            415, "the body: not an audio file that can be read; send wav, flac, ogg or mp3"
        ) from None
    try:
        duration_s = audio_info(path).duration_s
    except AudioError as error:
        raise RequestError(415, str(error).replace(str(path), "the body")) from None
    if duration_s > limits.max_seconds:
        raise _too_long(duration_s, limits)


def _too_long(duration_s: float, limits: Limits) -> RequestError:
    return RequestError(413, f"{duration_s:.1f} s of audio; at most {limits.max_seconds:g} s")


def encoded_audio(samples: Tensor, sample_rate: int, suffix: str) -> bytes:
    """Return the file that ``write_audio`` makes of samples ``[T]``."""
    with tempfile.TemporaryDirectory(prefix="wavenet-serve-") as folder:
        path = Path(folder) / f"made.{suffix}"
        write_audio(path, samples, sample_rate)
        return path.read_bytes()
