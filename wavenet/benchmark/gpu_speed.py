"""Sampling speed of a GPU: over batches, beside the eager engine and what the card can do.

One sample of one row uses every weight in one multiply-add. What a card can do at best:

    reading       (bytes a second from its second level cache) / (bytes of the weights) reads, and
                  each serves as many rows as share it: 16 in the fused kernel, else the batch
    arithmetic    (multiply-adds a second of its matrix units) / (number of weights) samples

Both are measured in the same run, on the type that the weights have.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from wavenet.benchmark.hardware import describe_machine
from wavenet.benchmark.roofline import count_weights, weight_bytes
from wavenet.benchmark.sampling_speed import Candidate
from wavenet.benchmark.timing import (
    ROUNDS,
    Spread,
    aligned,
    check_at_least_one,
    counted,
    take_turns,
)
from wavenet.generation.engines.triton.engine import ROWS
from wavenet.generation.options import WEIGHTS
from wavenet.model import WaveNet

DEVICE_ENGINES = ("gpu", "gpu-fused")
BATCHES = (1, 16, 64, 256, 512, 1024, 2048)
"""Batch sizes to measure by default."""

_READ_BYTES = 2**24
"""Size of the array that is read repeatedly: more than the first level caches hold together."""
_MATRIX = 4096
"""Rows and columns of the product that the matrix units are measured with."""
_REPEATS = 20


@dataclass(frozen=True)
class BatchSpeed:
    """Samples a second of all rows together."""

    engine: str
    batch: int
    samples_per_second: Spread


@dataclass(frozen=True)
class DeviceSpeed:
    """Results of ``measure_on_device``.

    Attributes:
        engine: that was asked for; the others are for comparison.
        weights: type of the weights.
        rounds: of which the medians are.
        sample_rate: in Hz.
        n_weights: used at every sample.
        weight_bytes: of these.
        runs: each engine with each batch.
        read_bytes_per_second: from the second level cache.
        multiply_adds_per_second: of the matrix units.
        machine: see ``describe_machine``, with the ``device``.
    """

    engine: str
    weights: str
    rounds: int
    sample_rate: int
    n_weights: int
    weight_bytes: int
    runs: tuple[BatchSpeed, ...]
    read_bytes_per_second: float
    multiply_adds_per_second: float
    machine: dict[str, str | int | None]

    @property
    def best(self) -> BatchSpeed:
        """The batch with which the engine makes most samples a second."""
        return max(self._of(self.engine), key=lambda run: run.samples_per_second.median)

    @property
    def single_stream_samples_per_second(self) -> float | None:
        """Speed with one row; None where that was not measured."""
        rates = [run.samples_per_second.median for run in self._of(self.engine) if run.batch == 1]
        return rates[0] if rates else None

    @property
    def streams_in_real_time(self) -> int:
        """Rows of the largest batch that was measured whose rows all keep up with the audio."""
        kept = [
            run.batch
            for run in self._of(self.engine)
            if run.samples_per_second.median >= run.batch * self.sample_rate
        ]
        return max(kept, default=0)

    @property
    def share_of_reading(self) -> float:
        """Bytes of weights that the best batch reads a second, over those the card can read."""
        rows = min(ROWS, self.best.batch) if self.engine == "gpu-fused" else self.best.batch
        reads = self.best.samples_per_second.median / rows
        return reads * self.weight_bytes / self.read_bytes_per_second

    @property
    def share_of_arithmetic(self) -> float:
        """Multiply-adds that the best batch makes a second, over those the card can make."""
        made = self.best.samples_per_second.median * self.n_weights
        return made / self.multiply_adds_per_second

    def ratio_to(self, engine: str) -> float | None:
        """The best batch's rate over another engine's with the same batch."""
        for run in self._of(engine):
            if run.batch == self.best.batch:
                return self.best.samples_per_second.median / run.samples_per_second.median
        return None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; rates are medians unless a spread is given."""
        return {
            "engine": self.engine,
            "weights": self.weights,
            "rounds": self.rounds,
            "sample_rate": self.sample_rate,
            "weight_bytes": self.weight_bytes,
            "single_stream_samples_per_second": self.single_stream_samples_per_second,
            "best_batch": self.best.batch,
            "samples_per_second": self.best.samples_per_second.median,
            "streams_in_real_time": self.streams_in_real_time,
            "share_of_reading": self.share_of_reading,
            "share_of_arithmetic": self.share_of_arithmetic,
            "ratio_to_eager": self.ratio_to("eager"),
            "ratio_to_gpu": self.ratio_to("gpu"),
            "read_bytes_per_second": self.read_bytes_per_second,
            "multiply_adds_per_second": self.multiply_adds_per_second,
            "runs": [
                {
                    "engine": run.engine,
                    "batch": run.batch,
                    "samples_per_second_spread": run.samples_per_second.to_dict(),
                }
                for run in self.runs
            ],
            "machine": self.machine,
        }

    def to_json(self) -> str:
        """``to_dict`` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        """A table of all runs, and below what follows from it."""
        rows: list[Sequence[str]] = [("", "rows", "samples/s", "min", "max", "x real time a row")]
        for run in self.runs:
            rate = run.samples_per_second
            each = rate.median / run.batch / self.sample_rate
            numbers = [f"{one:,.0f}" for one in (rate.median, rate.min, rate.max)]
            rows.append((f"{run.engine} engine", str(run.batch), *numbers, f"{each:.2f}"))
        return "\n".join([*aligned(rows), *self._notes()])

    def _notes(self) -> list[str]:
        machine = self.machine
        return [
            f"best with {counted(self.best.batch, 'row')}; "
            f"{counted(self.streams_in_real_time, 'row')} at once kept up with "
            f"{self.sample_rate} Hz",
            f"{self.share_of_reading:.2f} of reading, {self.read_bytes_per_second / 1e9:,.0f} GB/s "
            f"(second level cache); {self.share_of_arithmetic:.2f} of arithmetic, "
            f"{self.multiply_adds_per_second / 1e12:.1f} T multiply-adds/s (matrix units)",
            f"{self.weights} weights, {self.weight_bytes:,} bytes; median of "
            f"{counted(self.rounds, 'round')}, {machine['device']}, torch {machine['torch']}",
        ]

    def _of(self, engine: str) -> list[BatchSpeed]:
        return [run for run in self.runs if run.engine == engine]


def measure_on_device(
    model: WaveNet,
    *,
    engine: str = "gpu",
    weights: str = "float32",
    batches: Sequence[int] = BATCHES,
    samples: int | None = None,
    rounds: int = ROUNDS,
) -> DeviceSpeed:
    """Time a GPU engine beside the eager engine and, if it is the fused one, the CUDA graphs.

    What is timed is ``stream``: uniforms, conditioning, network and draw. The first call, which
    compiles or records, does not count. A model that wants features gets noise.

    Args:
        model: any ``WaveNet``; it is moved to the CUDA device.
        engine: ``gpu`` or ``gpu-fused``.
        weights: as for ``generate``.
        batches: numbers of rows.
        samples: of one row in a round; default, as many as take about 0.1 s.
        rounds: of which the median is taken.

    Raises:
        ValueError: without a CUDA device, for numbers below 1, and as ``generate``.
    """
    if not torch.cuda.is_available():
        raise ValueError(
            f"engine={engine!r} is measured on a CUDA device and torch sees none here; "
            "use engine='cpu', or torch and a driver that fit the card"
        )
    engines = ("eager", *DEVICE_ENGINES[: DEVICE_ENGINES.index(engine) + 1])
    return measure_engines(
        model.cuda(), engines, weights=weights, batches=batches, samples=samples, rounds=rounds
    )


def measure_engines(
    model: WaveNet,
    engines: Sequence[str],
    *,
    weights: str,
    batches: Sequence[int],
    samples: int | None,
    rounds: int,
) -> DeviceSpeed:
    """Every engine with every batch, where the model is; the last engine is the one in question.

    The engines take turns within a batch. Raises as ``measure_on_device``.
    """
    check_at_least_one(rounds=rounds, **{f"batch {batch}": batch for batch in batches})
    if samples is not None:
        check_at_least_one(samples=samples)
    runs = []
    for batch in batches:
        candidates = {
            name: Candidate(model, name, weights, batch, samples, rounds) for name in engines
        }
        seconds = take_turns({name: one.run for name, one in candidates.items()}, rounds)
        runs += [
            BatchSpeed(name, batch, one.rates(seconds[name])) for name, one in candidates.items()
        ]
    device, dtype = model.input_projection.weight.device, WEIGHTS[weights]
    return DeviceSpeed(
        engine=engines[-1],
        weights=weights,
        rounds=rounds,
        sample_rate=model.sample_rate,
        n_weights=count_weights(model),
        weight_bytes=weight_bytes(model, weights),
        runs=tuple(runs),
        read_bytes_per_second=_reading(device, rounds),
        multiply_adds_per_second=_arithmetic(device, dtype, rounds),
        machine=describe_machine() | {"device": _device_name(device)},
    )


def _reading(device: torch.device, rounds: int) -> float:
    """Bytes a second that sums of one array read, again and again."""
    array = torch.ones(_READ_BYTES // 4, device=device)
    return _rate(lambda: array.sum(), _READ_BYTES, device, rounds)


def _arithmetic(device: torch.device, dtype: torch.dtype, rounds: int) -> float:
    """Multiply-adds a second of products of large matrices; on a CPU smaller ones, in float32."""
    on_cpu = device.type == "cpu"
    size, dtype = (_MATRIX // 16, torch.float32) if on_cpu else (_MATRIX, dtype)
    a = torch.ones(size, size, device=device, dtype=dtype)
    return _rate(lambda: a @ a, size**3, device, rounds)


def _rate(work: Callable[[], object], amount: float, device: torch.device, rounds: int) -> float:
    """Return an amount's rate a second, the median of the rounds."""

    def repeat() -> None:
        for _ in range(_REPEATS):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    repeat()
    seconds = take_turns({"": repeat}, rounds)[""]
    return Spread.of([_REPEATS * amount / one for one in seconds]).median


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
