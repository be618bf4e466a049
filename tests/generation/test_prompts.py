"""A prompt taken in piece by piece leads to where the whole prompt leads, in flat memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet import FeatureConfig, WaveNet, WaveNetConfig
from wavenet.generation import GenerationState, Prompt, prompts
from wavenet.generation.prompts import process_prompt
from wavenet.nn import flatten_state

SMALL = {"layers_per_stack": 4, "stacks": 2, "residual_channels": 8, "skip_channels": 8}
MEL = {"sample_rate": 8000, "n_fft": 64, "win_samples": 40, "hop_samples": 6, "n_mels": 5}
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "speakers": {"speakers": 3},
    "features": {"features": FeatureConfig(channels=3, hop_samples=5)},
    "mel with a predictor": {
        "mel": {**MEL, "f_max_hz": 4000.0},
        "linear_prediction": 4,
        "distribution": "gaussian",
    },
}


def build(name: str) -> WaveNet:
    given = {"sample_rate": 8000, **SMALL, **CONFIGS[name]}
    if "features" in given:
        model = WaveNet(WaveNetConfig(**given))
    else:
        model = WaveNet(WaveNetConfig.from_dict(given))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model.double().eval()


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("length", [1, 30, 61, 100, 140])
def test_pieces_lead_to_where_the_whole_leads(
    name: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompt = build(name), torch.rand(length).double() * 1.6 - 0.8
    mel = None if model.config.local is None else torch.randn(1, model.config.local.channels, 40)
    speaker = torch.tensor([1]) if model.config.speakers else None
    with torch.inference_mode():
        frames = model.condition_frames(None if mel is None else mel.double(), speaker)
        given = None if frames is None else frames[0]
        params, state = process_prompt(model, given, Prompt.of(prompt))
        monkeypatch.setattr(prompts, "PIECE_SAMPLES", 20)
        in_pieces = process_prompt(model, given, Prompt(length, lambda: prompt.split(7)))
        again = process_prompt(model, given, Prompt(length, lambda: prompt.split(33)))
    torch.testing.assert_close(in_pieces[0], params, rtol=1e-9, atol=1e-9)
    found = zip(*map(flatten_state, (in_pieces[1], state, again[1])), strict=True)
    for part, whole, other in found:
        torch.testing.assert_close(part, whole, rtol=1e-9, atol=1e-9)
        assert torch.equal(part, other)  # whatever the pieces that it came in


def test_a_prompt_in_pieces_is_carried_on_as_its_samples_are() -> None:
    model, samples = build("plain"), torch.rand(10_000) - 0.5
    prompt = Prompt(len(samples), lambda: samples.split(999))
    expected = wavenet.generate(model, n_samples=30, prime=samples, seed=1, batch_size=2)
    found = wavenet.generate(model, n_samples=30, prime=prompt, seed=1, batch_size=2)
    assert torch.equal(found, expected)
    with pytest.raises(ValueError, match="the prompt gave 10000 samples, not its n_samples=9999"):
        wavenet.generate(model, n_samples=3, prime=Prompt(9999, lambda: (samples,)))


def test_a_column_of_samples_is_no_batch_of_rows() -> None:
    model = build("plain")
    with pytest.raises(ValueError, match=r"prime has shape \(40, 1\): 40 rows of one sample"):
        wavenet.generate(model, n_samples=3, prime=torch.zeros(40, 1))
    assert wavenet.generate(model, n_samples=3, prime=torch.zeros(4, 1, 1)).shape == (4, 3)
    assert wavenet.generate(model, n_samples=3, prime=torch.zeros(1, 1)).shape == (1, 3)


def test_sizes_may_be_numpys() -> None:
    model = build("plain")
    given = {"n_samples": np.int64(9), "batch_size": np.int32(2), "seed": np.uint8(3)}
    found = list(wavenet.stream(model, chunk_samples=np.int16(5), **given))  # type: ignore[arg-type]
    assert [chunk.shape for chunk in found] == [(2, 5), (2, 4)]
    with pytest.raises(ValueError, match="batch_size=True must be an integer of at least 1"):
        wavenet.generate(model, n_samples=3, batch_size=True)


def test_a_state_after_a_prompt_has_the_time_of_a_beginning() -> None:
    model = build("plain")
    with torch.inference_mode():
        state = GenerationState.after(*process_prompt(model, None, Prompt.of(torch.zeros(9))))
    assert state.time.tolist() == [0]


GROWTH = """
import sys
from peak_memory import peak_kib
from wavenet.cli.main import main

model, short, long = sys.argv[1:]
options = ["--model", model, "--engine", "cpu"]
assert main(["generate", "a.wav", "--prime", short, "--seconds", "2", *options]) == 0
before = peak_kib()
assert main(["generate", "a.wav", "--prime", long, "--seconds", "2", *options]) == 0
assert main(["generate", "a.wav", "--seconds", "120", *options]) == 0
print((peak_kib() - before) / 1024)
"""


@pytest.mark.slow
def test_memory_grows_neither_with_the_prompt_nor_with_what_is_made(tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    build("plain").float().save(tmp_path / "model")
    noise = np.random.default_rng(0).normal(0, 0.1, 120 * 8000)
    soundfile.write(tmp_path / "short.wav", noise[:80_000], 8000)
    soundfile.write(tmp_path / "long.wav", noise, 8000)
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, "model", "short.wav", "long.wav"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert float(done.stdout.splitlines()[-1]) < 30  # MB; the prompt in one piece took 1200
