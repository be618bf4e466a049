"""``/stream``: a WebSocket that takes mel frames or audio and gives samples as they are made.

The client sends JSON: ``input`` (``mel`` or ``audio``), ``input_type`` and ``output_type`` (types
of samples) and settings of the voice; the answer states sample rate, latency and how many requests
have to end before this one begins (``ahead``). Then it sends
binary messages, float32 frames of M bands each or samples at the model's rate, and ends with
``{"end": true}``. Samples come as binary messages, and at the end ``{"ended": true, ...}``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import torch
from torch import Tensor

from wavenet.features.mel_warping import MelWarp
from wavenet.serving.limits import RequestError
from wavenet.serving.live import LIVE_BLOCK, Feed, LiveMel
from wavenet.serving.output import Output
from wavenet.serving.service import Service
from wavenet.serving.settings import read_settings
from wavenet.serving.sockets import Socket, binary, pop_type, samples_of, values_of

_READY_S = 2.0
"""Seconds of audio that may be ready for a slow client before its row waits."""
_LOOK_S = 0.02
"""Between two looks at a row that is behind its input."""


async def stream(service: Service, socket: Socket) -> None:
    """Serve one WebSocket.

    Raises:
        RequestError: for whatever cannot be answered.
        WebSocketDisconnect: if the client leaves.
    """
    given = await socket.settings()
    taken = given.pop("input", "mel")
    if taken not in ("mel", "audio"):
        raise RequestError(400, f"input={str(taken)[:40]!r} must be mel or audio")
    input_type, output_type = pop_type(given, "input_type"), pop_type(given, "output_type")
    if given.get("refine") is None:  # left out, as null is: it would add to the latency
        given["refine"] = service.refine or 0
    settings = read_settings(given, service.model, live=True)
    warp = MelWarp(service.mel, pitch=settings.pitch, formant=settings.formant)
    feed = Feed()
    output = Output(round(_READY_S * service.model.sample_rate), service.limits.timeout_s)
    sampling, ahead = service.submit(feed, settings, output, block=LIVE_BLOCK)
    latency = live_latency_samples(service, audio=taken == "audio")
    if sampling.refinement is not None:
        latency += sampling.refinement.delay_samples + sampling.refinement.step - 1
    frames_of = _Frames(service, input_type, audio=taken == "audio")
    sending = asyncio.create_task(_send(socket, output, output_type, frames_of))
    try:
        await socket.send(_facts(service, latency, output_type, ahead))
        receiving = asyncio.create_task(_receive(service, socket, feed, warp, frames_of))
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_EXCEPTION)
            for task in (receiving, sending):
                if task.done():
                    task.result()
            n_samples = await sending
        finally:
            receiving.cancel()
        await socket.send({"ended": True, "n_samples": n_samples})
        await socket.close()
    finally:
        sending.cancel()
        output.cancel()


def live_latency_samples(service: Service, *, audio: bool) -> int:
    """Return how many samples of input after one may have to arrive before its output is made.

    A frame's samples need the next frame's conditioning, which is encoded with its block, and that
    needs the frames of context behind it. A frame of audio is known at the end of its window.
    """
    mel = service.mel
    frames = LIVE_BLOCK + service.model.context_frames
    window = mel.n_fft - mel.pad_samples if audio else 0
    return frames * mel.hop_samples + window


def _facts(
    service: Service, latency_samples: int, output_type: str, ahead: int
) -> dict[str, object]:
    rate = service.model.sample_rate
    return {
        "sample_rate": rate,
        "n_mels": service.mel.n_mels,
        "hop_samples": service.mel.hop_samples,
        "output_type": output_type,
        "latency_samples": latency_samples,
        "latency_ms": round(1000 * latency_samples / rate, 3),
        "ahead": ahead,
    }


class _Frames:
    """Binary messages into frames ``[M, F]``.

    Attributes:
        n_samples: that the input describes so far.
    """

    def __init__(self, service: Service, input_type: str, *, audio: bool) -> None:
        self._n_mels, self._type = service.mel.n_mels, input_type
        self._hop, self.n_samples = service.mel.hop_samples, 0
        self._mel: LiveMel | None = None
        if audio:
            self._mel = LiveMel(service.mel, service.model.mel_filterbank.float().cpu())

    def __call__(self, content: bytes) -> Tensor | None:
        """Return the frames that a message completes."""
        if self._mel is not None:
            samples = samples_of(content, self._type).clamp(-1, 1)
            self.n_samples += len(samples)
            return self._mel.add(samples)
        values = values_of(content, "float32")
        if len(values) % self._n_mels:
            raise RequestError(
                422, f"{len(values)} values are no whole number of frames of {self._n_mels} bands"
            )
        self.n_samples += len(values) // self._n_mels * self._hop
        return torch.from_numpy(values.reshape(-1, self._n_mels).T.copy())

    def finish(self) -> Tensor | None:
        """Return the frames at the end."""
        return None if self._mel is None else self._mel.finish()


async def _receive(
    service: Service,
    socket: Socket,
    feed: Feed,
    warp: Callable[[Tensor], Tensor],
    frames_of: _Frames,
) -> None:
    """Hand frames to the row; no more are read while it is too far behind."""
    most = round(service.limits.max_seconds * service.mel.frame_rate_hz)

    def put(frames: Tensor | None) -> None:
        if frames is not None:
            feed.put(warp(frames))
            service.worker.wake()

    async for content in socket.pieces():
        put(frames_of(content))
        while feed.n_waiting > most:
            await asyncio.sleep(_LOOK_S)
    put(frames_of.finish())
    if not feed.n_frames:
        raise RequestError(422, "the input ended before its first frame; send frames or samples")
    feed.end()
    service.worker.wake()


async def _send(socket: Socket, output: Output, output_type: str, given: _Frames) -> int:
    """Send samples as they are made, no more than there are of the input; returns how many."""
    n_samples = 0
    async for samples in output:
        wanted = samples[: given.n_samples - n_samples]
        n_samples += len(wanted)
        if len(wanted):
            await socket.send(binary(wanted, output_type))
    return n_samples
