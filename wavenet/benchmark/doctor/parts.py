"""The parts of ``wavenet doctor``: what is checked and measured on a device.

A part is a function of the device that returns plain values. It runs in a process of its own
(``python -m wavenet.benchmark.doctor.parts NAME DEVICE``), which writes them as one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wavenet
from wavenet.benchmark.memory import peak_bytes
from wavenet.benchmark.timing import Spread, take_turns
from wavenet.generation.engines.base import Engine, GenerationState, Request
from wavenet.generation.options import engine_class
from wavenet.nn import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    DilatedStack,
    GatedResidualBlock,
)
from wavenet.storage.pretrained import DEFAULT_VOICE

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Largest difference of chunks and whole, as a share of the largest output."""
ENGINE_TOLERANCE = 2e-3
"""Of params against ``stream``, as a share of the largest: float32 sums in another order."""
STREAM_BATCHES = (1, 16, 64, 256, 1024)
MEMORY_SECONDS = (6, 60)
"""Sampling memory is compared between these lengths: it shall not grow."""


class Missing(Exception):
    """A part that cannot run, as a package or a device is missing; the message says which."""


@dataclass(frozen=True)
class Part:
    """One part of the report.

    Attributes:
        title: for people.
        seconds: how long it may take on a GPU, as a share of all parts.
        measure: the work.
    """

    title: str
    seconds: float
    measure: Callable[[torch.device], dict[str, Any]]


def _require(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise Missing(f"needs {', '.join(missing)}; pip install 'wavenet-audio[train]'")


def _small(device: torch.device) -> bool:
    """Whether the measure is shortened: a CPU runs the parts, a GPU is measured by them."""
    return device.type == "cpu"


# (a) correctness


def blocks(device: torch.device) -> dict[str, Any]:
    """Chunks, single steps and the whole agree for every block, in three floating types."""
    torch.manual_seed(0)
    kinds: dict[str, Causal] = {
        "CausalConv1d": CausalConv1d(3, 5, 3, dilation=4),
        "strided": CausalConv1d(4, 6, 5, stride=2),
        "CausalConvTranspose1d": CausalConvTranspose1d(4, 6, 5, stride=3),
        "GatedResidualBlock": GatedResidualBlock(6, 7, dilation=4, cond_channels=3),
        "DilatedStack": DilatedStack(6, 7, dilations=[1, 2, 4, 8]),
        "Chain": Chain(CausalConv1d(2, 3, 4), torch.nn.Tanh(), CausalConv1d(3, 1, 3, stride=2)),
    }
    results = {}
    for dtype, tolerance in TOLERANCES.items():
        for name, block in kinds.items():
            own = block.to(device, dtype)
            error = _chunk_error(own, device, dtype)
            results[f"{name} {str(dtype).removeprefix('torch.')}"] = {
                "error": error,
                "passed": error <= tolerance,
            }
    return {"checks": results}


@torch.no_grad()
def _chunk_error(block: Causal, device: torch.device, dtype: torch.dtype) -> float:
    """Largest difference of a stream in chunks to the whole, as a share of the largest output."""
    n = 30 * block.step
    x = torch.randn(2, block.in_channels, n, device=device, dtype=dtype)
    cond = None
    if block.cond_channels is not None:
        cond = torch.randn(2, block.cond_channels, n, device=device, dtype=dtype)
    whole = _first(block.stream(x, block.init_state(2), cond)[0])
    state, parts, start = block.init_state(2), [], 0
    for steps in (1, 7, 1, 13, 8):
        part = slice(start, start + steps * block.step)
        y, state = block.stream(x[..., part], state, None if cond is None else cond[..., part])
        parts.append(_first(y))
        start = part.stop
    difference = (torch.cat(parts, dim=-1) - whole).abs().max() / whole.abs().max()
    return float(difference)


def _first(y: Any) -> Tensor:
    return y if isinstance(y, Tensor) else y[-1]


def _models() -> dict[str, wavenet.WaveNet]:
    """A model of every distribution, with odd widths, a predictor, speakers and one-hot input."""
    sizes = {
        "layers_per_stack": 4,
        "stacks": 2,
        "residual_channels": 20,
        "skip_channels": 28,
        "gate_channels": 36,
    }
    mel = replace(wavenet.MelConfig.preset("wavenet-16k"), n_mels=20)
    given: dict[str, dict[str, Any]] = {
        "mu_law": {},
        "mu_law one-hot": {"one_hot_input": True},
        "logistic_mixture": {"distribution": "logistic_mixture", "distribution_size": 3},
        "gaussian": {"distribution": "gaussian", "kernel_size": 3},
        "gaussian_mixture": {"distribution": "gaussian_mixture", "distribution_size": 5},
        "mel": {"mel": mel},
        "predictor": {
            "mel": mel,
            "distribution": "logistic_mixture",
            "distribution_size": 2,
            "linear_prediction": 12,
            "pitch_taps": 3,
            "speakers": 2,
        },
    }
    torch.manual_seed(0)
    models = {}
    for name, settings in given.items():
        model = wavenet.WaveNet(wavenet.WaveNetConfig(**{**sizes, **settings})).eval()
        with torch.no_grad():  # a fresh head answers everything alike
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        models[name] = model
    return models


def engines(device: torch.device) -> dict[str, Any]:
    """Every engine gives the parameters of ``stream`` when it is fed the same samples."""
    names = ["eager", "cpu"] if device.type == "cpu" else ["eager", "gpu", "gpu-fused"]
    results: dict[str, Any] = {}
    for title, model in _models().items():
        model.to(device)
        expected = _forced("stream", model)
        for name in names:
            try:
                found = _forced(name, model)
            except (ValueError, ModuleNotFoundError) as error:
                results[f"{title} {name}"] = {"refused": str(error)}
                continue
            off = float((found - expected).abs().max() / expected.abs().max())
            results[f"{title} {name}"] = {"error": off, "passed": off <= ENGINE_TOLERANCE}
    return {"checks": results}


def _forced(engine: str, model: wavenet.WaveNet) -> Tensor:
    """Parameters ``[B, P, T]`` of an engine that is fed 70 given samples."""
    device = model.input_projection.weight.device
    draw = torch.Generator().manual_seed(1)
    frames = None
    with torch.inference_mode():
        cond = None
        if model.config.mel is not None:
            mel = torch.randn(2, model.config.mel.n_mels, 3, generator=draw) - 4
            speaker = torch.tensor([0, 1], device=device) if model.config.speakers else None
            found = model.condition_frames(mel.to(device), speaker)
            assert found is not None
            frames = list(found)
            cond = model.frame_lift(found, 1)
        silence = torch.zeros(2, 1, 1, device=device)
        start = GenerationState.after(*model.stream(silence, model.warm_state(2, cond), cond))
        request = Request(frames, 0, 1.0, None, torch.float32)
        running: Engine = engine_class(engine, model)(model, request, start)
    x = model.distribution.quantize(0.3 * torch.randn(2, 70, generator=draw))
    return running.force(x).cpu()


def training_window(device: torch.device) -> dict[str, Any]:
    """The training window has the skip sums and the gradients of ``stream``."""
    from wavenet.nn import LiftedFrames
    from wavenet.training.window import skip_sum_of

    results = {}
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(0)
        stack = DilatedStack(20, 28, dilations=[1, 2, 4, 8, 16], cond_channels=5).to(device, dtype)
        x = torch.randn(2, 20, 200, device=device, dtype=dtype, requires_grad=True)
        frames = torch.randn(2, 5, 10, device=device, dtype=dtype)
        lift = torch.eye(10, device=device, dtype=dtype).repeat_interleave(20, dim=1)
        cond = LiftedFrames(frames, lift)
        (_, whole), _ = stack.stream(x, stack.init_state(2), cond.samples)
        expected = [whole[..., -90:], *_gradients(stack, x, whole[..., -90:])]
        window = skip_sum_of(stack, x, cond, 90)
        found = [window, *_gradients(stack, x, window)]
        errors = [
            float(((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).detach())
            for a, b in zip(found, expected, strict=True)
        ]
        results[str(dtype).removeprefix("torch.")] = {
            "error": max(errors),
            "passed": max(errors) <= 10 * TOLERANCES[dtype],
        }
    return {"checks": results}


def _gradients(stack: DilatedStack, x: Tensor, y: Tensor) -> list[Tensor]:
    weights = [p for name, p in stack.named_parameters() if "blocks.4.residual" not in name]
    return list(torch.autograd.grad(y.square().sum(), [x, *weights]))


# (b) ceilings


def ceilings(device: torch.device) -> dict[str, Any]:
    """Bytes a second of memory and of the second-level cache, multiply-adds of matrix products."""
    on_cpu = _small(device)
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


# (c) sampling


def sampling(device: torch.device, preset: str) -> dict[str, Any]:
    """Samples a second of each engine over a range of batches."""
    from wavenet.benchmark.gpu_speed import measure_engines

    model = _sampled_model(preset).to(device)
    names = ["eager", "cpu"] if device.type == "cpu" else ["eager", "gpu", "gpu-fused"]
    names = [name for name in names if _runs(name, model)]
    weights = "float32"
    batches = (1,) if _small(device) else STREAM_BATCHES
    rounds, samples = (2, 32) if _small(device) else (5, None)
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
    scale = 100 if _small(device) else 1  # a CPU samples hundredths of the lengths

    def sample(n_samples: int) -> None:
        for _ in wavenet.stream(model, n_samples=n_samples, seed=0, chunk_samples=160):
            pass

    sample(320)  # what only the first call does is not counted
    peaks = {}
    for seconds in MEMORY_SECONDS:
        work = partial(sample, seconds * model.sample_rate // scale)
        peaks[f"{seconds / scale:g} s"] = peak_bytes(work, device)
    return {"peak_bytes": peaks}


# (d), (e) training


def training(device: torch.device) -> dict[str, Any]:
    """Samples a second of a training step in bfloat16, with ``torch.compile`` and without."""
    _require("lightning", "jsonargparse")  # the defaults of training are read from its settings
    from wavenet.benchmark.training_speed import measure_training

    preset, window_s, batch = ("tiny", 0.1, 1) if _small(device) else ("medium", 1.0, 32)
    rows = []
    for compiled in (False, True):
        if compiled and _small(device):
            continue
        speed = measure_training(
            wavenet.WaveNetConfig.preset(preset),
            precision="bf16",
            window_s=window_s,
            batch_size=batch,
            rounds=2 if _small(device) else 5,
            device=str(device),
            compiled=compiled,
        )
        rows.append(
            {
                "compile": compiled,
                "samples_per_second": speed.samples_per_second.median,
                "plain_samples_per_second": speed.plain.median,
                "peak_bytes": speed.peak_bytes,
            }
        )
    return {"rows": rows, "preset": preset, "batch_size": batch, "window_s": window_s}


def resumed_training(device: torch.device) -> dict[str, Any]:
    """A run from the shipped voice that is killed at its half and resumed, beside one that is not.

    On a CPU both end with the same weights, bit for bit; on a GPU the difference is reported.
    """
    _require("lightning", "jsonargparse", "soundfile")
    steps, batch = (4, 1) if _small(device) else (400, 16)
    with tempfile.TemporaryDirectory() as folder:
        _write_noise_corpus(Path(folder) / "corpus" / "en")
        command = [
            *(sys.executable, "-m", "wavenet", "train", "--from", DEFAULT_VOICE),
            f"--corpus={folder}/corpus",
            "--speakers_by_folder=true",
            f"--window_s={0.1 if _small(device) else 0.4}",
            f"--batch_size={batch}",
            f"--max_steps={steps}",
            f"--checkpoint_every={steps // 2}",
            "--validation_windows=1",
            "--listen_every=0",
            f"--cache={folder}/cache",
            f"--trainer.accelerator={'cpu' if device.type == 'cpu' else 'gpu'}",
            "--trainer.devices=1",
            *(() if _small(device) else ("--trainer.precision=bf16-mixed",)),
        ]
        whole, halved = Path(folder) / "whole", Path(folder) / "halved"
        begin = time.perf_counter()
        _run([*command, f"--out={whole}"])
        seconds = time.perf_counter() - begin
        _run_until_half([*command, f"--out={halved}"], halved / "checkpoints")
        _run([*command, f"--out={halved}", "--resume"])
        parts = [_weights(out / "model") for out in (whole, halved)]
        differences = [float((a - b).abs().max()) for a, b in zip(*parts, strict=True)]
    values: dict[str, Any] = {
        "steps": steps,
        "run_seconds": seconds,
        "largest_difference": max(differences),
    }
    if device.type == "cpu":
        passed = max(differences) == 0
        values["checks"] = {"killed and resumed equals uninterrupted": {"passed": passed}}
    return values


def _write_noise_corpus(folder: Path) -> None:
    """Four recordings of noise in syllables."""
    import numpy as np
    import soundfile

    folder.mkdir(parents=True)
    for i in range(4):
        draw = np.random.default_rng(i)
        envelope = np.sin(np.arange(32000) / 3200) ** 2
        soundfile.write(folder / f"{i}.wav", 0.1 * envelope * draw.normal(size=32000), 16000)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:5])} failed: {done.stderr.strip()[-400:]}")


def _run_until_half(command: list[str], checkpoints: Path) -> None:
    """Run a command and kill it as soon as it has written a checkpoint."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while run.poll() is None and not any(checkpoints.glob("*.ckpt")):
            time.sleep(0.02)
        run.kill()


def _weights(folder: Path) -> list[Tensor]:
    state: dict[str, Tensor] = wavenet.load(folder).state_dict()
    return list(state.values())


PARTS: dict[str, Part] = {
    "blocks": Part("Blocks: chunks equal the whole", 20, blocks),
    "training_window": Part("Training window against stream", 20, training_window),
    "engines": Part("Engines against stream", 60, engines),
    "ceilings": Part("Ceilings of the device", 20, ceilings),
    "sampling_nv": Part("Sampling, preset nv", 60, lambda d: sampling(d, "nv")),
    "sampling_medium": Part("Sampling, preset medium", 60, lambda d: sampling(d, "medium")),
    "sampling_voice": Part(f"Sampling, {DEFAULT_VOICE}", 60, lambda d: sampling(d, DEFAULT_VOICE)),
    "memory": Part("Memory of sampling", 30, memory),
    "training": Part("Training step", 60, training),
    "resumed_training": Part("Training, interrupted and resumed", 90, resumed_training),
}
"""In the order in which they run."""


def main(arguments: list[str] | None = None) -> int:
    """Run one part and print its values as one line of JSON."""
    parser = argparse.ArgumentParser(prog="wavenet.benchmark.doctor.parts")
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("device")
    options = parser.parse_args(arguments)
    try:
        values = PARTS[options.name].measure(torch.device(options.device))
    except (Missing, ModuleNotFoundError) as error:
        values = {"missing": str(error)}
    json.dump(values, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
