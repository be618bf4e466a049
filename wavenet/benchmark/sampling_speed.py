"""Sampling speed of a model, beside the eager engine and beside what the machine can do at best.

All are measured in one process, taking turns; see ``limits`` for what the machine can do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from wavenet.benchmark.hardware import describe_machine
from wavenet.benchmark.roofline import Limit, LimitLoops, weight_bytes
from wavenet.benchmark.timing import (
    ROUNDS,
    Spread,
    aligned,
    check_at_least_one,
    counted,
    limited_threads,
    seconds_of,
    take_turns,
)
from wavenet.generation.engines.cpu import engine as cpu
from wavenet.generation.engines.cpu.kernels.packing import Array, pack_weights
from wavenet.generation.options import WEIGHTS
from wavenet.generation.sampling import SampleStream, stream
from wavenet.model import WaveNet

_ROUND_S = 0.1
"""Wall-clock seconds that each candidate works in a round, by default."""
_FIRST_SAMPLES = 16
"""Enough to compile, and then to guess how many samples fill a round."""


@dataclass(frozen=True)
class SamplingSpeed:
    """Results of ``measure_sampling``. Samples are those of all rows together.

    Attributes:
        engine: ``cpu`` or ``eager``.
        weights: type of the weights.
        batch: rows.
        threads: most that were used.
        rounds: of which the medians are.
        samples_per_round: of one row.
        sample_rate: in Hz.
        weight_bytes: used at every sample.
        samples_per_second: of the engine.
        eager: samples a second of the eager engine.
        limits: of the machine; none where nothing can measure them.
        machine: see ``describe_machine``.
    """

    engine: str
    weights: str
    batch: int
    threads: int
    rounds: int
    samples_per_round: int
    sample_rate: int
    weight_bytes: int
    samples_per_second: Spread
    eager: Spread
    limits: tuple[Limit, ...]
    machine: dict[str, str | int | None]

    @property
    def real_time_factor(self) -> float:
        """Seconds of audio made in a second, of all rows together."""
        return self.samples_per_second.median / self.sample_rate

    @property
    def ratio_to_eager(self) -> float:
        """Speed relative to the eager engine."""
        return self.samples_per_second.median / self.eager.median

    @property
    def limit(self) -> Limit | None:
        """The limit that binds: the smallest."""
        return min(self.limits, key=lambda limit: limit.samples_per_second, default=None)

    @property
    def share_of_limit(self) -> float | None:
        """Samples a second over those of the limit that binds."""
        if self.limit is None:
            return None
        return self.samples_per_second.median / self.limit.samples_per_second

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; rates are medians unless a spread is given."""
        limits = {
            limit.name: {"samples_per_second": limit.samples_per_second, "rate": limit.rate}
            for limit in self.limits
        }
        binding = self.limit and {
            "name": self.limit.name,
            "samples_per_second": self.limit.samples_per_second,
        }
        return {
            "engine": self.engine,
            "weights": self.weights,
            "batch": self.batch,
            "threads": self.threads,
            "rounds": self.rounds,
            "samples_per_round": self.samples_per_round,
            "sample_rate": self.sample_rate,
            "weight_bytes": self.weight_bytes,
            "samples_per_second": self.samples_per_second.median,
            "samples_per_second_spread": self.samples_per_second.to_dict(),
            "real_time_factor": self.real_time_factor,
            "eager_samples_per_second": self.eager.median,
            "eager_samples_per_second_spread": self.eager.to_dict(),
            "ratio_to_eager": self.ratio_to_eager,
            "share_of_limit": self.share_of_limit,
            "limit": binding,
            "limits": limits,
            "machine": self.machine,
        }

    def to_json(self) -> str:
        """``to_dict`` as one line of JSON."""
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        """A table: the engine, the eager engine and the limits, and below what was measured."""
        spreads = {f"{self.engine} engine": self.samples_per_second, "eager engine": self.eager}
        rows = [("", "samples/s", "min", "max", "x real time", "share")]
        rows += [self._row(name, one.median, one) for name, one in spreads.items()]
        rows += [self._row(f"limit: {one.name}", one.samples_per_second) for one in self.limits]
        return "\n".join([*aligned(rows), *self._notes()])

    def _row(
        self, name: str, rate: float, spread: Spread | None = None
    ) -> tuple[str, str, str, str, str, str]:
        """A line of the table; of a limit, the share that the engine reaches."""
        low, high = ("", "") if spread is None else (f"{spread.min:,.0f}", f"{spread.max:,.0f}")
        share = "" if spread else f"{self.samples_per_second.median / rate:.2f}"
        return name, f"{rate:,.0f}", low, high, f"{rate / self.sample_rate:.2f}", share

    def _notes(self) -> list[str]:
        """Return the lines below the table."""
        rows = "1 row" if self.batch == 1 else f"{self.batch} rows together"
        notes = [
            f"{rows}, {self.weights} weights, {self.weight_bytes:,} bytes used at every sample, "
            f"{self.ratio_to_eager:.1f}x the eager engine"
        ]
        for limit in self.limits:
            unit = "GB/s read" if limit.name == "reading" else "G multiply-adds/s"
            binds = ", which binds" if limit is self.limit else ""
            notes.append(f"{limit.name}: one core makes {limit.rate / 1e9:.1f} {unit}{binds}")
        if not self.limits:
            notes.append("the machine's limit is left out: it is measured on the CPU, with numba")
        machine = self.machine
        numba = f"numba {machine['numba']}" if machine["numba"] else "no numba"
        rounds, samples = counted(self.rounds, "round"), counted(self.samples_per_round, "sample")
        threads, cores = counted(self.threads, "thread"), counted(machine["cores"], "core")
        notes.append(
            f"median of {rounds} of {samples}, {threads}, {cores} of {machine['processor']}, "
            f"torch {machine['torch']}, {numba}"
        )
        return notes


def measure_sampling(
    model: WaveNet,
    *,
    engine: str = "auto",
    weights: str = "float32",
    batch: int = 1,
    samples: int | None = None,
    rounds: int = ROUNDS,
    threads: int = 1,
) -> SamplingSpeed:
    """Time an engine, the eager engine and the machine's limits, taking turns.

    What is timed is ``stream``: uniforms, conditioning, network and draw. The first call, which may
    compile, does not count. A model that wants features gets noise.

    Args:
        model: any ``WaveNet``.
        engine: as for ``generate``.
        weights: as for ``generate``; the eager engine gets the same.
        batch: rows.
        samples: of one row in a round; default, as many as take about 0.1 s.
        rounds: of which the median is taken.
        threads: that torch and the engine may use.

    Raises:
        ValueError: for numbers below 1, for more threads than cores, and as ``generate``.
    """
    check_at_least_one(batch=batch, rounds=rounds)
    if samples is not None:
        check_at_least_one(samples=samples)
    with limited_threads(threads):
        speed = Candidate(model, engine, weights, batch, samples, rounds)
        candidates: dict[str, Callable[[], object]] = {"engine": speed.run}
        eager = speed
        if speed.engine_name != "eager":
            eager = Candidate(model, "eager", weights, batch, samples, rounds)
            candidates["eager"] = eager.run
        machine = LimitLoops(_packed(model, speed, weights)) if _has_limits(model) else None
        seconds = take_turns(candidates | (machine.candidates if machine else {}), rounds)
    return SamplingSpeed(
        engine=speed.engine_name,
        weights=weights,
        batch=batch,
        threads=threads,
        rounds=rounds,
        samples_per_round=speed.samples,
        sample_rate=model.sample_rate,
        weight_bytes=weight_bytes(model, weights),
        samples_per_second=speed.rates(seconds["engine"]),
        eager=eager.rates(seconds.get("eager", seconds["engine"])),
        limits=(
            machine.limits(seconds, model, weights, batch, min(threads, batch)) if machine else ()
        ),
        machine=describe_machine(),
    )


def _has_limits(model: WaveNet) -> bool:
    """Return whether the machine's limits are the model's: on the CPU, and can be measured."""
    return cpu.refusal(model) is None and cpu.has_compiler()


class Candidate:
    """One engine, warm, with enough to do for all rounds.

    Attributes:
        samples: of one row in a round.
        chunks: the stream that is timed.
        engine_name: which engine serves.
    """

    def __init__(
        self,
        model: WaveNet,
        engine: str,
        weights: str,
        batch: int,
        samples: int | None,
        rounds: int,
    ) -> None:
        def begin(chunk_samples: int, chunks: int) -> SampleStream:
            return _begin(model, engine, weights, batch, chunk_samples, chunks)

        first = begin(_FIRST_SAMPLES, 2)
        next(first)
        guess = math.ceil(_FIRST_SAMPLES * _ROUND_S / seconds_of(lambda: next(first)))
        self.samples = guess if samples is None else samples
        self.chunks = begin(self.samples, rounds + 1)
        self._per_round = batch * self.samples
        self.engine_name = self.chunks.engine.name
        self.run()

    def run(self) -> None:
        """One round."""
        next(self.chunks)

    def rates(self, seconds: list[float]) -> Spread:
        """Samples a second of all rows."""
        return Spread.of([self._per_round / one for one in seconds])


def _begin(
    model: WaveNet, engine: str, weights: str, batch: int, chunk_samples: int, chunks: int
) -> SampleStream:
    """A stream of so many chunks, of noise where the model wants features."""
    local, given = model.config.local, model.example_conditions()
    if local is not None:
        frames = -(-chunk_samples * chunks // local.hop_samples)
        noise = torch.Generator().manual_seed(0)
        given["mel"] = torch.randn(local.channels, frames, generator=noise)
    return stream(
        model,
        chunk_samples=chunk_samples,
        n_samples=chunk_samples * chunks,
        conditions=given,
        seed=0,
        batch_size=batch,
        engine=engine,
        weights=weights,
        refine=0,
    )


def _packed(model: WaveNet, speed: Candidate, weights: str) -> Array:
    """The very weights that the engine reads, so that their place in memory is the same."""
    engine = speed.chunks.engine
    if isinstance(engine, cpu.CpuEngine):
        return engine.weights
    return pack_weights(model, WEIGHTS[weights])
