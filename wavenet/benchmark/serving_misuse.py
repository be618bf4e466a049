"""Clients of a server under test that misbehave: junk, half a body, leaving, reading slowly."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import socket
import time
import wave
from collections import Counter
from collections.abc import Awaitable, Callable

from wavenet.benchmark.serving_clients import Client, ask

_JUNK = (b"", b"no audio", b"PK\x03\x04 no archive", b"RIFF\xff\xff\xff\xffWAVEfmt ", bytes(5000))
_JUNK_MESSAGES: tuple[str | bytes, ...] = ("{", "[]", b"\x00", "0" * 20_000, '{"seed": -1}')
_LONGEST_WAIT_S = 0.5
"""Before a client leaves, or reads its next message."""
_SLOW_MESSAGES = 10


class Misuse:
    """Clients that misbehave, one after the other.

    Attributes:
        counts: how often each way was taken; answers to junk by their status.

    Args:
        client: makes their streams.
        seed: of the order in which they come.
    """

    def __init__(self, client: Client, seed: int) -> None:
        self._client, self._draw = client, random.Random(seed)
        self.counts: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Misbehave for so long."""
        ways: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self._junk_body, self._junk_message, self._half_a_body),
            *(self._leave, self._leave_a_download, self._read_slowly),
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for way in self._draw.sample(ways, len(ways)):
                try:
                    await way()
                except TimeoutError:  # on a machine with more work than it can do
                    self.counts["got no answer in time"] += 1

    async def _junk_body(self) -> None:
        body = self._draw.choice(_JUNK)
        status, _ = await asyncio.to_thread(ask, self._client.port, "POST", "/vocode", body)
        self.counts[f"malformed body, {status}"] += 1

    async def _junk_message(self) -> None:
        """Junk as the settings, or as the input."""
        from websockets.exceptions import ConnectionClosed

        junk = self._draw.choice(_JUNK_MESSAGES)
        async with self._client.socket(junk if self._draw.random() < 0.5 else None) as (ws, facts):
            with contextlib.suppress(ConnectionClosed):
                while "error" not in facts:
                    await ws.send(junk)
                    message = await ws.recv()
                    facts = {} if isinstance(message, bytes) else json.loads(message)
        self.counts[f"malformed message, {facts.get('status', 'closed')}"] += 1

    async def _half_a_body(self) -> None:
        """Announce more than is sent, and leave."""

        def send() -> None:
            with socket.create_connection(("127.0.0.1", self._client.port), timeout=10) as sock:
                head = "POST /vocode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\n"
                sock.sendall(head.encode() + bytes(5000))
                time.sleep(self._draw.uniform(0, _LONGEST_WAIT_S))

        await asyncio.to_thread(send)
        self.counts["left within a body"] += 1

    async def _leave(self) -> None:
        """Send a mel, and leave in the middle of its audio, half of the time without a word."""
        async with self._client.socket() as (ws, facts):
            if "error" not in facts:
                await ws.send(self._client.frames())
                await asyncio.sleep(self._draw.uniform(0, _LONGEST_WAIT_S))
            if self._draw.random() < 0.5:
                ws.transport.abort()
        self.counts["left within a stream"] += 1

    async def _leave_a_download(self) -> None:
        """Ask for raw samples by HTTP, and leave after the first."""

        def fetch() -> None:
            with socket.create_connection(("127.0.0.1", self._client.port), timeout=60) as sock:
                body = _noise(self._client.sample_rate)
                head = (
                    "POST /vocode?format=pcm HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n"
                )
                sock.sendall(head.encode() + body)
                sock.recv(1000)

        await asyncio.to_thread(fetch)
        self.counts["left within a download"] += 1

    async def _read_slowly(self) -> None:
        from websockets.exceptions import ConnectionClosed

        async with self._client.socket() as (ws, facts):
            if "error" not in facts:
                await ws.send(self._client.frames())
                with contextlib.suppress(ConnectionClosed):
                    for _ in range(_SLOW_MESSAGES):
                        await asyncio.sleep(self._draw.uniform(0, _LONGEST_WAIT_S))
                        await ws.recv()
        self.counts["read slowly, then left"] += 1


def _noise(rate: int) -> bytes:
    """A wav file of a second of quiet noise."""
    file, draw = io.BytesIO(), random.Random(0)
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate, 0, "NONE", ""))
        writer.writeframes(b"".join(draw.randbytes(1) + b"\x00" for _ in range(rate)))
    return file.getvalue()
