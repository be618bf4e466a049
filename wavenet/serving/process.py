"""``/process``: audio through an amplifier or another causal model, whole (POST) or live.

The live one is a WebSocket: the client sends JSON with ``model``, ``input_type`` and
``output_type``, gets sample rate and latency, and then a binary message for each of its own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import torch
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from wavenet.audio import AudioError
from wavenet.processing import Processor
from wavenet.processing.files import process_file
from wavenet.serving.bodies import require_audio, spooled
from wavenet.serving.limits import RequestError
from wavenet.serving.service import Service
from wavenet.serving.settings import FORMATS, query_of
from wavenet.serving.sockets import Socket, binary, pop_type, samples_of

_LARGEST_CHUNK = 1 << 16


async def process(service: Service, request: Request) -> Response:
    """Answer with the processed file: 32-bit float ``wav`` or 24-bit ``flac``.

    Raises:
        RequestError: for whatever cannot be answered.
    """
    query = query_of(request)
    model = _model(service, query.pop("model", None))
    suffix = query.pop("format", "wav")
    if suffix not in ("wav", "flac") or query:
        raise RequestError(400, "known are model, and format as wav or flac")
    async with spooled(request, service.limits) as path:
        require_audio(path, service.limits)
        target = path.with_name(f"made.{suffix}")
        async with service.heavy():
            await asyncio.to_thread(_process, model, path, target)
        return Response(target.read_bytes(), media_type=FORMATS[suffix])


def _process(model: Any, source: Path, target: Path) -> None:
    try:
        process_file(model, source, target)
    except AudioError as error:
        raise RequestError(422, str(error).replace(str(source), "the body")) from None


async def process_live(service: Service, socket: Socket) -> None:
    """Serve one WebSocket.

    Raises:
        RequestError: for whatever cannot be answered.
        WebSocketDisconnect: if the client leaves.
    """
    given = await socket.settings()
    input_type, output_type = pop_type(given, "input_type"), pop_type(given, "output_type")
    model = _model(service, given.pop("model", None))
    if given:
        raise RequestError(400, f"{next(iter(given))[:40]!r} is unknown")
    processor = await asyncio.to_thread(_compiled, model)
    delay = int(getattr(model, "delay", 0))
    await socket.send(
        {
            "sample_rate": int(model.sample_rate),
            "output_type": output_type,
            "latency_samples": delay,
            "latency_ms": round(1000 * delay / model.sample_rate, 3),
        }
    )
    n_samples = 0
    async for content in socket.pieces():
        samples = samples_of(content, input_type)
        if not 0 < len(samples) <= _LARGEST_CHUNK:
            raise RequestError(422, f"a message of {len(samples)} samples; send 1 to 65536")
        made: Tensor = await asyncio.to_thread(processor, samples[None, None])
        n_samples += len(samples)
        await socket.send(binary(made[0, 0], output_type))
    await socket.send({"ended": True, "n_samples": n_samples})
    await socket.close()


def _compiled(model: Any) -> Processor:
    """Return a processor that has compiled its kernel, at the beginning of silence."""
    processor = Processor(model, model.warm_state(1))
    Processor(model, processor.state)(torch.zeros(1, 1, 1))
    return processor


def _model(service: Service, name: object) -> Any:
    """Return the amplifier of a name; without one, the first."""
    amplifiers = service.amplifiers
    if not amplifiers:
        raise RequestError(404, "no model is loaded; start the server with --process")
    if name is None:
        return next(iter(amplifiers.values()))
    if not isinstance(name, str) or name not in amplifiers:
        raise RequestError(404, f"model={str(name)[:40]!r} must be one of {', '.join(amplifiers)}")
    return amplifiers[name]
