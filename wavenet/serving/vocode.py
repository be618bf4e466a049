"""``POST /vocode``: audio or a mel in, the voice's copy out; and ``POST /baseline``."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable

import torch
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from torch import Tensor

from wavenet.audio.writing import stored_values
from wavenet.evaluation.baselines import griffin_lim, why_unavailable
from wavenet.evaluation.without_network import synthesize_without_network
from wavenet.nn.refine import refine
from wavenet.serving.bodies import encoded_audio, read_mel, spooled
from wavenet.serving.limits import RequestError
from wavenet.serving.output import NOT_FINITE, Output
from wavenet.serving.service import Service
from wavenet.serving.settings import FORMATS, Settings, query_of, read_settings

logger = logging.getLogger("wavenet")

_READY_S = 2.0
"""Seconds of audio that may be ready for a slow client before its row waits."""
_LOOK_S, _LOADED_FRAMES = 0.5, 8
BASELINES = ("griffin_lim", "pulses", "noise")
"""Copies that are made without the network, by ``wavenet.evaluation.baselines``' names."""


async def vocode(service: Service, request: Request) -> Response:
    """Answer with a file, or with samples as they are made.

    Raises:
        RequestError: for whatever cannot be answered.
    """
    settings = read_settings(query_of(request), service.model)
    mel, n_samples = await _mel_of(service, request, settings)
    chunked = settings.format == "pcm"
    most = round(_READY_S * service.model.sample_rate) if chunked else None
    output = Output(most, service.limits.timeout_s)
    service.submit([mel], settings, output, n_samples=n_samples)
    if chunked:
        first = await _unless_left(request, output, anext(output))
        return ChunkedAnswer(output, _pcm(first, output, n_samples))
    made = await _unless_left(request, output, _whole(output, service.limits.timeout_s))
    return await _file(made[:n_samples], service, settings)


async def baseline(service: Service, request: Request) -> Response:
    """Answer with a copy that is made without the network: ``system`` is one of ``BASELINES``.

    Raises:
        RequestError: for whatever cannot be answered.
    """
    query = query_of(request)
    system = query.pop("system", "")
    if system not in BASELINES:
        raise RequestError(400, f"system={system[:40]!r} must be one of {', '.join(BASELINES)}")
    reason = why_unavailable(system)
    if reason is not None:
        raise RequestError(501, f"system={system!r} is missing here: {reason}")
    settings = read_settings(query, service.model)
    mel, n_samples = await _mel_of(service, request, settings)
    async with service.heavy():
        made = await asyncio.to_thread(_finite_copy, service, system, mel, n_samples, settings)
    return await _file(made, service, settings)


def load_baselines(service: Service) -> None:
    """Make a short copy of each kind, once the worker is ready.

    What they import and compile takes seconds, which the first request would have to wait.
    """
    while not service.worker.ready.wait(_LOOK_S):
        if not service.worker.alive:
            return
    mel = torch.zeros(service.mel.n_mels, _LOADED_FRAMES)
    n_samples = _LOADED_FRAMES * service.mel.hop_samples
    for system in BASELINES:
        if why_unavailable(system) is None:
            try:
                _without_network(service, system, mel, n_samples, Settings())
            except Exception as error:  # noqa: BLE001 - a request for it will say so again
                what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                logger.warning("serve: %s cannot be made: %s", system, what)


def _finite_copy(
    service: Service, system: str, mel: Tensor, n_samples: int, settings: Settings
) -> Tensor:
    """Return ``_without_network``; RequestError (422) for a mel of another unit."""
    base = math.e if service.mel.log == "ln" else 10.0
    magnitudes = torch.tensor(base, dtype=torch.float64) ** mel.double()
    if not bool(magnitudes.isfinite().all()):
        raise RequestError(422, NOT_FINITE)
    made = _without_network(service, system, mel, n_samples, settings)
    if not bool(made.isfinite().all()):
        raise RequestError(422, NOT_FINITE)
    return made


def _without_network(
    service: Service, system: str, mel: Tensor, n_samples: int, settings: Settings
) -> Tensor:
    config, filterbank = service.mel, service.model.mel_filterbank.float().cpu()
    with torch.inference_mode():
        if system == "griffin_lim":
            return griffin_lim(
                mel, config, filterbank, n_samples=n_samples, seed=settings.seed
            ).clamp(-1, 1)
        passes = service.model.config.refinement_passes
        passes = passes if settings.refine is None else settings.refine
        copy = synthesize_without_network(
            mel, config, pulses=system == "pulses", n_samples=n_samples, seed=settings.seed
        )
        refined: Tensor = refine(copy, mel, config, passes, filterbank=filterbank)
        return refined.clamp(-1, 1)


async def _mel_of(service: Service, request: Request, settings: Settings) -> tuple[Tensor, int]:
    """Return the mel of the body, changed as asked for, and its length in samples."""
    async with spooled(request, service.limits) as path:
        mel, n_samples = await asyncio.to_thread(read_mel, path, service.model, service.limits)
    return settings.changed(mel, n_samples, service.mel)


async def _file(samples: Tensor, service: Service, settings: Settings) -> Response:
    if settings.format == "pcm":
        return Response(pcm16(samples), media_type=FORMATS["pcm"])
    content = await asyncio.to_thread(
        encoded_audio, samples, service.model.sample_rate, settings.format
    )
    return Response(content, media_type=FORMATS[settings.format])


async def _whole(output: Output, timeout_s: float) -> Tensor:
    """Return all samples; RequestError (504) if they take too long."""
    try:
        async with asyncio.timeout(timeout_s):
            return torch.cat([samples async for samples in output])
    except TimeoutError:
        raise RequestError(504, f"not done within {timeout_s:g} s; send less at once", 5) from None


async def _unless_left(request: Request, output: Output, made: Awaitable[Tensor]) -> Tensor:
    """Await samples; if the client leaves meanwhile, its row is free."""
    making = asyncio.ensure_future(made)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((making, leaving), return_when=asyncio.FIRST_COMPLETED)
        if making.done():
            return making.result()
        raise RequestError(499, "the client has left")
    except BaseException:
        output.cancel()
        raise
    finally:
        for task in (making, leaving):
            task.cancel()


async def _left(request: Request) -> None:
    """Return when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _pcm(first: Tensor, output: Output, n_samples: int) -> AsyncIterator[bytes]:
    """16-bit samples, no more than ``n_samples``."""
    samples: Tensor | None = first
    while samples is not None and n_samples > 0:
        yield pcm16(samples[:n_samples])
        n_samples -= len(samples)
        samples = await anext(output, None)


def pcm16(samples: Tensor) -> bytes:
    """Return samples ``[n]`` as 16-bit little-endian integers."""
    return stored_values(samples, "PCM_16").astype("<i2").tobytes()


class ChunkedAnswer(StreamingResponse):
    """Samples as they are made; when the client leaves, its row is free."""

    def __init__(self, output: Output, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(pieces, media_type=FORMATS["pcm"])
        self._output = output

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces; what cannot go on is cut off, as its status has been sent."""
        timeout_s = self._output.timeout_s

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(timeout_s):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            logger.warning("/vocode: cut off: nothing was taken for %g s", timeout_s)
        except RequestError as error:
            logger.warning("/vocode: cut off: %s", error.message)
        except asyncio.CancelledError:  # by uvicorn, when running requests had their time
            logger.warning("/vocode: cut off: the server is stopping")
        finally:
            self._output.cancel()
