"""Training from a model: new speakers find room in it, and it sounds the same before it learns."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from shipping import write_voice

import wavenet
from wavenet import WaveNet, WaveNetConfig
from wavenet.cli.main import main
from wavenet.storage import pretrained as voices
from wavenet.training import ConfigError, TrainingConfig
from wavenet.training.finetune import with_speakers
from wavenet.training.run import train

MEL = {"sample_rate": 8000, "n_fft": 256, "win_samples": 200, "hop_samples": 80, "n_mels": 10}
SMALL: dict[str, Any] = {
    "sample_rate": 8000,
    "layers_per_stack": 3,
    "stacks": 1,
    "residual_channels": 8,
    "skip_channels": 8,
    "distribution": "logistic_mixture",
    "mel": {**MEL, "f_max_hz": 4000.0},
}
SPEAKERS = {"speakers": 2, "speaker_names": ["ann", "bob"]}


def save(folder: Path, **changes: Any) -> Path:
    torch.manual_seed(0)
    WaveNet(WaveNetConfig.from_dict({**SMALL, **changes})).save(folder)
    return folder


@pytest.fixture
def brief(tmp_path: Path) -> Callable[..., TrainingConfig]:
    def make(start: Path, corpus: Path, **changes: Any) -> TrainingConfig:
        brief = {"window_s": 0.02, "batch_size": 2, "validation_windows": 3, "max_steps": 2}
        return TrainingConfig(corpus=str(corpus), init_from=str(start), **{**brief, **changes})

    return make


def named(tones: Path, folder: Path, *speakers: str) -> Path:
    """The tones, shared out among speakers."""
    for i, path in enumerate(sorted(tones.glob("*.wav"))):
        target = folder / speakers[i % len(speakers)] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def test_speakers_that_the_model_knew_sound_the_same_and_new_ones_begin_between_them() -> None:
    config = WaveNetConfig.from_dict({**SMALL, **SPEAKERS})
    model = WaveNet(config).eval()
    larger = with_speakers(model, ["cem", "dan"]).eval()
    assert larger.config.speaker_names == ("ann", "bob", "cem", "dan")
    x, mel = 0.1 * torch.randn(2, 1, 160), torch.randn(2, 10, 2)
    known = torch.tensor([0, 1])
    with torch.no_grad():
        assert torch.equal(larger(x, mel, known), model(x, mel, known))
        table = larger.speaker_embedding.table.weight
    assert torch.equal(table[:2], model.speaker_embedding.table.weight)
    assert torch.equal(table[2:], table[:2].mean(dim=0).expand(2, -1))


def test_a_model_without_speakers_sounds_the_same_with_every_new_one() -> None:
    model = WaveNet(WaveNetConfig.from_dict(SMALL)).eval()
    before = torch.get_rng_state()
    larger = with_speakers(model, ["cem", "dan"]).eval()
    assert torch.equal(torch.get_rng_state(), before)
    x, mel = 0.1 * torch.randn(2, 1, 160), torch.randn(2, 10, 2)
    with torch.no_grad():
        assert torch.equal(larger(x, mel, torch.tensor([0, 1])), model(x, mel))


def test_a_corpus_of_nobody_is_a_new_speaker_of_the_folders_name(
    tones: Path, tmp_path: Path, brief: Callable[..., TrainingConfig], caplog: Any
) -> None:
    start = save(tmp_path / "start", **SPEAKERS)
    mine = named(tones, tmp_path / "mine", ".")
    with caplog.at_level(logging.INFO, "wavenet"):
        result = train(brief(start, mine), tmp_path / "out")
    assert wavenet.load(result.model_folder).config.speaker_names == ("ann", "bob", "mine")
    assert "new speakers: mine; the model had ann, bob" in caplog.messages


def test_speakers_that_the_model_knows_stay_who_they_are(
    tones: Path, tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    start = save(tmp_path / "start", **SPEAKERS)
    for folder, speakers, expected in (
        ("known", ("ann", "bob"), ("ann", "bob")),
        ("mixed", ("bob", "cem"), ("ann", "bob", "cem")),
        ("ann", (".",), ("ann", "bob")),  # the folder's name is a speaker's
    ):
        corpus = named(tones, tmp_path / folder, *speakers)
        result = train(brief(start, corpus), tmp_path / f"out-{folder}")
        assert wavenet.load(result.model_folder).config.speaker_names == expected


def test_a_model_without_speakers_learns_them_only_when_asked_to(
    tones: Path, tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    start = save(tmp_path / "start")
    corpus = named(tones, tmp_path / "two", "ann", "bob")
    plain = train(brief(start, corpus), tmp_path / "plain")
    asked = train(brief(start, corpus, speakers_by_folder=True), tmp_path / "asked")
    assert wavenet.load(plain.model_folder).config.speaker_names == ()
    assert wavenet.load(asked.model_folder).config.speaker_names == ("ann", "bob")
    assert asked.bits_before == plain.bits_before


def test_a_model_that_nothing_conditions_cannot_learn_speakers(
    tones: Path, tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    start = save(tmp_path / "start", mel=None)
    config = brief(start, tones, speakers_by_folder=True)
    with pytest.raises(ConfigError, match="speakers_by_folder is set, but the model init_from="):
        train(config, tmp_path / "out")


def test_a_resumed_run_has_the_same_new_speakers(
    tones: Path, tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    start = save(tmp_path / "start", **SPEAKERS)
    config = brief(start, tones, checkpoint_every=1)
    whole = train(config, tmp_path / "out")
    again = train(config, tmp_path / "out", resume=True)
    assert (again.steps, again.bits_after) == (whole.steps, whole.bits_after)


def test_a_voice_is_tuned_to_a_new_speaker_by_a_recipe_for_another_model(
    tones: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(voices, "FOLDER", tmp_path / "voices")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "LICENSE.txt").write_text("")
    start = save(tmp_path / "start", **SPEAKERS)
    write_voice(start, tmp_path / "voices" / "toy", licences=[tmp_path / "LICENSE.txt"])
    (tmp_path / "recipe.yaml").write_text(
        "model: {preset: medium}\nlearning_rate: 0.02\nwarmup_steps: 1\nema_decay: 0\n"
    )
    options = "--window_s 0.05 --batch_size 4 --max_steps 25 --validation_windows 4"
    command = f"train recipe.yaml --from toy --corpus {tones} --out tuned {options}"
    assert main(command.split()) == 0
    printed, messages = capfd.readouterr()
    before, after = (float(printed.split(mark)[1].split()[0]) for mark in ("steps: ", "-> "))
    assert after < before - 1  # bits per sample; the tones differ from noise at once
    expected = "--from: the model's own settings are used, not those of recipe.yaml (model)"
    assert expected in messages.splitlines()
    assert f"new speakers: {tones.name}; the model had ann, bob" in messages.splitlines()
    soundfile.write("in.wav", np.sin(np.arange(800) / 9) / 2, 8000)
    command = f"vocode in.wav out.wav --model tuned/model --speaker {tones.name}"
    assert main(command.split()) == 0
    assert soundfile.info("out.wav").frames == 800


def test_settings_on_the_command_line_still_have_to_fit_the_model(
    tones: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    start = save(tmp_path / "start")
    (tmp_path / "recipe.yaml").write_text("model: {preset: medium}\n")
    command = ["train", str(tmp_path / "recipe.yaml"), f"--from={start}", "--model.stacks=7"]
    assert main([*command, "--corpus", str(tones), "--out", str(tmp_path / "out")]) == 2
    assert "has stacks=1, but the configuration asks for stacks=7" in capfd.readouterr().err
