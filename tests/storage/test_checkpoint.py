"""A checkpoint says everything that its sound depends on, and loads whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import wavenet
from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig
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


def test_the_config_says_format_architecture_settings_and_provenance(folder: Path) -> None:
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


def test_a_missing_checkpoint_is_told_from_a_damaged_one(folder: Path, tmp_path: Path) -> None:
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
        {"residual_channels": 10**6},
        {"skip_channels": 10**9},
        {"cond_channels": 10**9},
        {"stacks": 10**9},
        {"layers_per_stack": 10**6},
        {"layers_per_stack": 33},
        {"kernel_size": 10**9},
        {"speakers": 10**9, "speaker_names": []},
        {"mel": MEL.to_dict() | {"n_fft": 2 * 10**6, "n_mels": 10**6}},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_config_far_larger_than_the_weights_is_refused_before_it_gets_memory(
    folder: Path, changes: dict[str, Any]
) -> None:
    edit_config(folder, **changes)
    assert "describes a model that is far larger than the" in refusal(folder)


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


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(WriteError, match="a part of the path is a file, not a folder"):
        WaveNet(CONFIG).save(tmp_path / "taken")


def test_a_configuration_with_a_key_missing_is_refused_by_name(folder: Path) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["sample_rate"]
    path.write_text(json.dumps(content))
    assert refusal(folder) == (
        f"{folder}: config.json does not say sample_rate; save the model anew"
    )
