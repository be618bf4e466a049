"""training.sample_logger: samples come from the model on disk; training does not depend on them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wavenet
from wavenet.audio import read_audio
from wavenet.data import Corpus, Utterance, WindowPlan
from wavenet.training import TrainingConfig
from wavenet.training.preview_clips import Piece, choose_pieces, corpus_level_db, level_db
from wavenet.training.run import train
from wavenet.training.sample_logger import generate_clips, warn_of_silence

RATE = 8000
MEL = {"sample_rate": RATE, "n_fft": 256, "win_samples": 200, "hop_samples": 80, "n_mels": 8}
SMALL = {
    "sample_rate": RATE,
    "layers_per_stack": 3,
    "stacks": 1,
    "residual_channels": 8,
    "skip_channels": 8,
    "distribution": "gaussian",
}


@pytest.fixture(scope="module")
def config(tones: Path) -> TrainingConfig:
    return TrainingConfig(
        corpus=str(tones),
        model={**SMALL, "mel": {**MEL, "f_max_hz": 4000.0}},
        window_s=0.02,
        batch_size=2,
        validation_fraction=0.3,
        validation_windows=2,
        max_steps=6,
        checkpoint_every=2,
        listen_every=4,
        listen_s=0.11,
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )


@pytest.fixture(scope="module")
def logged_run(config: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("logged_run")
    train(config, out)
    return out


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def logged(out: Path) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Steps at which each audio and each picture was logged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tensorboard imports is not ours to mend
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(out / "logs"), size_guidance={"audio": 0, "images": 0})
    events.Reload()
    # The files of one second may be read in another order.
    audio = {tag: _steps(events.Audio(tag)) for tag in events.Tags()["audio"]}
    images = {tag: _steps(events.Images(tag)) for tag in events.Tags()["images"]}
    return audio, images


def _steps(events: list[Any]) -> list[int]:
    return [event.step for event in sorted(events, key=lambda event: event.wall_time)]


def names(config: TrainingConfig) -> list[str]:
    _, valid = Corpus.read(config.corpus, RATE).split(config.validation_fraction)
    return [f"{i}-{part.name[:-4]}" for i, part in enumerate(valid.utterances[:3], start=1)]


def test_it_logs_samples_every_so_many_steps_and_at_the_end(
    config: TrainingConfig, logged_run: Path
) -> None:
    kept, expected_names = list(files(logged_run / "samples")), names(config)
    steps = ["step-000004", "step-000006"]
    expected = [f"reference/{name}.wav" for name in expected_names]
    expected += [
        f"{step}/{name}.{kind}"
        for step in steps
        for name in expected_names
        for kind in ("png", "wav")
    ]
    assert sorted(kept) == sorted(expected)
    audio, pictures = logged(logged_run)
    assert pictures == {f"generated/{name}": [4, 6] for name in expected_names}
    assert audio == {**pictures, **{f"reference/{name}": [0] for name in expected_names}}


def test_logged_samples_are_those_of_the_model_on_disk(
    config: TrainingConfig, logged_run: Path
) -> None:
    model, folder = wavenet.load(logged_run / "model"), logged_run / "samples"
    for row, name in enumerate(names(config)):
        reference, _ = read_audio(folder / "reference" / f"{name}.wav", RATE)
        assert len(reference) == round(0.11 * RATE)
        recording, _ = read_audio(Path(config.corpus) / f"{name[2:]}.wav", RATE)
        assert torch.equal(reference, recording[: len(reference)])
        assert model.config.mel is not None
        mel = wavenet.log_mel(reference, model.config.mel)
        generated = wavenet.generate(model, mel=mel, n_samples=880, seed=row, refine=0)[0]
        kept, _ = read_audio(folder / "step-000006" / f"{name}.wav", RATE)
        # one step of 16 bits: alone or in a batch, rounding differs
        torch.testing.assert_close(kept, generated.clamp(-1, 32767 / 32768), rtol=0, atol=1 / 32768)


def test_the_weights_are_those_of_a_run_without_a_sample_logger(
    config: TrainingConfig, logged_run: Path, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    train(replace(config, listen_every=0), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not (tmp_path / "samples").exists()
    assert not logged(tmp_path)[0]
    assert (
        files(tmp_path / "model")["model.safetensors"]
        == files(logged_run / "model")["model.safetensors"]
    )


def test_a_resumed_run_says_the_same_and_logs_it_once(
    config: TrainingConfig, logged_run: Path, tmp_path: Path
) -> None:
    """Killed after step 6 was listened to, with step 4 the last that was kept."""
    for name, content in files(logged_run).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    *_, last = sorted((tmp_path / "checkpoints").iterdir())
    last.unlink()
    train(config, tmp_path, resume=True)
    for folder in ("samples", "model"):
        assert files(tmp_path / folder) == files(logged_run / folder)
    assert logged(tmp_path) == logged(logged_run)


def test_without_matplotlib_there_is_sound_and_one_line(
    config: TrainingConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with caplog.at_level(logging.WARNING, "wavenet"):
        train(replace(config, listen_every=2, max_steps=4), tmp_path)
    (record,) = caplog.records
    assert record.getMessage().startswith("pictures need matplotlib: pip install ")
    expected_names = {f"{name}.wav" for name in names(config)}
    for step in ("step-000002", "step-000004"):
        assert set(os.listdir(tmp_path / "samples" / step)) == expected_names


# --- what is listened to ---


def part(name: str, speaker: str, n_samples: int, level: float = 0.1) -> Utterance:
    noise = np.random.default_rng(0).normal(0, level * 32768, n_samples)
    return Utterance(name, noise.clip(-32768, 32767).astype(np.int16), speaker)


def plan(**changes: Any) -> WindowPlan:
    settings = {"mel": None, "speakers": (), **changes}
    return WindowPlan(length=100, warm_up=1, hop=1, context_frames=0, **settings)


CORPUS = Corpus(
    (
        part("ann/1 a.wav", "ann", 900),
        part("ann/2.wav", "ann", 2000),
        part("ann/3.wav", "ann", 2000),
        part("bob/1.wav", "bob", 300),
        part("cy/1.wav", "cy", 2000),
        part("di/1.wav", "di", 2000),
    ),
    1000,
)


def chosen(seconds: float = 1.5, **changes: Any) -> list[tuple[str, int, int | None]]:
    pieces = choose_pieces(CORPUS, plan(**changes), seconds)
    return [(piece.name, len(piece.reference), piece.speaker) for piece in pieces]


def test_a_model_with_a_mel_speaks_for_different_speakers_and_rather_what_is_long_enough() -> None:
    mel = wavenet.MelConfig()
    assert chosen(mel=mel) == [
        ("1-ann-2", 1500, None),
        ("2-bob-1", 300, None),
        ("3-cy-1", 1500, None),
    ]
    both = chosen(mel=mel, speakers=("di", "cy", "bob", "ann"))
    assert [speaker for *_, speaker in both] == [3, 2, 1]
    assert chosen(0.8, mel=mel)[0] == ("1-ann-1-a", 800, None)


def test_a_model_of_speakers_speaks_once_for_each_and_one_of_none_freely() -> None:
    speakers = ("ann", "bob", "cy", "di")
    assert chosen(speakers=speakers) == [("1-ann", 1500, 0), ("2-bob", 300, 1), ("3-cy", 1500, 2)]
    assert [name for name, *_ in chosen()] == ["1-free", "2-free", "3-free"]


# --- silence ---


def gaussian(level: float) -> wavenet.WaveNet:
    """A model that draws noise of this standard deviation, whatever its input."""
    model = wavenet.WaveNet(wavenet.WaveNetConfig.from_dict(SMALL))
    last = model.head[-1]
    with torch.no_grad():
        last.weight.zero_()
        n = len(last.bias)
        assert n == 2  # mean, and the logarithm of the standard deviation
        last.bias.copy_(torch.tensor([0.0, np.log(level)]))
    return model


@pytest.mark.parametrize(("below_db", "warns"), [(0, False), (15, False), (25, True), (60, True)])
def test_a_model_far_below_the_corpus_makes_only_silence(
    below_db: float, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = Corpus((part("a", "", 4000), part("b", "", 2000)), RATE)
    expected_db = corpus_level_db(corpus)
    assert expected_db == pytest.approx(-20, abs=0.2)  # 0.1 of full scale
    rows = generate_clips(
        gaussian(0.1 * 10 ** (-below_db / 20)), choose_pieces(corpus, plan(), 0.2)
    )
    assert rows is not None
    assert level_db(rows) == pytest.approx(-20 - below_db, abs=0.5)
    with caplog.at_level(logging.WARNING, "wavenet"):
        warn_of_silence(rows, expected_db, step=7)
    messages = [record.getMessage() for record in caplog.records]
    expected = (
        f"only silence: what the model generates after 7 steps is {below_db} dB below the corpus"
    )
    assert [line.startswith(expected) for line in messages] == [True] * warns


def test_a_corpus_that_is_silent_itself_is_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "wavenet"):
        warn_of_silence([torch.zeros(100)], expected_db=-61, step=7)
        assert not caplog.records
        warn_of_silence([torch.zeros(100)], expected_db=-59, step=7)
        assert len(caplog.records) == 1


def test_who_wants_to_stop_need_not_wait_and_the_model_stays_as_it_is() -> None:
    model = gaussian(0.1).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pieces = [Piece("1-free", "a", torch.zeros(16 * RATE), None, None)]
    asked: list[bool] = []

    def stopped() -> bool:
        asked.append(True)
        return len(asked) == 2

    assert generate_clips(model, pieces, stopped) is None
    assert len(asked) == 2
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
