"""Parts of ``wavenet doctor`` that train: speed of a step, and a run that is killed and resumed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wavenet
from wavenet.benchmark.doctor.part import is_short, require
from wavenet.storage.pretrained import DEFAULT_VOICE


def training(device: torch.device) -> dict[str, Any]:
    """Samples a second of a training step in bfloat16, with ``torch.compile`` and without."""
    require("lightning", "jsonargparse")  # the defaults of training are read from its settings
    from wavenet.benchmark.training_speed import measure_training

    preset, window_s, batch = ("tiny", 0.1, 1) if is_short(device) else ("medium", 1.0, 32)
    rows = []
    for compiled in (False, True):
        if compiled and is_short(device):
            continue
        speed = measure_training(
            wavenet.WaveNetConfig.preset(preset),
            precision="bf16",
            window_s=window_s,
            batch_size=batch,
            rounds=2 if is_short(device) else 5,
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
    require("lightning", "jsonargparse", "soundfile")
    steps, batch = (4, 1) if is_short(device) else (400, 16)
    with tempfile.TemporaryDirectory() as folder:
        _write_noise_corpus(Path(folder) / "corpus" / "en")
        command = [
            *(sys.executable, "-m", "wavenet", "train", "--from", DEFAULT_VOICE),
            f"--corpus={folder}/corpus",
            "--speakers_by_folder=true",
            f"--window_s={0.1 if is_short(device) else 0.4}",
            f"--batch_size={batch}",
            f"--max_steps={steps}",
            f"--checkpoint_every={steps // 2}",
            "--validation_windows=1",
            "--listen_every=0",
            f"--cache={folder}/cache",
            f"--trainer.accelerator={'cpu' if device.type == 'cpu' else 'gpu'}",
            "--trainer.devices=1",
            *(() if is_short(device) else ("--trainer.precision=bf16-mixed",)),
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
