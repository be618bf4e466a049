"""Features in frames beside recordings: read, cut into windows, trained on and generated from."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet import FeatureConfig, WaveNet, WaveNetConfig
from wavenet.cli.main import main
from wavenet.data import Corpus, CorpusError, Utterance, WindowPlan, Windows
from wavenet.data.frame_features import columns, read_features, whole_features
from wavenet.data.manifest import read_manifest
from wavenet.data.windows import collate
from wavenet.training.loss import window_log_prob

RATE, HOP, CHANNELS = 8000, 40, 3
FEATURES = FeatureConfig(channels=CHANNELS, hop_samples=HOP)
LENGTHS = {"a": 1990, "b": 2400, "c": 900}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three recordings with features, and the manifest that lists them."""
    draw, rows = np.random.default_rng(0), [["path", "features"]]
    for name, n_samples in LENGTHS.items():
        soundfile.write(tmp_path / f"{name}.wav", draw.normal(0, 0.1, n_samples), RATE)
        values = draw.normal(size=(CHANNELS, -(-n_samples // HOP)))
        np.save(tmp_path / f"{name}.npy", values.astype(np.float32))
        rows.append([f"{name}.wav", f"{name}.npy"])
    with open(tmp_path / "corpus.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def small(**changes: Any) -> WaveNet:
    torch.manual_seed(0)
    settings = {"layers_per_stack": 4, "stacks": 1, "residual_channels": 4, "skip_channels": 4}
    return WaveNet(WaveNetConfig(sample_rate=RATE, features=FEATURES, **settings, **changes)).eval()


def corpus(place: Path) -> Corpus:
    return Corpus.read(read_manifest(place / "corpus.csv"), RATE)


def test_columns_outside_the_file_repeat_the_outermost(place: Path) -> None:
    whole = np.load("c.npy")
    values, frames = columns(Path("c.npy"), FEATURES, -2, 30)
    expected = whole[:, np.arange(-2, 28).clip(0, whole.shape[1] - 1)]
    assert np.array_equal(values.numpy(), expected)
    assert frames.tolist() == [2, 2, *range(2, 25), *[24] * 5]
    assert torch.equal(whole_features("c.npy", FEATURES), torch.from_numpy(whole))
    np.savez("c.npz", features=whole, other=np.zeros(3))
    np.savez("alone.npz", f0=whole.astype(np.float64))
    for name in ("c.npz", "alone.npz"):
        assert torch.equal(whole_features(name, FEATURES), torch.from_numpy(whole))


def test_a_window_has_the_loss_of_the_same_samples_in_the_whole_file(place: Path) -> None:
    model, data = small(), corpus(place)
    plan = WindowPlan.of(model, 300 / RATE)
    assert (plan.length, plan.hop, plan.frame_channels) == (320, HOP, CHANNELS)
    windows = Windows(data, plan, n_windows=40, seed=0)
    with torch.inference_mode():
        for index in range(40):
            utterance, start = windows.place(index)
            x = model.distribution.quantize(utterance.audio(0, utterance.n_samples)[None])
            assert utterance.features is not None
            features = whole_features(utterance.features, FEATURES)[None]
            params = model(x[:, None], features)[..., :-1]  # column t predicts sample t + 1
            expected = model.distribution.log_prob(params, x[:, 1:])[0]
            batch = collate([windows[index]])
            got, mask = window_log_prob(model, batch, plan)
            inside = slice(max(start, 1) - start, min(plan.length, utterance.n_samples - start))
            assert int(mask[0].sum()) == inside.stop
            there = slice(max(start, 1) - 1, start + inside.stop - 1)
            torch.testing.assert_close(got[0, inside], expected[there], rtol=1e-4, atol=1e-4)


def test_an_utterance_keeps_its_features_where_it_is_pickled(place: Path) -> None:
    for utterance in corpus(place).utterances:
        again: Utterance = pickle.loads(pickle.dumps(utterance))
        assert (again.name, again.features) == (utterance.name, utterance.features)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: np.save("x.npy", np.zeros((4, 9))), "4 channels of 9 frames, and the model takes"),
        (lambda: np.save("x.npy", np.zeros((9, 3))), r"channels=3; transpose it$"),
        (lambda: np.save("x.npy", np.zeros(9)), r"float64 of shape \(9,\); features are numbers"),
        (lambda: np.save("x.npy", np.array([["a"] * 9] * 3)), "<U1 of shape .*features are numb"),
        (
            lambda: np.save("x.npy", np.zeros((3, 9), object)),
            "is no array that NumPy wrote: Array",
        ),
        (lambda: Path("x.npy").write_bytes(b"junk"), "is no array that NumPy wrote: "),
        (lambda: None, "x.npy: cannot be read: No such file or directory"),
    ],
)
def test_a_file_without_the_features_is_one_line(
    place: Path, make: Callable[[], object], message: str
) -> None:
    make()
    with pytest.raises(CorpusError, match=message) as caught:
        read_features(place / "x.npy", FEATURES)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite_are_refused(place: Path) -> None:
    values = np.zeros((CHANNELS, 9))
    values[1, 5] = np.nan
    np.save("nan.npy", values)
    with pytest.raises(CorpusError, match=r"nan.npy: frames from 4 on are not all finite"):
        columns(Path("nan.npy"), FEATURES, 4, 2)


def test_recordings_without_features_or_with_those_of_another_hop_are_refused(place: Path) -> None:
    plan = WindowPlan.of(small(), 0.04)
    bare = Corpus((Utterance("a", np.ones(900, np.int16), ""),), RATE)
    with pytest.raises(CorpusError, match="^a has no features, which the model takes; name a .npy"):
        Windows(bare, plan, n_windows=1, seed=0)
    with pytest.raises(ValueError, match=r"augment=0.5 changes the recordings, and not their feat"):
        Windows(corpus(place), plan, n_windows=1, seed=0, augment=0.5)
    np.save("b.npy", np.zeros((CHANNELS, 30)))
    with pytest.raises(CorpusError, match=r"b.npy: 30 frames of model.features.hop_samples=40 are"):
        Windows(corpus(place), plan, n_windows=1, seed=0)
    with pytest.raises(CorpusError, match="a.wav is the only recording, and its features cannot"):
        Corpus(corpus(place).utterances[:1], RATE).split(0.1)


TRAIN = [
    *["train", "--corpus", "corpus.csv", "--out", "run", "--window-s", "0.02", "--batch-size", "2"],
    *["--validation-windows", "2", "--listen-every", "2", "--listen-s", "0.1", "--seed", "3"],
    *["--checkpoint-every", "2", "--cache", "cache", f"--model.sample-rate={RATE}"],
    "--model.features={channels: 3, hop_samples: 40}",
    *["--model.layers-per-stack=4", "--model.stacks=1", "--model.residual-channels=4"],
    *["--model.skip-channels=4", "--trainer.enable_progress_bar=false"],
]


def test_the_command_line_trains_on_features_and_generates_from_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "--max-steps", "4"]) == 0
    clips = [path.parent.name for path in Path("run").rglob("*.wav")]
    assert {"reference", "step-000002", "step-000004"} <= set(clips)
    model = wavenet.load("run/model")
    assert model.config.features == FEATURES
    capsys.readouterr()
    assert main(["generate", "out.wav", "--model", "run/model", "--features", "c.npy"]) == 0
    assert capsys.readouterr().out == "out.wav: 0.115 s at 8000 Hz\n"
    made = wavenet.generate(
        model, mel=whole_features("c.npy", FEATURES)[None], n_samples=920, seed=0
    )
    stored = soundfile.read("out.wav", dtype="int16")[0]
    assert np.abs(made[0].numpy() * 32768 - stored).max() <= 1
    for arguments, message in {
        "out.wav --model run/model": "run/model needs features, 3 values every 40 samples; give --",
        "out.wav --model run/model --features none.npy": "none.npy: cannot be read: No such file",
        "out.wav --model prompts-16k --features c.npy": "takes no features beside a mel",
        "c.npy --model run/model --features c.npy": "unknown extension '.npy'",
    }.items():
        assert main(["generate", *arguments.split()]) == 2
        assert message in capsys.readouterr().err


def test_a_run_is_not_resumed_with_other_features(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TRAIN, "--max-steps", "2"]) == 0
    np.save("a.npy", np.load("a.npy") + 1)
    assert main([*TRAIN, "--max-steps", "4", "--resume"]) == 2
    assert "but the configuration now has corpus_content.hash=" in capsys.readouterr().err
    assert main([*TRAIN, "--max-steps", "4", "--trim-silence=-50", "--out", "other"]) == 2
    assert "trim_silence=-50.0 would shift recordings against their" in capsys.readouterr().err
