"""Clients of a server under test: streams of a voice-like mel, and how their audio arrives.

What they send is made before their clock starts, and with one thread: they share the machine with
the server that they measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import torch

from wavenet.features import log_mel
from wavenet.features.mel_config import MelConfig
from wavenet.generation.threads import one_thread

_TIMEOUT_S = 60.0


def ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()


@dataclass(frozen=True)
class Spoken:
    """What came of a stream.

    Attributes:
        first_ms: from the first frame sent to the first audio; NaN where none came.
        arrivals: time and samples of each message.
        whole: whether all samples came.
        refusal: the server's error, or None.
    """

    first_ms: float
    arrivals: list[tuple[float, int]]
    whole: bool
    refusal: str | None = None


class Client:
    """Makes streams of a voice-like mel, each with a seed of its own.

    Args:
        port: of the server, on this machine.
        mel: settings of its voice's mel.
        seconds: length of each stream.
        live: whether frames are sent as if they were spoken now; all at once otherwise.
    """

    def __init__(self, port: int, mel: MelConfig, seconds: float, *, live: bool = False) -> None:
        self.port, self.sample_rate, self._live = port, mel.sample_rate, live
        self._seeds = itertools.count()
        self._mel = _mel_of_a_voice(mel, seconds)
        self._mel_hop, self._frame_s = mel.hop_samples, mel.hop_samples / mel.sample_rate

    async def together(self, n: int) -> list[Spoken]:
        """Run so many streams at once."""
        return await asyncio.gather(*(self.stream() for _ in range(n)))

    async def stream(self) -> Spoken:
        """Send the mel, and take all of its audio."""
        from websockets.exceptions import ConnectionClosed

        async with self.socket() as (socket, facts):
            if "error" in facts:
                return Spoken(float("nan"), [], False, facts["error"])
            began = time.perf_counter()
            sending = asyncio.create_task(self._send(socket))
            arrivals: list[tuple[float, int]] = []
            while isinstance(message := await socket.recv(), bytes):
                arrivals.append((time.perf_counter(), len(message) // 2))
            with contextlib.suppress(ConnectionClosed):  # after an error, which is kept below
                await sending
        last = json.loads(message)
        first_ms = 1000 * (arrivals[0][0] - began) if arrivals else float("nan")
        whole = last.get("n_samples") == self._mel.shape[1] * self._mel_hop
        return Spoken(first_ms, arrivals, whole, last.get("error"))

    @contextlib.asynccontextmanager
    async def socket(
        self, settings: str | bytes | None = None
    ) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
        """A connection, and what the server answers to settings; default, those of a stream."""
        from websockets.asyncio.client import connect

        address = f"ws://127.0.0.1:{self.port}/stream"
        if settings is None:
            settings = json.dumps({"input": "mel", "seed": next(self._seeds)})
        async with connect(address, max_size=None, open_timeout=_TIMEOUT_S) as socket:
            await socket.send(settings)
            yield socket, json.loads(await socket.recv())

    def frames(self, first: int = 0, stop: int | None = None) -> bytes:
        """Frames of the mel as a binary message."""
        return self._mel[:, first:stop].T.contiguous().numpy().astype("<f4").tobytes()

    async def _send(self, socket: Any) -> None:
        if not self._live:
            await socket.send(self.frames())
        began = time.perf_counter()
        for number in range(self._mel.shape[1] if self._live else 0):
            await asyncio.sleep(began + number * self._frame_s - time.perf_counter())
            await socket.send(self.frames(number, number + 1))
        await socket.send(json.dumps({"end": True}))


def _mel_of_a_voice(config: MelConfig, seconds: float) -> torch.Tensor:
    """A mel ``[M, F]`` of a gliding pulse train."""
    times = torch.arange(round(seconds * config.sample_rate)) / config.sample_rate
    pitch_hz = 120 + 20 * torch.sin(2 * torch.pi * 0.7 * times)
    phase = 2 * torch.pi * torch.cumsum(pitch_hz / config.sample_rate, 0)
    with one_thread():
        voiced = sum(torch.sin(k * phase) / k for k in range(1, 20))
        noise = 0.05 * torch.randn(len(times), generator=torch.Generator().manual_seed(0))
        audio = 0.1 * (voiced + noise) * (1 + torch.sin(25 * times))
        return log_mel(audio.clamp(-1, 1), config)
