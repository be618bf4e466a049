"""Voices: trained models by name, half the bytes, and every one that ships is whole."""

from __future__ import annotations

import json
import os
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from shipping import LARGEST_BYTES, VoiceError, write_voice

import wavenet
from wavenet import MelConfig, WaveNet, WaveNetConfig
from wavenet.cli.main import main
from wavenet.storage import pretrained as voices
from wavenet.storage.checkpoint import CheckpointError, read_config

SHIPPED: list[str] = ["prompts-16k"]
"""All there are in the package: a new voice adds its name here."""

MEL = MelConfig(sample_rate=8000, n_fft=64, win_samples=40, hop_samples=16, n_mels=5, f_max_hz=4e3)
CONFIG = WaveNetConfig(
    sample_rate=8000,
    layers_per_stack=2,
    stacks=1,
    residual_channels=4,
    skip_channels=4,
    mel=MEL,
    speakers=2,
    speaker_names=("ann", "bob"),
)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "trained"
    WaveNet(CONFIG).save(folder, provenance={"corpus": {"folder": "toy"}, "steps": 3})
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of voices, and an empty folder to work in."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(voices, "FOLDER", tmp_path / "voices")
    return tmp_path / "voices"


@pytest.fixture
def voice(trained: Path, place: Path, tmp_path: Path) -> Path:
    (tmp_path / "LICENSE.txt").write_text("CC-BY-SA-3.0")
    write_voice(trained, place / "toy-8k", licences=[tmp_path / "LICENSE.txt"])
    return place / "toy-8k"


# --- what ships ---


def test_every_voice_of_the_package_loads_and_is_small_enough_for_the_wheel() -> None:
    assert voices.voice_names() == SHIPPED
    total = 0
    for name in SHIPPED:
        folder = voices.voice_folder(name)
        model = wavenet.load(name)
        assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
        assert read_config(folder)["dtype"] in ("float16", "bfloat16")
        card = (folder / voices.CARD_NAME).read_text()
        assert "not stated yet" not in card.lower()
        assert "not measured yet" not in card.lower()
        assert any(path.match("LICENSE*.txt") for path in folder.iterdir())
        total += sum(path.stat().st_size for path in folder.iterdir())
    assert total <= LARGEST_BYTES


def test_folders_of_the_package_that_are_not_python_are_voices() -> None:
    found = {path.name for path in voices.FOLDER.iterdir() if path.is_dir()}
    assert found - {"__pycache__"} == set(SHIPPED)


def test_the_files_of_a_voice_are_package_data(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["wavenet"]
    for name in ("config.json", "model.safetensors", voices.CARD_NAME, "LICENSE-X.txt"):
        assert any(Path("voices", "a-voice", name).match(pattern) for pattern in patterns), name


# --- by name ---


def test_a_voice_is_loaded_by_its_name_and_listed(voice: Path) -> None:
    assert wavenet.voice_names() == ["toy-8k"]
    assert voices.voice_folder("toy-8k") == voice
    assert wavenet.load("toy-8k").config == CONFIG
    assert wavenet.load(Path("toy-8k")).config == CONFIG


def test_a_folder_of_that_name_goes_first(voice: Path) -> None:
    other = WaveNetConfig.preset("tiny")
    WaveNet(other).save("toy-8k")
    assert wavenet.load("toy-8k").config == other


def test_an_unknown_name_lists_the_voices_and_a_path_does_not(voice: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        wavenet.load("toy-16k")
    assert str(caught.value) == (
        "toy-16k holds no config.json; name the folder that model.save or training wrote, or a "
        "voice: the voices are toy-8k"
    )
    with pytest.raises(CheckpointError, match="model.save or training wrote$"):
        wavenet.load("runs/of-today/toy-8k")
    with pytest.raises(ValueError, match="'toy-16k' is no voice; the voices are toy-8k"):
        voices.voice_folder("toy-16k")


def test_the_default_voice_is_missed_in_one_line_where_none_ships(place: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        wavenet.load(voices.DEFAULT_VOICE)
    assert str(caught.value) == (
        "the voice prompts-16k is not in this version of the package; name a model's folder"
    )


def test_commands_take_a_voice_and_the_default_where_none_is_named(
    trained: Path, place: Path, tmp_path: Path, samples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "LICENSE.txt").write_text("CC-BY-SA-3.0")
    write_voice(trained, place / voices.DEFAULT_VOICE, licences=[tmp_path / "LICENSE.txt"])
    sound = str(samples / "prompts-en" / "invalid.flac")
    for command in (
        ["info", "prompts-16k"],
        ["receptive-field", "prompts-16k"],
        ["mel", sound, "a.npz"],
        ["vocode", "a.npz", "a.wav", "--speaker", "bob"],
        ["generate", "b.wav", "--mel-from", sound, "--speaker", "ann"],
    ):
        assert main(command) == 0, capsys.readouterr().err


# --- half precision ---


def test_a_voice_has_its_weights_in_half_precision_and_loads_them_as_float32(
    trained: Path, voice: Path
) -> None:
    stored = load_file(voice / "model.safetensors")
    before, after = (wavenet.load(folder).state_dict() for folder in (trained, voice))
    assert read_config(voice)["dtype"] == "float16"
    assert stored["mel_filterbank"].dtype == torch.float32
    assert torch.equal(before["mel_filterbank"], after["mel_filterbank"])
    for name in before.keys() - {"mel_filterbank"}:
        assert stored[name].dtype == torch.float16
        assert after[name].dtype == torch.float32
        assert torch.equal(after[name], before[name].half().float())


def test_a_dtype_other_than_that_of_the_config_is_refused_by_both_names(voice: Path) -> None:
    tensors = load_file(voice / "model.safetensors")
    tensors["head.1.bias"] = tensors["head.1.bias"].to(torch.bfloat16)
    save_file(tensors, voice / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        wavenet.load("toy-8k")
    assert str(caught.value) == (
        f"{voice}/model.safetensors: head.1.bias is bfloat16, but config.json says dtype float16; "
        "save the model anew"
    )


def test_a_type_that_this_package_does_not_know_is_refused(voice: Path) -> None:
    content = json.loads((voice / "config.json").read_text())
    (voice / "config.json").write_text(json.dumps(content | {"dtype": "int4"}))
    with pytest.raises(CheckpointError, match="has dtype 'int4', this package reads float16 and b"):
        wavenet.load("toy-8k")


# --- making one ---


def test_a_voice_holds_weights_card_and_licence(voice: Path) -> None:
    names = ["LICENSE.txt", "MODEL_CARD.md", "config.json", "model.safetensors"]
    assert sorted(os.listdir(voice)) == names
    card = (voice / "MODEL_CARD.md").read_text()
    for line in (
        "# toy-8k",
        "| sample rate | 8000 Hz |",
        "| speakers | ann, bob |",
        '| corpus | {"folder": "toy"} |',
        "| steps | 3 |",
        "See LICENSE.txt beside this file.",
    ):
        assert line in card.splitlines()
    assert read_config(voice)["provenance"]["steps"] == 3


def test_a_card_that_was_completed_is_kept(voice: Path, trained: Path, tmp_path: Path) -> None:
    (voice / "MODEL_CARD.md").write_text("complete")
    write_voice(trained, voice, licences=[tmp_path / "LICENSE.txt"], dtype="bfloat16")
    assert (voice / "MODEL_CARD.md").read_text() == "complete"
    assert read_config(voice)["dtype"] == "bfloat16"


def test_what_cannot_be_a_voice_is_refused_and_writes_nothing(
    trained: Path, place: Path, tmp_path: Path
) -> None:
    licence = tmp_path / "LICENSE.txt"
    licence.write_text("CC-BY-SA-3.0")
    large = tmp_path / "large"
    WaveNet(WaveNetConfig.preset("nv", residual_channels=128, skip_channels=512)).save(large)
    loud = WaveNet(CONFIG)
    with torch.no_grad():
        loud.head[3].bias[0] = 1e6
    loud.save(tmp_path / "loud")
    for checkpoint, licences, dtype, message in (
        (large, [licence], "float16", "bytes are more than 4,000,000; train a smaller model"),
        (tmp_path / "loud", [licence], "float16", "head.3.bias has weights that float16 cannot"),
        (trained, [], "float16", "the licence is missing; name a file LICENSE*.txt"),
        (trained, [tmp_path / "none"], "float16", "none: cannot be read: No such file"),
        (trained, [licence], "int8", "dtype='int8' is unknown; choose one of float16, bfloat16"),
    ):
        with pytest.raises(VoiceError) as caught:
            write_voice(checkpoint, place / "v", licences=licences, dtype=dtype)
        assert message in str(caught.value)
    assert not place.exists()


def test_ship_makes_a_voice_and_prints_the_remaining_steps(
    repository: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = runpy.run_path(str(repository / "recipes" / "prompts" / "ship.py"))
    licence = repository / "samples" / "LICENSE-CC-BY-SA-3.0.txt"
    options = ["--licence", str(licence), "--voices", str(tmp_path / "voices")]
    monkeypatch.setattr(sys, "argv", ["ship.py", str(trained), "toy-8k", *options])
    assert script["main"]() == 0
    said = capsys.readouterr().out
    assert "bytes of at most 4,000,000" in said
    assert f"complete the card: {tmp_path}/voices/toy-8k/MODEL_CARD.md" in said
    assert wavenet.load(tmp_path / "voices" / "toy-8k").config == CONFIG
    monkeypatch.setattr(sys, "argv", ["ship.py", str(tmp_path / "nowhere"), "toy-8k", *options])
    assert script["main"]() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
