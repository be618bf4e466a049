"""Exported programs compute what ``stream`` computes, whatever the chunks and the batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from configurations import each_configuration, make_model, some_conditioning
from torch import Tensor

from wavenet import WaveNet
from wavenet.cli.main import main
from wavenet.interop.programs import read_exported
from wavenet.nn import flatten_state

FLOAT32_ERROR = 1e-5
"""Of params of size 1: two orders of the sums of a few layers."""

Step = Callable[[Tensor, Tensor | None, list[Tensor]], list[Tensor]]
Condition = Callable[[dict[str, Tensor]], Tensor]


def saved_model(folder: Path, name: str) -> WaveNet:
    model = make_model(name)
    model.save(folder)
    return model


@torch.no_grad()
def compare(model: WaveNet, step: Step, condition: Condition | None) -> None:
    """Two rows, then one, then five, chunk by chunk from 1 sample on, against ``stream``."""
    for rows, n_frames in ((2, 5), (1, 40), (5, 6)):
        features, speaker = some_conditioning(model.config, rows, n_frames)[0]
        given = {"features": features, "speaker": speaker}
        given = {name: part for name, part in given.items() if part is not None}
        cond = model.condition(features, speaker)
        assert (cond is None) == (condition is None)
        if cond is not None and condition is not None:
            own = condition(given)
            assert own.shape == cond.shape
            assert float((own - cond).abs().max()) < FLOAT32_ERROR
        n_samples, at = 40 if features is None else cond.shape[-1], 0
        x = torch.rand(rows, 1, n_samples) * 2 - 1
        state = model.init_state(rows)
        states = [part for part in flatten_state(state) if part.shape[-1]]
        for n in (1, 2, 1, n_samples - 4):
            column = cond
            if cond is not None and features is not None:
                column = cond[..., at : at + n]
            expected, state = model.stream(x[..., at : at + n], state, column)
            if not expected.numel():
                continue
            params, *states = step(x[..., at : at + n], column, states)
            assert params.shape == expected.shape
            assert float((params - expected).abs().max()) < FLOAT32_ERROR
            at += n
        expected_states = [part for part in flatten_state(state) if part.shape[-1]]
        for found, part in zip(states, expected_states, strict=True):
            assert float((found - part).abs().max()) < FLOAT32_ERROR


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
@each_configuration
def test_a_torch_program_is_stream(name: str, tmp_path: Path) -> None:
    model = saved_model(tmp_path / "model", name)
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out.pt2")]) == 0
    extra = {"config.json": ""}
    step = torch.export.load(tmp_path / "out.pt2", extra_files=extra).module()
    assert json.loads(extra["config.json"])["config"] == model.config.to_dict()
    path = tmp_path / "out.condition.pt2"
    assert path.exists() == (model.cond_channels is not None)
    if not path.exists():
        compare(model, lambda x, cond, states: step(x, cond, *states), None)
        return
    second = torch.export.load(path).module()
    compare(
        model,
        lambda x, cond, states: step(x, cond, *states),
        lambda given: second(given.get("features"), given.get("speaker")),
    )
    names = {key.split(".")[1] for key in torch.export.load(path).state_dict}
    assert not names & {"stack", "head", "input_projection"}  # its own weights alone


@pytest.mark.slow
@each_configuration
def test_an_onnx_file_in_onnxruntime_is_stream(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    model = saved_model(tmp_path / "model", name)
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out.onnx")]) == 0
    session = runtime.InferenceSession(tmp_path / "out.onnx")
    inputs = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    conditional = model.cond_channels is not None
    parts = [part for part in flatten_state(model.init_state(1)) if part.shape[-1]]
    states = [f"state_{i:02}" for i in range(len(parts))]
    assert inputs == ["audio", *["conditioning"] * conditional, *states]
    assert outputs == ["params", *(f"next_{state}" for state in states)]
    assert session.get_inputs()[0].shape == ["batch", 1, "time"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["config"])["config"] == model.config.to_dict()
    assert metadata["past"] == str(model.past)
    assert metadata["sample_rate"] == "2000"

    def step(x: Tensor, cond: Tensor | None, before: list[Tensor]) -> list[Tensor]:
        given = [x, *([] if cond is None else [cond]), *before]
        feeds = {key: part.numpy() for key, part in zip(inputs, given, strict=True)}
        return [torch.from_numpy(np.array(part)) for part in session.run(None, feeds)]

    path = tmp_path / "out.condition.onnx"
    assert path.exists() == conditional
    if not conditional:
        compare(model, step, None)
        return
    second = runtime.InferenceSession(path)

    def condition(given: dict[str, Tensor]) -> Tensor:
        return torch.from_numpy(second.run(None, {k: v.numpy() for k, v in given.items()})[0])

    compare(model, step, condition)


def test_a_missing_package_or_suffix_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved_model(tmp_path / "model", "classes")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out.onnx")]) == 2
    message = "wavenet export: exporting to ONNX needs onnx; pip install 'wavenet-audio[onnx]'\n"
    assert capsys.readouterr().err == message
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out.h5")]) == 2
    assert "ends in .h5; name a file that ends in .nam, .onnx, .pt2" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@each_configuration
def test_silence_from_zeros_leads_to_where_generation_begins(name: str, tmp_path: Path) -> None:
    model = saved_model(tmp_path / "model", name)
    features, speaker = some_conditioning(model.config, 1, 1)[0]
    cond = model.condition(features, speaker)
    first = None if cond is None else cond[..., :1]
    silence = torch.zeros(1, 1, read_exported(tmp_path / "model")[1]["silence"])
    params, state = model.stream(silence, model.init_state(1), first)
    expected, settled = model.after_silence(first)
    assert torch.allclose(params[..., -1:], expected, atol=1e-5)
    for found, after in zip(flatten_state(state), flatten_state(settled), strict=True):
        assert torch.allclose(found, after, atol=1e-5)
