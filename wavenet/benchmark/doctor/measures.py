"""Measures of ``wavenet doctor``: ceilings of a device, speed and memory of sampling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import wavenet
from wavenet.benchmark.doctor.part import is_short
from wavenet.benchmark.memory import peak_bytes
from wavenet.benchmark.timing import Spread, take_turns
from wavenet.storage.pretrained import DEFAULT_VOICE

STREAM_BATCHES = (1, 16, 64, 256, 1024)
MEMORY_SECONDS = (6, 60)
"""Sampling memory is compared between these lengths: it shall not grow."""


def ceilings(device: torch.device) -> dict[str, Any]:
    """Bytes a second of memory and of the second-level cache, multiply-adds of matrix products."""
    on_cpu = is_short(device)
    n_bytes = 2**24 if on_cpu else 2**31
    source = torch.randn(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    near = source[: 2**18 if on_cpu else 2**21]  # 1 MB, 8 MB
    size = 512 if on_cpu else 8192
    works: dict[str, tuple[Callable[[], object], float]] = {
        "memory_bytes_per_second": (lambda: target.copy_(source), 2.0 * n_bytes),
        "cache_bytes_per_second": (lambda: near.sum(), 4.0 * len(near)),
    }
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(size, size, device=device, dtype=dtype)
        name = str(dtype).removeprefix("torch.")
        works[f"{name}_multiply_adds_per_second"] = partial(torch.matmul, a, a), float(size) ** 3
    rates = {}
    for name, (work, amount) in works.items():
        rates[name] = amount / _median_seconds(work, device)
    return {"rates": rates}


def _median_seconds(work: Callable[[], object], device: torch.device, rounds: int = 9) -> float:
    """Seconds of one call, the median of several, each waited for."""

    def call() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        call()
    return Spread.of(take_turns({"": call}, rounds)[""]).median


def sampling(device: torch.device, preset: str) -> dict[str, Any]:
    """Samples a second of each engine over a range of batches."""
    from wavenet.benchmark.gpu_speed import measure_engines

    model = _sampled_model(preset).to(device)
    names = ["eager", "cpu"] if device.type == "cpu" else ["eager", "gpu", "gpu-fused"]
    names = [name for name in names if _runs(name, model)]
    weights = "float32"
    batches = (1,) if is_short(device) else STREAM_BATCHES
    rounds, samples = (2, 32) if is_short(device) else (5, None)
    rows = []
    for name in names:
        speed = measure_engines(
            model, [name], weights=weights, batches=batches, samples=samples, rounds=rounds
        )
        rows += [
            {
                "engine": name,
                "batch": run.batch,
                "samples_per_second": run.samples_per_second.median,
                "real_time": run.samples_per_second.median / run.batch / model.sample_rate,
            }
            for run in speed.runs
        ]
    return {"rows": rows, "weights": weights, "sample_rate": model.sample_rate}


def _sampled_model(preset: str) -> wavenet.WaveNet:
    if preset == DEFAULT_VOICE:
        model: wavenet.WaveNet = wavenet.load(preset)
        return model
    return wavenet.WaveNet(wavenet.WaveNetConfig.preset(preset)).eval()


def _runs(engine: str, model: wavenet.WaveNet) -> bool:
    try:
        wavenet.generate(
            model,
            n_samples=1,
            mel=_noise_mel(model, 1),
            speaker=0 if model.config.speakers else None,
            engine=engine,
            seed=0,
        )
    except (ValueError, ModuleNotFoundError):
        return False
    return True


def _noise_mel(model: wavenet.WaveNet, n_samples: int) -> Tensor | None:
    if model.config.mel is None:
        return None
    frames = -(-n_samples // model.config.mel.hop_samples)
    draw = torch.Generator().manual_seed(0)
    return torch.randn(model.config.mel.n_mels, frames, generator=draw) - 5


def memory(device: torch.device) -> dict[str, Any]:
    """Peak memory of sampling, which does not grow with the length."""
    model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")).eval().to(device)
    scale = 100 if is_short(device) else 1  # a CPU samples hundredths of the lengths

    def sample(n_samples: int) -> None:
        for _ in wavenet.stream(model, n_samples=n_samples, seed=0, chunk_samples=160):
            pass

    sample(320)  # what only the first call does is not counted
    peaks = {}
    for seconds in MEMORY_SECONDS:
        work = partial(sample, seconds * model.sample_rate // scale)
        peaks[f"{seconds / scale:g} s"] = peak_bytes(work, device)
    return {"peak_bytes": peaks}
