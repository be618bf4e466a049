"""A type checker sees the classes of the package in a user's script, and no name of type Any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wavenet

SCRIPT = """
from typing import assert_type

import torch
import wavenet
from torch import Tensor
from wavenet.audio import read_audio
from wavenet.generation import GenerationState
from wavenet.nn import State

config = wavenet.WaveNetConfig.preset("tiny")
assert_type(config, wavenet.WaveNetConfig)
model = wavenet.WaveNet(config)
assert_type(model, wavenet.WaveNet)
assert_type(model.past, int)
assert_type(wavenet.log_mel(torch.randn(16000), wavenet.MelConfig()), Tensor)
assert_type(read_audio("a.wav"), tuple[Tensor, int])
assert_type(wavenet.receptive_field(model), wavenet.ReceptiveField)
assert_type(wavenet.refine(torch.randn(9), torch.randn(80, 1), wavenet.MelConfig()), Tensor)
assert_type(wavenet.generate(model, duration_s=1.0), Tensor)
samples, state = wavenet.generate(model, duration_s=1.0, seed=1, return_state=True)
assert_type(samples, Tensor)
assert_type(state, GenerationState)
for part in wavenet.stream(model, duration_s=1.0):
    assert_type(part, Tensor)
conv = wavenet.CausalConv1d(1, 4, 3)
assert_type(conv.init_state(1), State)
"""


@pytest.mark.slow
def test_a_strict_script_sees_the_types_of_the_package(tmp_path: Path, repository: Path) -> None:
    listed = "".join(f"reveal_type(wavenet.{name})\n" for name in wavenet.__all__)
    (tmp_path / "script.py").write_text(SCRIPT + listed)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            "--follow-imports=silent",
            "script.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(repository), "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    told = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    assert len(told) == len(wavenet.__all__)
    assert not [line for line in told if line.endswith('is "Any"')]
