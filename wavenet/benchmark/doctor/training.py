"""Parts of ``wavenet doctor`` that train: speed of a step, and a run that is killed and resumed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wavenet
from wavenet.benchmark.doctor.part import Values, attempt, is_short, require
from wavenet.storage.pretrained import DEFAULT_VOICE

WINDOWS = (32, 16, 8, 4)
"""Batches of a training step: the first for which the memory of the device is enough."""


def training(device: torch.device) -> Iterator[Values]:
    """Samples a second of a training step, with ``torch.compile`` and without."""
    require("lightning", "jsonargparse")  # the defaults of training are read from its settings
    preset, window_s = ("tiny", 0.1) if is_short(device) else ("medium", 1.0)
    rows: list[Values] = []
    failures: dict[str, Values] = {}
    for compiled in (False,) if is_short(device) else (False, True):
        found = attempt(partial(_step, device, preset, window_s, compiled))
        if "samples_per_second" in found:
            rows.append(found)
        else:
            failures["with torch.compile" if compiled else "without torch.compile"] = found
        yield {
            "rows": rows,
            "checks": failures,
            "preset": preset,
            "precision": _precision(device),
            "window_s": window_s,
        }


def _step(device: torch.device, preset: str, window_s: float, compiled: bool) -> Values:
    """Measure a step with the largest batch that the memory allows."""
    batches = (1,) if is_short(device) else WINDOWS
    for batch in batches:
        try:
            return _step_of(device, preset, window_s, compiled, batch)
        except torch.OutOfMemoryError:
            if batch == batches[-1]:
                raise
        torch.cuda.empty_cache()
    raise AssertionError


def _step_of(
    device: torch.device, preset: str, window_s: float, compiled: bool, batch: int
) -> Values:
    from wavenet.benchmark.training_speed import TrainingStep, measure_training

    speed = measure_training(
        wavenet.WaveNetConfig.preset(preset),
        TrainingStep(_precision(device), window_s, batch, compiled=compiled),
        rounds=2 if is_short(device) else 5,
        device=str(device),
    )
    return {
        "compile": compiled,
        "batch_size": batch,
        "samples_per_second": speed.samples_per_second.median,
        "plain_samples_per_second": speed.plain.median,
        "peak_bytes": speed.peak_bytes,
    }


def _precision(device: torch.device) -> str:
    """Return bf16, or 32 on a CPU without instructions for it, which would take minutes."""
    has_none = device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "32" if has_none else "bf16"


def resumed_training(device: torch.device) -> Iterator[Values]:
    """A run from the shipped voice that is killed at its half and resumed, beside one that is not.

    On a CPU both end with the same weights, bit for bit; on a GPU the difference is reported.
    """
    require("lightning", "jsonargparse", "soundfile")
    steps, batch = (4, 1) if is_short(device) else (200, 16)
    with tempfile.TemporaryDirectory() as folder:
        _write_noise_corpus(Path(folder) / "corpus" / "en")
        command = [
            *(sys.executable, "-m", "wavenet", "train", "--from", DEFAULT_VOICE),
            f"--corpus={folder}/corpus",
            "--speakers-by-folder=true",
            f"--window-s={0.1 if is_short(device) else 0.4}",
            f"--batch-size={batch}",
            f"--max-steps={steps}",
            f"--checkpoint-every={steps // 2}",
            "--validation-windows=1",
            "--listen-every=0",
            f"--cache={folder}/cache",
            *_trainer_arguments(device),
        ]
        whole, halved = Path(folder) / "whole", Path(folder) / "halved"
        begin = time.perf_counter()
        uninterrupted = _Run([*command, f"--out={whole}"], Path(folder) / "whole.log")
        try:
            if not is_short(device):  # elsewhere the two runs share the cores
                uninterrupted.wait()
            values: Values = {"steps": steps, "run_seconds": time.perf_counter() - begin}
            yield values
            command.append(f"--out={halved}")
            half = _Run(command, Path(folder) / "half.log")
            half.kill_after_checkpoint(halved / "checkpoints")
            _Run([*command, "--resume"], Path(folder) / "resumed.log").wait()
            uninterrupted.wait()
        finally:
            uninterrupted.kill()
        parts = [_weights(out / "model") for out in (whole, halved)]
        differences = [float((a - b).abs().max()) for a, b in zip(*parts, strict=True)]
    values["largest_difference"] = max(differences)
    if device.type == "cpu":
        passed = max(differences) == 0
        values["checks"] = {"killed and resumed equals uninterrupted": {"passed": passed}}
    yield values


def _trainer_arguments(device: torch.device) -> list[str]:
    """Arguments of ``wavenet train`` for one device."""
    if is_short(device):
        return ["--trainer.accelerator=cpu", "--trainer.devices=1"]
    devices: Any = 1 if device.index is None else [device.index]
    return [
        "--trainer.accelerator=gpu",
        f"--trainer.devices={devices}",
        "--trainer.precision=bf16-mixed",
    ]


def _write_noise_corpus(folder: Path) -> None:
    """Four recordings of noise in syllables."""
    import numpy as np
    import soundfile

    folder.mkdir(parents=True)
    for i in range(4):
        draw = np.random.default_rng(i)
        envelope = np.sin(np.arange(32000) / 3200) ** 2
        soundfile.write(folder / f"{i}.wav", 0.1 * envelope * draw.normal(size=32000), 16000)


class _Run:
    """A command in a process of its own; the file ``log`` has its output."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log = command, log
        with open(log, "w") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file)

    def wait(self) -> None:
        """Wait for its end; raise RuntimeError with its last lines if it fails."""
        if self._process.wait():
            output = self._log.read_text(errors="replace").strip()[-400:]
            raise RuntimeError(f"{' '.join(self._command[1:5])} failed: {output}")

    def kill_after_checkpoint(self, folder: Path) -> None:
        """Kill it as soon as it has written a checkpoint."""
        while self._process.poll() is None and not any(folder.glob("*.ckpt")):
            time.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self._process.wait()


def _weights(folder: Path) -> list[Tensor]:
    state: dict[str, Tensor] = wavenet.load(folder).state_dict()
    return list(state.values())
