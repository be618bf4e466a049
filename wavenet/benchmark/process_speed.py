"""Speed of ``process`` with the usual guitar-amplifier network, beside torch's own ``stream``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.benchmark.hardware import describe_machine
from wavenet.benchmark.timing import (
    ROUNDS,
    Spread,
    aligned,
    check_at_least_one,
    counted,
    limited_threads,
    repeated,
    take_turns,
)
from wavenet.nn import Causal, CausalConv1d, Chain, DilatedStack, Select
from wavenet.processing import Processor

CHUNKS = (32, 64, 512)
SAMPLE_RATE = 48_000
_ROUND_S = 0.05


def amplifier() -> Chain:
    """20 layers of kernel size 3: 10 of 16 channels, 10 of 8 (the "standard" size of Neural Amp
    Modeler, https://github.com/sdatkinson/neural-amp-modeler)."""
    dilations = [2**i for i in range(10)]
    return Chain(
        CausalConv1d(1, 16, 1),
        DilatedStack(16, 8, kernel_size=3, dilations=dilations),
        Select(1),
        DilatedStack(8, 8, kernel_size=3, dilations=dilations),
        Select(1),
        nn.LeakyReLU(0.1),
        CausalConv1d(8, 1, 1),
    )


@dataclass(frozen=True)
class ProcessingSpeed:
    """Results of ``measure_processing``: seconds of audio a second, by length of the chunks.

    Attributes:
        process: by ``process``.
        stream: by torch, through the module's own ``stream``.
        compiled: whether ``process`` could compile the network.
        threads: most that were used.
        rounds: of which the medians are.
        machine: see ``describe_machine``.
        sample_rate: of the audio, in Hz.
    """

    process: dict[int, Spread]
    stream: dict[int, Spread]
    compiled: bool
    threads: int
    rounds: int
    machine: dict[str, str | int | None]
    sample_rate: int = SAMPLE_RATE

    def to_json(self) -> str:
        """Everything as one line of JSON."""
        chunks: dict[str, Any] = {}
        for n, spread in self.process.items():
            chunks[str(n)] = {
                "real_time_factor": spread.median,
                "real_time_factor_spread": spread.to_dict(),
                "torch_real_time_factor": self.stream[n].median,
                "ratio_to_torch": spread.median / self.stream[n].median,
            }
        return json.dumps(
            {
                "sample_rate": self.sample_rate,
                "compiled": self.compiled,
                "threads": self.threads,
                "rounds": self.rounds,
                "chunks": chunks,
                "machine": self.machine,
            }
        )

    def __str__(self) -> str:
        """A line for each length of the chunks."""
        rows: list[tuple[str, ...]] = [("chunk", "x real time", "min", "max", "torch")]
        for n, one in self.process.items():
            numbers = (one.median, one.min, one.max, self.stream[n].median)
            rows.append((str(n), *(f"{number:.2f}" for number in numbers)))
        lines = aligned(rows)
        if not self.compiled:
            lines.append("nothing was compiled: numba is missing")
        rounds, threads = counted(self.rounds, "round"), counted(self.threads, "thread")
        lines.append(f"median of {rounds}, {threads}, {self.machine['processor']}")
        return "\n".join(lines)


def measure_processing(
    network: Causal | None = None, *, rounds: int = ROUNDS, threads: int = 1
) -> ProcessingSpeed:
    """Time ``process`` and torch on chunks of 32, 64 and 512 samples, taking turns.

    Args:
        network: of one channel; default, ``amplifier``. It is run at its ``sample_rate``, or else
            at 48 kHz.
        rounds: of which the medians are.
        threads: at most.

    Raises:
        ValueError: for numbers below 1, and for more threads than cores.
    """
    check_at_least_one(rounds=rounds)
    network = amplifier().eval() if network is None else network
    sample_rate = getattr(network, "sample_rate", SAMPLE_RATE)
    work: dict[str, Callable[[], object]] = {}
    counts: dict[str, int] = {}
    with limited_threads(threads), torch.inference_mode():
        for n in CHUNKS:
            x = torch.randn(1, 1, n, generator=torch.Generator().manual_seed(0))
            processor = Processor(network, network.init_state(1))
            for name, call in (("process", processor), ("stream", _Streamed(network))):
                loop = partial(_again, call, x)
                times = repeated(loop, _ROUND_S)
                work[f"{name} {n}"], counts[f"{name} {n}"] = partial(loop, times), n * times
        seconds = take_turns(work, rounds)
    factors = {
        name: Spread.of([counts[name] / sample_rate / one for one in taken])
        for name, taken in seconds.items()
    }
    return ProcessingSpeed(
        {n: factors[f"process {n}"] for n in CHUNKS},
        {n: factors[f"stream {n}"] for n in CHUNKS},
        processor.compiled,
        threads,
        rounds,
        describe_machine(),
        sample_rate,
    )


class _Streamed:
    """The network through its own ``stream``, chunk after chunk."""

    def __init__(self, network: Causal) -> None:
        self._network, self._state = network, network.init_state(1)

    def __call__(self, x: Tensor) -> Tensor:
        y, self._state = self._network.stream(x, self._state)
        return y


def _again(call: Callable[[Tensor], object], x: Tensor, times: int) -> None:
    for _ in range(times):
        call(x)
