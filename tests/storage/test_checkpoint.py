"""A checkpoint says everything that its sound depends on, and loads whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import wavenet
from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig
from wavenet.cli.main import main
from wavenet.features import mel_filterbank
from wavenet.storage.checkpoint import CheckpointError
from wavenet.storage.files import WriteError

MEL = MelConfig(n_fft=64, win_samples=32, hop_samples=8, n_mels=5)
SMALL: dict[str, Any] = {
    "layers_per_stack": 2,
    "stacks": 2,
    "residual_channels": 4,
    "skip_channels": 6,
}
Limit = Callable[[int], AbstractContextManager[None]]

CONFIG = WaveNetConfig(**SMALL, mel=MEL, speakers=2, speaker_names=("ann", "bob"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of CONFIG."""
    WaveNet(CONFIG).save(tmp_path / "model", provenance={"corpus": "toy", "steps": 3})
    return tmp_path / "model"


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json: those of the model's settings, or the outer ones that exist."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    for key, value in changes.items():
        (content if key in content else content["config"])[key] = value
    path.write_text(json.dumps(content))


def refusal(folder: Path, **options: Any) -> str:
    """The one line that `load` says."""
    with pytest.raises(CheckpointError) as caught:
        wavenet.load(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the round trip -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        WaveNetConfig(**SMALL, distribution="logistic_mixture", distribution_size=3),
        WaveNetConfig(**SMALL, distribution="gaussian", kernel_size=3, gate_channels=6),
        WaveNetConfig(
            **SMALL,
            sample_rate=8000,
            distribution="gaussian_mixture",
            features=FeatureConfig(channels=3, hop_samples=4),
            cond_channels=5,
        ),
    ],
    ids=lambda config: config.distribution,
)
def test_a_loaded_model_is_the_saved_one_bit_for_bit(tmp_path: Path, config: WaveNetConfig) -> None:
    model = WaveNet(config)
    model.save(tmp_path)
    loaded = wavenet.load(tmp_path)
    assert loaded.config == config
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    local = config.local
    given = {
        "mel": None if local is None else torch.randn(2, local.channels, 8),
        "speaker": torch.tensor([0, 1]) if config.speakers else None,
    }
    x = torch.rand(2, 1, 16)
    assert torch.equal(loaded(x, **given), model.eval()(x, **given))


def test_a_checkpoint_is_two_files_without_a_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "config.json").read_bytes().startswith(b"{")
    header_bytes = (folder / "model.safetensors").read_bytes()[8:9]
    assert header_bytes == b"{"  # safetensors: a length, then JSON


def test_the_config_has_format_architecture_settings_and_provenance(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    assert list(content) == ["format_version", "architecture", "config", "provenance"]
    assert (content["format_version"], content["architecture"]) == (1, "wavenet")
    assert content["config"] == CONFIG.to_dict()
    assert content["config"]["sample_rate"] == 16000
    assert content["config"]["distribution"] == "mu_law"
    assert content["config"]["mel"] == MEL.to_dict()
    assert content["config"]["speaker_names"] == ["ann", "bob"]


def test_provenance_is_kept_and_the_library_versions_are_added(folder: Path) -> None:
    provenance = json.loads((folder / "config.json").read_text())["provenance"]
    versions = provenance.pop("versions")
    assert provenance == {"corpus": "toy", "steps": 3}
    assert versions["torch"] == torch.__version__
    assert versions["wavenet"]


def test_the_mel_filterbank_is_kept_with_the_weights_and_read_from_there(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    assert torch.equal(tensors["mel_filterbank"], mel_filterbank(MEL))
    tensors["mel_filterbank"] *= 2
    save_file(tensors, path)
    assert torch.equal(wavenet.load(folder).mel_filterbank, 2 * mel_filterbank(MEL))


def test_a_model_in_another_type_is_saved_exactly(tmp_path: Path) -> None:
    model = WaveNet(CONFIG).bfloat16()
    model.save(tmp_path)
    for name, value in wavenet.load(tmp_path).state_dict().items():
        assert torch.equal(value, model.state_dict()[name].float())


def test_what_the_checkpoint_fits_is_accepted(folder: Path) -> None:
    assert wavenet.load(folder, sample_rate=16000, mel=MEL).config == CONFIG
    assert wavenet.load(str(folder), device=torch.device("cpu")).config == CONFIG


# --- damage -------------------------------------------------------------------------------------


def test_the_errors_of_missing_and_damaged_checkpoints_differ(folder: Path, tmp_path: Path) -> None:
    remedy = "holds no config.json; name the folder that model.save or training wrote"
    for nothing in (tmp_path / "nowhere", tmp_path, folder / "config.json"):
        assert refusal(nothing) == f"{nothing} {remedy}"
    (folder / "model.safetensors").unlink()
    path = folder / "model.safetensors"
    assert refusal(folder) == f"{path} is missing; the checkpoint is incomplete"


def test_a_config_that_is_no_json_is_refused_wherever_it_ends(folder: Path) -> None:
    path = folder / "config.json"
    whole = path.read_bytes()
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        assert "config.json cannot be read: " in refusal(folder)
    path.write_bytes(b"\xff\xfe" + whole)
    assert "config.json cannot be read: " in refusal(folder)


@pytest.mark.parametrize("content", ["[]", "3", "null", '{"model_type": "bert"}'])
def test_the_config_of_another_program_is_refused(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "holds no model configuration; is it another program's?" in refusal(folder)


def test_weights_that_are_cut_short_are_refused_wherever_they_end(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "model.safetensors cannot be read: " in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "has format_version 2, this package reads 1; update the package"),
        ({"format_version": None}, "has format_version None, this package reads 1"),
        ({"architecture": "lstm"}, "has architecture 'lstm', expected 'wavenet'"),
        ({"config": None}, "lacks the model's config; the checkpoint is damaged"),
        ({"residual_chanels": 4}, "model.residual_chanels is unknown; did you mean residual_chan"),
        ({"stacks": "two"}, "model.stacks is 'two', expected int"),
        ({"gate_channels": 5}, "gate_channels=5 must be even"),
        ({"distribution": "poisson"}, "unknown distribution 'poisson'"),
        ({"mel": {"hops": 3}}, "model.mel.hops is unknown"),
        ({"mel": MEL.to_dict() | {"version": 9}}, "mel version is 9, this package knows version 1"),
        ({"mel": MEL.to_dict() | {"n_mels": "5"}}, "model.mel.n_mels is '5', expected int"),
    ],
)
def test_a_config_that_this_package_does_not_know_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    edit_config(folder, **changes)
    assert message in refusal(folder)
    assert str(folder) in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual_channels": 8}, "has shape .* but the configuration asks for"),
        ({"stacks": 3}, r"lacks the tensor stack.blocks.4\S* that the configuration asks for"),
        ({"stacks": 1}, r"has a tensor stack.blocks.2\S* that the configuration has not"),
        ({"speakers": 0, "speaker_names": []}, "has a tensor speaker_embedding.table.weight that"),
        ({"mel": None}, "has a tensor frame_encoder"),
        ({"distribution_size": 128}, r"head.3.bias has shape \(256,\), .* asks for \(128,\)"),
    ],
)
def test_weights_that_are_not_the_configurations_are_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    edit_config(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        wavenet.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"residual_channels": 10**4},
        {"skip_channels": 65_536},
        {"cond_channels": 65_536},
        {"stacks": 1000},
        {"speakers": 2**20, "speaker_names": []},
        {"mel": MEL.to_dict() | {"n_fft": 65_536, "n_mels": 256}},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_config_far_larger_than_the_weights_is_refused_before_it_gets_memory(
    folder: Path, changes: dict[str, Any]
) -> None:
    edit_config(folder, **changes)
    assert "describes a model that is far larger than the" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 10**30}, f"sample_rate={10**30} must be at most 1000000"),
        ({"residual_channels": 10**6}, "residual_channels=1000000 must be at most 65536"),
        ({"skip_channels": 10**9}, "skip_channels=1000000000 must be at most 65536"),
        ({"cond_channels": 10**9}, "cond_channels=1000000000 must be at most 65536"),
        ({"stacks": 11_000}, "stacks=11000 must be at most 2048"),
        ({"stacks": 2048}, "layers_per_stack=2 and stacks=2048 make 4096 layers; at most 2048 are"),
        ({"layers_per_stack": 28, "stacks": 1}, "reach back more than 2097152 samples"),
        ({"kernel_size": 10**9}, "kernel_size=1000000000 must be at most 2097152"),
        ({"kernel_size": 10**6}, "reach back more than 2097152 samples"),
        ({"speakers": 10**9, "speaker_names": []}, "speakers=1000000000 must be at most 1048576"),
        ({"distribution_size": 10**9}, "distribution_size=1000000000 must be at most 65536"),
        ({"linear_prediction": 10**9}, "linear_prediction=1000000000 must be at most 512"),
        ({"mel": MEL.to_dict() | {"n_fft": 2 * 10**6}}, "n_fft=2000000 must be at most 65536"),
        ({"mel": MEL.to_dict() | {"n_mels": 10**30}}, f"n_mels={10**30} must be at"),
        ({"mel": MEL.to_dict() | {"floor": 10**400}}, "mel.floor is 1000000000000000000000000"),
        ({"temperature": float("inf")}, "model.temperature is inf, expected a finite number"),
        ({"temperature": float("nan")}, "model.temperature is nan, expected a finite number"),
        ({"temperature": 10**400}, "model.temperature is 1000000"),
        (
            {"mel": None, "features": {"channels": 5, "hop_samples": 10**9}},
            "hop_samples=1000000000",
        ),
        (
            {
                "mel": None,
                "features": {
                    "channels": 5,
                    "hop_samples": 8,
                    "upsampling": {"scales": [2] * 10**5},
                },
            },
            "the number of scales=100000 must be at most 64",
        ),
    ],
)
def test_sizes_beyond_all_bounds_are_refused_by_name(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    edit_config(folder, **changes)
    said = refusal(folder)
    assert message in said
    assert len(said) < 400 + len(str(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10**5, "config.json cannot be read: it is nested too deeply"),
        ('{"a":' * 10**5, "config.json cannot be read: it is nested too deeply"),
        ("[" * 900 + "]" * 900, "config.json cannot be read: it is nested too deeply"),
        ("[" + "9" * 5000 + "]", "config.json cannot be read: Exceeds the limit"),
        ("[" + "[]," * 10**6 + "[]]", "cannot be read: it has more than 200000 lists and objects"),
        (" " * (5 << 20), "config.json cannot be read: it is longer than 4 MiB"),
    ],
    ids=["lists", "objects", "deep", "digits", "many", "long"],
)
def test_json_that_would_take_stack_time_or_memory_is_refused(
    folder: Path, text: str, message: str
) -> None:
    (folder / "config.json").write_text(text)
    assert message in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("provenance", 3, "has provenance 3, expected an object"),
        ("provenance", None, "has provenance None, expected an object"),
        ("architecture", ["wavenet"], r"has architecture ['wavenet'], expected a name"),
        ("dtype", ["float16"], "has dtype ['float16'], this package reads float16 and bfloat16"),
        ("format_version", [1], "has format_version [1], this package reads 1"),
    ],
)
def test_outer_keys_of_another_type_are_refused_by_every_reader(
    folder: Path, key: str, value: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert message in refusal(folder)
    for command in (["info", str(folder)], ["receptive-field", str(folder)]):
        assert main(command) == 2
        assert message in capsys.readouterr().err


def test_a_config_that_is_no_file_of_its_own_is_refused(folder: Path) -> None:
    path = folder / "config.json"
    path.unlink()
    os.mkfifo(path)  # whoever opened it would wait for a writer
    assert refusal(folder) == f"{path} cannot be read: it is no regular file"


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_are_not_finite_are_refused_by_name(
    folder: Path, value: float, dtype: torch.dtype
) -> None:
    path = folder / "model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    tensors["stack.blocks.1.conv.bias"][2] = value
    save_file(tensors, path)
    assert f"{path}: stack.blocks.1.conv.bias has values that are not finite" in refusal(folder)


def test_weights_that_are_no_floats_are_refused_by_name(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["head.3.bias"] = tensors["head.3.bias"].long()
    save_file(tensors, path)
    assert "head.3.bias is of type I64, expected floats: F16, BF16, F32, F64" in refusal(folder)


def test_an_absurd_header_of_the_weights_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    assert "cannot be read: its header has 1099511627776 bytes" in refusal(folder)


def test_numpy_integers_are_sizes_and_are_saved_as_integers(tmp_path: Path) -> None:
    sizes = {name: np.int64(value) for name, value in SMALL.items()}
    mel = MelConfig(
        n_fft=np.int32(64), win_samples=np.uint8(32), hop_samples=np.int16(8), n_mels=np.int64(5)
    )
    config = WaveNetConfig(**sizes, mel=mel, speakers=np.int64(2), temperature=np.float32(0.5))
    assert config == WaveNetConfig(**SMALL, mel=MEL, speakers=2, temperature=0.5)
    WaveNet(config).save(tmp_path)
    assert wavenet.load(tmp_path).config == config


@pytest.mark.parametrize("name", ["residual_channels", "kernel_size", "speakers", "sample_rate"])
def test_bools_are_no_sizes(name: str) -> None:
    for value in (True, np.bool_(True)):
        with pytest.raises(ValueError, match=f"{name}=.*must be an integer"):
            WaveNetConfig(**{name: value})


def test_a_checkpoint_from_before_a_setting_was_added_means_its_default(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["one_hot_input"]
    path.write_text(json.dumps(content))
    assert wavenet.load(folder).config == CONFIG


def test_another_sample_rate_is_an_error_that_names_both(folder: Path) -> None:
    assert refusal(folder, sample_rate=22050) == (
        f"{folder} works at 16000 Hz, but 22050 Hz was asked for; resample the audio or choose "
        "another model"
    )


def test_another_mel_is_an_error_that_names_both(folder: Path, tmp_path: Path) -> None:
    other = MelConfig(n_fft=64, win_samples=48, hop_samples=8, n_mels=5, log="log10")
    assert refusal(folder, mel=other) == (
        f"{folder}: mel settings differ: win_samples=32 in the model, 48 here, log=ln in the model,"
        " log10 here; make the mel with the model's"
    )
    WaveNet(WaveNetConfig(**SMALL)).save(tmp_path / "plain")
    assert "the model takes no mel, but one was given" in refusal(tmp_path / "plain", mel=MEL)


# --- saving over ---------------------------------------------------------------------------------


def test_saving_over_a_checkpoint_replaces_it(folder: Path) -> None:
    other = WaveNet(WaveNetConfig(**SMALL, distribution="gaussian"))
    other.save(folder, provenance={"steps": 9})
    assert wavenet.load(folder).config == other.config
    content = json.loads((folder / "config.json").read_text())
    assert content["provenance"]["steps"] == 9
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("change", [{}, {"residual_channels": 8}], ids=["same", "other settings"])
@pytest.mark.parametrize(
    ("n_bytes", "name"), [(4000, "model.safetensors"), (400, "config.json")], ids=str
)
def test_a_full_disk_leaves_the_old_checkpoint_as_it_was(
    folder: Path, change: dict[str, int], n_bytes: int, name: str, files_of_at_most: Limit
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = WaveNet(CONFIG.replace(**change))
    reason = f"{folder / name}: nothing was written: File too large"
    with files_of_at_most(n_bytes), pytest.raises(WriteError, match=reason):
        model.save(folder, provenance={"steps": 4})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert wavenet.load(folder).config == CONFIG


def test_a_full_disk_leaves_nothing_half_written_in_a_new_folder(
    tmp_path: Path, files_of_at_most: Limit
) -> None:
    with files_of_at_most(4000), pytest.raises(WriteError):
        WaveNet(CONFIG).save(tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def test_provenance_that_json_cannot_hold_is_refused_before_anything_is_written(
    folder: Path,
) -> None:
    before = (folder / "config.json").read_bytes()
    with pytest.raises(TypeError, match="PosixPath is not JSON serializable"):
        WaveNet(CONFIG).save(folder, provenance={"corpus": folder})
    assert (folder / "config.json").read_bytes() == before


def test_provenance_that_would_not_be_read_again_is_refused(folder: Path) -> None:
    before = (folder / "config.json").read_bytes()
    with pytest.raises(ValueError, match="config and provenance are 500.* bytes of JSON, and at"):
        WaveNet(CONFIG).save(folder, provenance={"corpus": "x" * 5_000_000})
    assert (folder / "config.json").read_bytes() == before


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(WriteError, match="a part of the path is a file, not a folder"):
        WaveNet(CONFIG).save(tmp_path / "taken")


def test_a_configuration_with_a_key_missing_is_refused_by_name(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["sample_rate"]
    path.write_text(json.dumps(content))
    assert refusal(folder) == (f"{folder}: config.json has no sample_rate; save the model anew")
