"""Measures of ``wavenet doctor``: ceilings of a device, speed and memory of sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import wavenet
from wavenet.benchmark.doctor.checks import exact_products
from wavenet.benchmark.doctor.part import Values, attempt, engine_names, is_short
from wavenet.benchmark.memory import peak_bytes
from wavenet.benchmark.timing import Spread, take_turns
from wavenet.storage.pretrained import DEFAULT_VOICE

STREAM_BATCHES = (1, 16, 64, 256, 512, 1024, 2048)
MEMORY_SECONDS = (6, 60)
"""Sampling memory is compared between these lengths: it shall not grow."""
_READS = 64
"""Times that an array in the second level cache is read by one sum."""


def ceilings(device: torch.device) -> Iterator[Values]:
    """Bytes a second of memory and of the second-level cache, multiply-adds of matrix products."""
    exact_products()
    on_cpu = is_short(device)
    copied, read = (2**24, 2**20) if on_cpu else (2**31, 2**24)
    size = 512 if on_cpu else 8192
    works: dict[str, Callable[[], float]] = {
        "memory_bytes_per_second": lambda: _copying(device, copied),
        "cache_bytes_per_second": lambda: _reading(device, read),
    }
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        works[f"{name}_multiply_adds_per_second"] = partial(_multiplying, device, dtype, size)
    rates: dict[str, float] = {}
    failures: dict[str, Values] = {}
    for name, work in works.items():
        found = attempt(partial(_as_values, work))
        if "rate" in found:
            rates[name] = found["rate"]
        else:
            failures[name] = found
        yield {"rates": rates, "checks": failures}


def _as_values(work: Callable[[], float]) -> Values:
    return {"rate": work()}


def _copying(device: torch.device, n_bytes: int) -> float:
    source = torch.ones(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2.0 * n_bytes / _median_seconds(lambda: target.copy_(source), device)


def _reading(device: torch.device, n_bytes: int) -> float:
    """One sum reads the array many times: a launch takes longer than to read it once."""
    array = torch.ones(n_bytes // 4, device=device).expand(_READS, -1)
    return float(_READS) * n_bytes / _median_seconds(lambda: array.sum(dim=1), device)


def _multiplying(device: torch.device, dtype: torch.dtype, size: int) -> float:
    a = torch.ones(size, size, device=device, dtype=dtype)
    return float(size) ** 3 / _median_seconds(lambda: torch.matmul(a, a), device)


def _median_seconds(work: Callable[[], object], device: torch.device, rounds: int = 9) -> float:
    """Seconds of one call, the median of several, each waited for."""

    def call() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        call()
    return Spread.of(take_turns({"": call}, rounds)[""]).median


def sampling(device: torch.device, preset: str) -> Iterator[Values]:
    """Samples a second of each engine over a range of batches, the smallest batch first.

    An engine that fails with a batch, as where memory is short, is not tried with larger ones.
    """
    model = _sampled_model(preset).to(device)
    rows: list[Values] = []
    failures: dict[str, Values] = {}
    for batch in (1,) if is_short(device) else STREAM_BATCHES:
        for engine, weights in _candidates(device, batch):
            name = f"{engine} {weights}"
            if name in failures:
                continue
            found = attempt(partial(_measure, model, engine, weights, batch))
            if "samples_per_second" in found:
                rows.append(found)
            else:
                failures[name] = found | {"batch": batch}
            yield {"rows": rows, "checks": failures, "sample_rate": model.sample_rate}


def _candidates(device: torch.device, batch: int) -> list[tuple[str, str]]:
    """Engines with the types of their weights; what decides most comes first.

    The eager engine waits for its host at every operation: one batch of it is enough.
    """
    names = [name for name in reversed(engine_names(device)) if name != "eager" or batch == 1]
    narrow = [] if is_short(device) else [("gpu-fused", "bfloat16")]
    return [*((name, "float32") for name in names), *narrow]


def _measure(model: wavenet.WaveNet, engine: str, weights: str, batch: int) -> Values:
    from wavenet.benchmark.sampling_speed import Candidate

    device = model.input_projection.weight.device
    rounds, samples = (2, 32) if is_short(device) else (5, None)
    candidate = Candidate(model, engine, weights, batch, samples, rounds)
    seconds = take_turns({"": candidate.run}, rounds)[""]
    rate = candidate.rates(seconds).median
    real_time = rate / batch / model.sample_rate
    return {
        "engine": engine,
        "weights": weights,
        "batch": batch,
        "samples_per_second": rate,
        "real_time": real_time,
    }


def _sampled_model(preset: str) -> wavenet.WaveNet:
    if preset == DEFAULT_VOICE:
        return wavenet.WaveNet.from_pretrained(preset)
    return wavenet.WaveNet(wavenet.WaveNetConfig.preset(preset)).eval()


def memory(device: torch.device) -> Iterator[Values]:
    """Peak memory of sampling, which does not grow with the length.

    Of a small network, as every sample takes time and what is kept depends on their number alone.
    """
    sizes: dict[str, Any] = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 16}
    model = wavenet.WaveNet(wavenet.WaveNetConfig(**sizes, skip_channels=16)).eval().to(device)
    scale = 100 if is_short(device) else 1  # a CPU samples hundredths of the lengths

    def sample(n_samples: int) -> None:
        for _ in wavenet.stream(model, n_samples=n_samples, seed=0, chunk_samples=160):
            pass

    sample(320)  # what only the first call does is not counted
    peaks: dict[str, int | None] = {}
    for seconds in MEMORY_SECONDS:
        work = partial(sample, seconds * model.sample_rate // scale)
        peaks[f"{seconds / scale:g} s"] = peak_bytes(work, device)
        yield {"peak_bytes": peaks}
