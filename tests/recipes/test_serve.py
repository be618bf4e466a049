"""recipes/serve: requests become wavs as they end, each as if it had been alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

import wavenet


@pytest.fixture
def serve(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = repository / "recipes" / "serve" / "serve.py"
    spec = importlib.util.spec_from_file_location("serve", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "serve", module)  # where dataclasses look for their types
    spec.loader.exec_module(module)
    return module


def test_requests_become_wavs_as_they_end(
    serve: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 8, "skip_channels": 8}
    config = wavenet.WaveNetConfig.preset("medium", distribution="gaussian", **sizes)
    model = wavenet.WaveNet(config).eval()
    model.save(tmp_path / "model")
    draw, lengths = np.random.default_rng(0), [3000, 800, 1700]
    for i, n in enumerate(lengths):
        soundfile.write(tmp_path / f"{i}.flac", 0.1 * draw.normal(size=n), 16000)
    out = tmp_path / "out"
    arguments = f"--model {tmp_path}/model --from {tmp_path} --out {out} --rows 2 --every 0.01"
    monkeypatch.setattr(sys, "argv", ["serve.py", *arguments.split(), "--engine", "eager"])
    serve.main()
    assert "times real time" in capsys.readouterr().out
    for i in range(3):
        audio, _ = soundfile.read(tmp_path / f"{i}.flac", dtype="float32")
        mel = wavenet.log_mel(torch.from_numpy(audio), model.config.mel, model.mel_filterbank)
        alone = wavenet.generate(model, mel=mel, seed=i, engine="eager")
        spoken, rate = soundfile.read(out / f"{i}.wav", dtype="float32")
        assert rate == 16000
        assert spoken.shape == alone[0].shape
        # A batch rounds otherwise than a row, and a value may fall on the next 16-bit step.
        assert (torch.from_numpy(spoken) - alone[0]).abs().max() < 4 / 32768
