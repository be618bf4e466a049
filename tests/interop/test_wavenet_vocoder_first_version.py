"""Checkpoints of wavenet_vocoder 0.1 compute here what its own code computed.

``data/`` was made by the package wavenet_vocoder 0.1.1 (make_wavenet_vocoder_golden.py).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import wavenet
from wavenet.cli.main import main
from wavenet.distributions import mu_law_decode
from wavenet.interop.wavenet_vocoder import import_checkpoint
from wavenet.interop.wavenet_vocoder_settings import read_layout
from wavenet.storage.checkpoint import CheckpointError

HERE = Path(__file__).parent
GOLDEN = HERE / "data" / "wavenet_vocoder_golden.safetensors"
SETTINGS: dict[str, dict[str, Any]] = json.loads(
    (HERE / "data" / "wavenet_vocoder_golden.json").read_text()
)
FLOAT32_ERROR = 1e-5
"""Of params of size 1 or so: two orders of the sums of a few layers."""
PRESETS = ("ljspeech_mixture", "multispeaker_cmu_arctic_mixture", "cmu_arctic_8bit")


def tensors_of(name: str) -> dict[str, torch.Tensor]:
    """The golden tensors of one variant, without its name."""
    prefix = f"{name}/"
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in load_file(GOLDEN).items()
        if key.startswith(prefix)
    }


def write(folder: Path, name: str, **changes: Any) -> Path:
    """Write a checkpoint and its settings as the package's training did; return its path."""
    weights = {
        key.removeprefix("state_dict."): tensor
        for key, tensor in tensors_of(name).items()
        if key.startswith("state_dict.")
    }
    (folder / "hparams.json").write_text(json.dumps(SETTINGS[name] | changes))
    path = folder / "checkpoint_step000001000_ema.pth"
    torch.save({"state_dict": weights, "optimizer": None, "global_step": 1000}, path)
    return path


def test_the_answers_are_of_the_version_that_the_script_names() -> None:
    with safe_open(GOLDEN, "pt") as file:
        assert file.metadata() == {"wavenet_vocoder": "0.1.1"}
    assert "wavenet_vocoder==0.1.1" in (HERE / "make_wavenet_vocoder_golden.py").read_text()
    assert SETTINGS.keys() > set(PRESETS)


@pytest.mark.parametrize("name", SETTINGS)
@torch.no_grad()
def test_an_imported_model_has_the_params_of_the_package(name: str, tmp_path: Path) -> None:
    model = import_checkpoint(write(tmp_path, name))
    given = tensors_of(name)
    if "code" in given:
        audio = mu_law_decode(given["code"], SETTINGS[name]["out_channels"])[:, None]
    else:
        audio = given["audio"]
    assert float(given["params"].std()) > 0.1
    cond = model.condition(given.get("features"), given.get("speaker"))
    params, _ = model.stream(audio, model.init_state(2), cond)  # theirs begins from zeros as well
    assert float((params - given["params"]).abs().max()) < FLOAT32_ERROR


def test_the_command_imports_it_and_the_folder_generates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "multispeaker_cmu_arctic_mixture"
    path = write(tmp_path, name)
    assert main(["import", str(path), str(tmp_path / "model")]) == 0
    assert "parameters from r9y9/wavenet_vocoder" in capsys.readouterr().out
    model = wavenet.load(tmp_path / "model")
    assert isinstance(model, wavenet.WaveNet)
    assert (model.sample_rate, model.config.speakers, model.context_frames) == (16000, 7, 0)
    features = tensors_of(name)["features"][0]
    audio = wavenet.generate(model, mel=features, speaker=6, seed=0, engine="eager")
    assert audio.shape[-1] == features.shape[-1] * 12
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    assert content["provenance"]["hparams"]["dropout"] == 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"legacy": 1}, "legacy is 1; expected true or false"),
        ({"hop_size": 256}, "hop_size is 256; upsample_scales multiply to 12"),
        ({"upsample_scales": None}, "upsample_scales is None; expected a list of integers"),
        ({"freq_axis_kernel_size": 2}, "band_kernel_size=2 must be odd"),
        ({"freq_axis_kernel_size": 5}, "upsample_conv.0.weight has shape (1, 1, 3, 3), but"),
        ({"upsample_params": {}}, "upsample_params is {}; it is a setting of version 0.2"),
        ({"gin_channels": 3}, "lacks the tensor"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, "ljspeech_mixture", **changes)
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_published_presets_are_read_with_their_dilations_and_hop(tmp_path: Path) -> None:
    path = tmp_path / "hparams.json"
    published = {"hop_size": 256, "upsample_scales": [4, 4, 4, 4], "cin_channels": 80}
    sizes = {"layers": 24, "stacks": 4, "residual_channels": 512, "gate_channels": 512}
    path.write_text(json.dumps(SETTINGS["ljspeech_mixture"] | published | sizes))
    layout = read_layout(path)
    assert layout.config.dilations == (1, 2, 4, 8, 16, 32) * 4
    assert layout.config.features is not None
    assert layout.config.features.hop_samples == 256
    factors = layout.skip_factors()
    assert factors[0] == factors[1] == 2**-11.5
    assert factors[-1] == 0.5**0.5
