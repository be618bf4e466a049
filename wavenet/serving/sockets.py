"""What the WebSocket endpoints share: settings first, then binary messages, and errors in JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import torch
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from torch import Tensor

from wavenet.audio.writing import stored_values
from wavenet.serving.limits import Limits, RequestError

TYPES = {"pcm16": "<i2", "float32": "<f4"}
"""Types of samples in binary messages, little-endian."""
_TRY_LATER, _REFUSED = 1013, 1008
_LARGEST_SETTINGS = 10_000


class Socket:
    """A WebSocket whose client sends settings, then binary messages, then ``{"end": true}``.

    Args:
        websocket: accepted here.
        limits: of time.
    """

    def __init__(self, websocket: WebSocket, limits: Limits) -> None:
        self._socket, self._timeout_s = websocket, limits.timeout_s

    async def settings(self) -> dict[str, Any]:
        """Return the first message, an object in JSON."""
        await self._socket.accept()
        content = await self._receive()
        if isinstance(content, bytes):
            raise RequestError(400, "the first message is binary; send the settings as JSON")
        return _object(content)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield binary messages until the client ends its input."""
        while True:
            content = await self._receive()
            if isinstance(content, bytes):
                yield content
            elif _object(content).get("end") is True:
                return
            else:
                raise RequestError(400, 'a text message must be {"end": true}')

    async def send(self, content: bytes | dict[str, Any]) -> None:
        """Send a binary message, or JSON; RequestError (408) if the client does not take it."""
        sending = (
            self._socket.send_bytes(content)
            if isinstance(content, bytes)
            else self._socket.send_json(content)
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await sending
                await asyncio.sleep(0)  # others have their turn, and a lost connection is noticed
        except TimeoutError:
            raise RequestError(408, f"nothing was taken for {self._timeout_s:g} s") from None

    async def refuse(self, error: RequestError) -> None:
        """Send an error, and close."""
        content: dict[str, Any] = {"error": error.message, "status": error.status}
        if error.retry_after_s is not None:
            content["retry_after_s"] = error.retry_after_s
        code = _TRY_LATER if error.retry_after_s is not None else _REFUSED
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(1):
                if self._socket.application_state is WebSocketState.CONNECTING:
                    await self._socket.close(code)  # before the handshake: HTTP 403
                    return
                await self._socket.send_json(content)
                await self._socket.close(code)

    async def close(self) -> None:
        """Close after all has been sent."""
        await self._socket.close()

    async def _receive(self) -> bytes | str:
        try:
            async with asyncio.timeout(self._timeout_s):
                message = await self._socket.receive()
        except TimeoutError:
            raise RequestError(408, f"nothing arrived for {self._timeout_s:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        content: bytes | str | None = message.get("bytes")
        return message["text"] if content is None else content


def samples_of(content: bytes, kind: str) -> Tensor:
    """Return the samples ``[n]`` of a binary message.

    Raises:
        RequestError: for a wrong number of bytes, NaN or infinity.
    """
    values = values_of(content, kind)
    return torch.from_numpy(values / 32768 if kind == "pcm16" else values).float()


def values_of(content: bytes, kind: str) -> np.ndarray[Any, Any]:
    """Return the numbers of a binary message; raises as ``samples_of``."""
    width = np.dtype(TYPES[kind]).itemsize
    if len(content) % width:
        raise RequestError(422, f"{len(content)} bytes are no whole number of {kind} values")
    values = np.frombuffer(content, TYPES[kind])
    if kind == "float32" and not np.isfinite(values).all():
        raise RequestError(422, "a message has values that are NaN or infinite")
    return values.copy()


def binary(samples: Tensor, kind: str) -> bytes:
    """Return samples ``[n]`` as a binary message."""
    subtype = "PCM_16" if kind == "pcm16" else "FLOAT"
    return stored_values(samples, subtype).astype(TYPES[kind]).tobytes()


def pop_type(given: dict[str, Any], name: str) -> str:
    """Take a type of samples out of settings; ``pcm16`` where there is none."""
    kind = given.pop(name, "pcm16")
    if not isinstance(kind, str) or kind not in TYPES:
        raise RequestError(400, f"{name}={str(kind)[:40]!r} must be one of {', '.join(TYPES)}")
    return kind


def _object(content: str) -> dict[str, Any]:
    try:
        found = json.loads(content) if len(content) < _LARGEST_SETTINGS else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RequestError(400, "a text message must be an object in JSON")
    return found
