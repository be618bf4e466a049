"""A server under load, on this machine alone: many streams at once, among clients that misbehave.

A server is started as a process of its own. Over loopback are measured: the first audio of one
stream on an idle server; what all streams get together while each is sent all of its mel at once,
beside what the engine alone makes in as many rows just before and after; how long each waits for
its first audio; how evenly they are served; and whether they still get all of their samples beside
clients that send junk, leave, or read slowly. What the server holds is noted at the beginning, ten
times among those clients, and when all have left.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from wavenet.benchmark.serving_clients import Client, Spoken, ask
from wavenet.benchmark.serving_misuse import Misuse
from wavenet.benchmark.serving_process import Held, ServerProcess, server_process
from wavenet.features.mel_config import MelConfig
from wavenet.generation import stream
from wavenet.loading import load_wavenet

_WARM_S, _LOOKS = 1.0, 10
_ALONE_FRAMES = 24


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of the server.

    Attributes:
        model: that it serves.
        weights: what the engine rounds the weights to.
        rows: of the server.
        streams: at once; more than the rows wait for one, and beyond the queue are refused.
        seconds: length of each stream.
        rounds: of the streams.
        misbehaving_s: seconds of misbehaving clients beside the streams.
        live: whether streams send their frames as if they were spoken.
    """

    model: str
    weights: str = "float32"
    rows: int = 8
    streams: int | None = None
    seconds: float = 4.0
    rounds: int = 3
    misbehaving_s: float = 10.0
    live: bool = False

    @property
    def at_once(self) -> int:
        """Streams at once."""
        return self.rows if self.streams is None else self.streams


@dataclass
class ServingSpeed:
    """What was measured.

    Attributes:
        idle_ms: to the first audio of a stream on an idle server, of each try.
        real_time: seconds of audio per second of all streams together, of each round.
        alone: the same of the engine in this process, as ``wavenet bench sample`` measures it: the
            mean of just before and just after each round.
        first_audio_ms: of every stream under load.
        shares: of each round, the slowest stream's speed over the fastest one's.
        broken: streams that did not get all their samples, though they were not refused.
        refused: streams that were refused.
        misused: what the misbehaving clients did, and how often.
        held: by the server: after warming up, among misbehaving clients, and at the end.
    """

    idle_ms: list[float] = field(default_factory=list)
    real_time: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    first_audio_ms: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    broken: int = 0
    refused: int = 0
    misused: Counter[str] = field(default_factory=Counter)
    held: list[Held] = field(default_factory=list)

    def __str__(self) -> str:
        first = np.percentile(self.first_audio_ms, (50, 95))
        of_alone = [mine / alone for mine, alone in zip(self.real_time, self.alone, strict=True)]
        misused = [f"  {n:6d} x {what}" for what, n in sorted(self.misused.items())]
        return "\n".join(
            (
                f"first audio, idle    {np.median(self.idle_ms):8.0f} ms",
                f"first audio, loaded  {first[0]:8.0f} ms median, {first[1]:.0f} ms for 95 %",
                f"streams in real time {np.median(self.real_time):8.2f} together, from "
                f"{min(self.real_time):.2f} to {max(self.real_time):.2f}; the slowest gets "
                f"{100 * np.median(self.shares):.0f} % of the fastest",
                f"the engine alone     {np.median(self.alone):8.2f} together; the server makes "
                f"{100 * np.median(of_alone):.0f} % of it (median of {len(of_alone)} rounds)",
                f"streams              {len(self.first_audio_ms):8d} spoken, {self.broken} broken, "
                f"{self.refused} refused",
                *(["misbehaving clients:", *misused] if misused else []),
                "the server holds:",
                *(f"  {held}" for held in self.held),
            )
        )


def measure_serving(load: Load) -> ServingSpeed:
    """Start a server, load it, and stop it.

    Raises:
        ValueError: if the server does not start, or does not end when it is asked to.
    """
    alone = _Alone(load)
    options = (
        *("--model", load.model, "--weights", load.weights),
        *("--rows", str(load.rows), "--max-queue", str(4 * load.rows)),
    )
    with server_process(options) as server:
        return asyncio.run(_measure(load, server, alone))


class _Alone:
    """The engine of the server, with as many rows, in this process."""

    def __init__(self, load: Load) -> None:
        self._model = load_wavenet(load.model)
        mel = torch.zeros(self._model.mel_filterbank.shape[0], _ALONE_FRAMES)
        lengths = [_ALONE_FRAMES * self._model.frame_lift.hop_samples] * load.rows
        self._given: dict[str, Any] = {"mel": [mel] * load.rows, "n_samples": lengths}
        self._weights = load.weights
        self()  # compiles

    def __call__(self) -> float:
        """Return seconds of audio per second of all rows together."""
        chunks = stream(
            self._model, **self._given, weights=self._weights, refine=0, chunk_samples=400
        )
        next(chunks)  # with which all rows have begun
        began = time.perf_counter()
        n_samples = sum(chunk.numel() for chunk in chunks)
        return n_samples / self._model.sample_rate / (time.perf_counter() - began)


async def _measure(load: Load, server: ServerProcess, alone: _Alone) -> ServingSpeed:
    mel = MelConfig.from_dict(json.loads(ask(server.port, "GET", "/info")[1])["mel"])
    client = Client(server.port, mel, load.seconds, live=load.live)
    brief = Client(server.port, mel, _WARM_S, live=load.live)
    found = ServingSpeed()
    await brief.stream()
    await brief.together(load.at_once)
    found.held.append(server.held())
    for _ in range(max(3, load.rounds)):
        found.idle_ms.append((await brief.stream()).first_ms)
    for _ in range(load.rounds):
        before = alone()
        found.real_time.append(_count(found, client, await client.together(load.at_once)))
        found.alone.append((before + alone()) / 2)
    if load.misbehaving_s:
        await _among_misuse(load, server, client, found)
    await asyncio.to_thread(server.wait_until_idle)
    found.held.append(server.held())
    return found


def _count(found: ServingSpeed, client: Client, streams: list[Spoken]) -> float:
    """Add a round; return its speed, that of the time in which all spoken streams run."""
    found.refused += sum(stream.refusal is not None for stream in streams)
    found.broken += sum(not stream.whole and stream.refusal is None for stream in streams)
    spoken = [stream for stream in streams if stream.arrivals]
    found.first_audio_ms += [stream.first_ms for stream in spoken]
    begin = max(stream.arrivals[0][0] for stream in spoken)
    end = min(stream.arrivals[-1][0] for stream in spoken)
    if begin >= end:  # some have ended before others began
        begin = min(stream.arrivals[0][0] for stream in spoken)
        end = max(stream.arrivals[-1][0] for stream in spoken)
    shares = [sum(n for at, n in one.arrivals if begin < at <= end) for one in spoken]
    found.shares.append(min(shares) / max(1, *shares))
    return sum(shares) / max(end - begin, 1e-9) / client.sample_rate


async def _among_misuse(
    load: Load, server: ServerProcess, client: Client, found: ServingSpeed
) -> None:
    """Let clients misbehave, a fourth as many as streams, beside half of the streams."""
    shape = range(max(1, load.at_once // 4))
    misuses = [Misuse(client, seed) for seed in shape]
    misbehaving = asyncio.gather(*(one.run(load.misbehaving_s) for one in misuses))
    looking = asyncio.create_task(_look(server, found, load.misbehaving_s / _LOOKS))
    try:
        while not misbehaving.done():
            _count(found, client, await client.together(max(1, load.at_once // 2)))
        await misbehaving
    finally:
        looking.cancel()
    for one in misuses:
        found.misused += one.counts


async def _look(server: ServerProcess, found: ServingSpeed, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        found.held.append(await asyncio.to_thread(server.held))
