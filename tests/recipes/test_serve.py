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


def save_model(folder: Path) -> wavenet.WaveNet:
    sizes = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 8, "skip_channels": 8}
    config = wavenet.WaveNetConfig.preset("medium", distribution="gaussian", **sizes)
    model = wavenet.WaveNet(config).eval()
    model.save(folder)
    return model


def test_requests_become_wavs_as_they_end(
    serve: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = save_model(tmp_path / "model")
    (tmp_path / "in").mkdir()
    draw, lengths = np.random.default_rng(0), [3000, 800, 1700]
    for i, n in enumerate(lengths):
        soundfile.write(tmp_path / "in" / f"{i}.flac", 0.1 * draw.normal(size=n), 16000)
    out = tmp_path / "out"
    arguments = f"--model {tmp_path}/model --from {tmp_path}/in --out {out} --rows 2 --every 0.01"
    monkeypatch.setattr(sys, "argv", ["serve.py", *arguments.split(), "--engine", "eager"])
    serve.main()
    assert "times real time" in capsys.readouterr().out
    for i in range(3):
        audio, _ = soundfile.read(tmp_path / "in" / f"{i}.flac", dtype="float32")
        mel = wavenet.log_mel(torch.from_numpy(audio), model.config.mel, model.mel_filterbank)
        alone = wavenet.generate(model, mel=mel, seed=i, engine="eager")
        spoken, rate = soundfile.read(out / f"{i}.wav", dtype="float32")
        assert rate == 16000
        assert spoken.shape == alone[0].shape
        # A batch rounds otherwise than a row, and a value may fall on the next 16-bit step.
        assert (torch.from_numpy(spoken) - alone[0]).abs().max() < 4 / 32768


def test_a_bad_request_ends_no_other_and_equal_names_keep_apart(
    serve: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_model(tmp_path / "model")
    noise = 0.1 * np.random.default_rng(0).normal(size=900)
    for name in ("a/x.flac", "b/x.flac", "b/x.wav", "c/y.wav", "d/z.wav", "._a.flac"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "in" / name, noise, 16000)
    (tmp_path / "in" / "c" / "y.wav").write_text("no sound")
    out = tmp_path / "in" / "out"
    out.mkdir()
    (out / "d").write_text("a file where a folder should be")
    arguments = f"--model {tmp_path}/model --from {tmp_path}/in --out {out} --every 0"
    monkeypatch.setattr(sys, "argv", ["serve.py", *arguments.split(), "--engine", "eager"])
    with pytest.raises(SystemExit) as ended:
        serve.main()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("refused: ") for line in lines)
    for part in ("x.wav is already that of another", "y.wav: not an audio file", "z.wav: nothing"):
        assert sum(part in line for line in lines) == 1, part
    assert len(lines) == 3
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.wav")) == [
        "a/x.wav",
        "b/x.wav",
    ]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--requests=-1", "--requests=-1 must be at least 1"),
        ("--every=nan", "--every=nan must be a number of seconds"),
        ("--every=-1", "--every=-1 must be a number of seconds"),
        ("--rows=1_0", "invalid int value: '1_0'"),
    ],
)
def test_a_wrong_option_is_one_line(
    serve: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve.py", "--model", "m", "--from", "in", option])
    with pytest.raises(SystemExit) as ended:
        serve.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
