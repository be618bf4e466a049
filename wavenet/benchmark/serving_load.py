"""A server under load, on this machine alone: many streams at once, among clients that misbehave.

A server is started as a process of its own. Three things are measured over loopback: the first
audio of one stream on an idle server; what all streams get together while each is sent all of its
mel at once, beside what the engine alone makes in as many rows just before, and how long each waits
for its first audio; and whether they still get all of their
samples beside clients that read nothing, leave in the middle or send what is no audio. The memory
of the server is read before and after.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wavenet.features import log_mel
from wavenet.features.mel_config import MelConfig
from wavenet.generation import stream
from wavenet.loading import load_wavenet

_WARM_S = 1.0
_STARTS_WITHIN_S = 120.0
_ENDS_WITHIN_S = 30.0
_JUNK = (b"", b"no audio", b"PK\x03\x04 no archive", b"RIFF\xff\xff\xff\xffWAVEfmt ", bytes(5000))


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of the server.

    Attributes:
        model: that it serves.
        weights: what the engine rounds the weights to.
        rows: of the server, and streams at once.
        seconds: length of each stream.
        rounds: of the streams.
        misbehaving_s: seconds of misbehaving clients beside the streams.
    """

    model: str
    weights: str = "float32"
    rows: int = 8
    seconds: float = 4.0
    rounds: int = 3
    misbehaving_s: float = 10.0


@dataclass
class ServingSpeed:
    """What was measured.

    Attributes:
        idle_ms: to the first audio of a stream on an idle server, of each try.
        real_time: seconds of audio per second of all streams together, of each round.
        alone: the same of the engine in this process, as ``wavenet bench sample`` measures it: the
            mean of just before and just after each round.
        first_audio_ms: of every stream under load.
        broken: streams that did not get all their samples.
        refused: answers to malformed bodies, by status.
        left: clients that left in the middle, or read nothing.
        resident_mb: memory of the server after warming up, and at the end.
    """

    idle_ms: list[float] = field(default_factory=list)
    real_time: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    first_audio_ms: list[float] = field(default_factory=list)
    broken: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    left: int = 0
    resident_mb: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        first = np.percentile(self.first_audio_ms, (50, 95))
        refused = ", ".join(f"{n} x {status}" for status, n in sorted(self.refused.items()))
        shares = [served / alone for served, alone in zip(self.real_time, self.alone, strict=True)]
        return "\n".join(
            (
                f"first audio, idle    {np.median(self.idle_ms):8.0f} ms",
                f"first audio, loaded  {first[0]:8.0f} ms median, {first[1]:.0f} ms for 95 %",
                f"streams in real time {np.median(self.real_time):8.2f} together, from "
                f"{min(self.real_time):.2f} to {max(self.real_time):.2f}",
                f"the engine alone     {np.median(self.alone):8.2f} together; the server makes "
                f"{100 * np.median(shares):.0f} % of it (median of {len(shares)} rounds)",
                f"streams broken       {self.broken:8d} of {len(self.first_audio_ms)}",
                f"misbehaving clients  {self.left:8d} left or read nothing; malformed: {refused}",
                f"memory of the server {self.resident_mb[0]:8.0f} MB after warming up, "
                f"{self.resident_mb[-1]:.0f} MB at the end",
            )
        )


def measure_serving(load: Load) -> ServingSpeed:
    """Start a server, load it, and stop it.

    Raises:
        ValueError: if the server does not start, or does not end when it is asked to.
    """
    alone = _Alone(load)
    with _server(load) as (port, process):
        return asyncio.run(_measure(load, port, process.pid, alone))


@contextlib.contextmanager
def _server(load: Load) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    command = [
        *(sys.executable, "-m", "wavenet", "serve", "--model", load.model, "--port", "0"),
        *("--weights", load.weights, "--rows", str(load.rows), "--max-queue", str(4 * load.rows)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.match(r"http://[^ ]*:(\d+) ", process.stdout.readline())
        if found is None:
            raise ValueError("the server did not start; its message is above")
        _wait_until_healthy(int(found[1]))
        yield int(found[1]), process
    finally:
        process.stdout.close()
        process.terminate()
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ValueError(f"the server did not end within {_ENDS_WITHIN_S:g} s") from None


def _wait_until_healthy(port: int) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if _ask(port, "GET", "/healthz")[0] == 200:
                return
        time.sleep(0.1)
    raise ValueError(f"the server did not answer within {_STARTS_WITHIN_S:g} s")


def _ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()


class _Alone:
    """The engine of the server, with as many rows, in this process."""

    def __init__(self, load: Load) -> None:
        self._model = load_wavenet(load.model)
        mel = torch.zeros(self._model.mel_filterbank.shape[0], 8)
        lengths = [8 * self._model.frame_lift.hop_samples] * load.rows
        self._given: dict[str, Any] = {"mel": [mel] * load.rows, "n_samples": lengths}
        self._weights = load.weights
        self()  # compiles

    def __call__(self) -> float:
        """Return seconds of audio per second of all rows together."""
        chunks = stream(
            self._model, **self._given, weights=self._weights, refine=0, chunk_samples=400
        )
        began = time.perf_counter()
        n_samples = sum(chunk.numel() for chunk in chunks)
        return n_samples / self._model.sample_rate / (time.perf_counter() - began)


async def _measure(load: Load, port: int, pid: int, alone: _Alone) -> ServingSpeed:
    mel = MelConfig.from_dict(json.loads(_ask(port, "GET", "/info")[1])["mel"])
    client, found = _Client(port, mel), ServingSpeed()
    await client.stream(_WARM_S)
    await asyncio.gather(*(client.stream(_WARM_S) for _ in range(load.rows)))
    found.resident_mb.append(_resident_mb(pid))
    for _ in range(max(3, load.rounds)):
        found.idle_ms.append((await client.stream(_WARM_S)).first_ms)
    for _ in range(load.rounds):
        before = alone()
        _count(found, client.sample_rate, await _together(client, load))
        found.alone.append((before + alone()) / 2)
    if load.misbehaving_s:
        found.real_time, kept = [], found.real_time
        misbehaving = asyncio.create_task(_misbehave(client, load, found))
        while not misbehaving.done():
            _count(found, client.sample_rate, await _together(client, load, share=0.5))
        await misbehaving
        found.real_time = kept
    await _until_idle(port)
    found.resident_mb.append(_resident_mb(pid))
    return found


@dataclass
class _Stream:
    """What came of a stream: when its first audio did, each message, and whether all did."""

    first_ms: float
    arrivals: list[tuple[float, int]]
    whole: bool


class _Client:
    """Makes streams of a voice-like mel, of which no two are alike."""

    def __init__(self, port: int, mel: MelConfig) -> None:
        self.port, self._mel = port, mel
        self._seeds = itertools.count()

    async def stream(self, seconds: float) -> _Stream:
        """Send a mel at once, and take all of its audio."""
        async with self.socket() as (socket, _):
            content, n_samples = self.frames(seconds)
            began = time.perf_counter()
            await socket.send(content)
            await socket.send(json.dumps({"end": True}))
            arrivals: list[tuple[float, int]] = []
            while isinstance(message := await socket.recv(), bytes):
                arrivals.append((time.perf_counter(), len(message) // 2))
            whole = json.loads(message).get("n_samples") == n_samples
            first_ms = 1000 * (arrivals[0][0] - began) if arrivals else float("nan")
            return _Stream(first_ms, arrivals, whole)

    @contextlib.asynccontextmanager
    async def socket(self) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
        """A connection whose settings have been taken, and what the server states."""
        from websockets.asyncio.client import connect

        address = f"ws://127.0.0.1:{self.port}/stream"
        async with connect(address, max_size=None, open_timeout=60) as socket:
            await socket.send(json.dumps({"input": "mel", "seed": next(self._seeds)}))
            yield socket, json.loads(await socket.recv())

    def frames(self, seconds: float) -> tuple[bytes, int]:
        """Frames of so many seconds, as a binary message, and their samples."""
        rate = self._mel.sample_rate
        times = torch.arange(round(seconds * rate)) / rate
        pitch_hz = 120 + 20 * torch.sin(2 * torch.pi * 0.7 * times)
        phase = 2 * torch.pi * torch.cumsum(pitch_hz / rate, 0)
        voiced = sum(torch.sin(k * phase) / k for k in range(1, 20))
        audio = 0.1 * (voiced + 0.05 * torch.randn(len(times))) * (1 + torch.sin(25 * times))
        mel = log_mel(audio.clamp(-1, 1), self._mel)
        content = mel.T.contiguous().numpy().astype("<f4").tobytes()
        return content, mel.shape[1] * self._mel.hop_samples

    @property
    def sample_rate(self) -> int:
        """Of the voice, in Hz."""
        return self._mel.sample_rate


async def _together(client: _Client, load: Load, share: float = 1.0) -> list[_Stream]:
    n = max(1, round(share * load.rows))
    return await asyncio.gather(*(client.stream(load.seconds) for _ in range(n)))


def _count(found: ServingSpeed, sample_rate: int, streams: list[_Stream]) -> None:
    """Add a round; its speed is that of the time in which all streams run."""
    found.first_audio_ms += [stream.first_ms for stream in streams]
    found.broken += sum(not stream.whole for stream in streams)
    begin = max(stream.arrivals[0][0] for stream in streams)
    end = min(stream.arrivals[-1][0] for stream in streams)
    within = [n for one in streams for at, n in one.arrivals if begin < at <= end]
    found.real_time.append(sum(within) / max(end - begin, 1e-9) / sample_rate)


async def _misbehave(client: _Client, load: Load, found: ServingSpeed) -> None:
    """Send junk, leave in the middle, and read nothing, one after the other."""
    draw = random.Random(0)
    end = time.monotonic() + load.misbehaving_s
    while time.monotonic() < end:
        status, _ = await asyncio.to_thread(
            _ask, client.port, "POST", "/vocode", draw.choice(_JUNK)
        )
        found.refused[status] = found.refused.get(status, 0) + 1
        async with client.socket() as (socket, facts):
            if "error" not in facts:
                await socket.send(client.frames(load.seconds)[0])
                await asyncio.sleep(draw.uniform(0, 0.5))
            found.left += 1
            if draw.random() < 0.5:  # without a closing handshake
                socket.transport.abort()


async def _until_idle(port: int) -> None:
    """Wait until no row is taken; ValueError if one stays so."""
    deadline = time.monotonic() + _ENDS_WITHIN_S
    while time.monotonic() < deadline:
        text = (await asyncio.to_thread(_ask, port, "GET", "/metrics"))[1].decode()
        if "\nwavenet_active_streams 0.0\n" in text:
            return
        await asyncio.sleep(0.2)
    raise ValueError("rows are still taken after all clients have left")


def _resident_mb(pid: int) -> float:
    """Memory of a process in MB; NaN where the system does not tell."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
    except OSError:
        return float("nan")
