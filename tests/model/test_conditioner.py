"""A conditioning that is defined here goes through model, training, checkpoint and generation."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wavenet
from wavenet import MelConfig, WaveNet, WaveNetConfig
from wavenet.data import Corpus, Utterance, WindowPlan, Windows
from wavenet.interop.programs import Conditioning, trace_conditioning
from wavenet.model.conditioner import Condition, Recording, Speaker, register_condition
from wavenet.training.conditioning import ShuffledConditioning
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.loss import bits_per_sample
from wavenet.training.preview_clips import choose_pieces
from wavenet.training.sample_logger import generate_clips

RATE = 8000
SMALL = {"layers_per_stack": 4, "stacks": 1, "residual_channels": 8, "skip_channels": 8}
MEL = MelConfig(
    sample_rate=RATE, n_fft=128, win_samples=100, hop_samples=50, n_mels=4, f_max_hz=4000
)


@register_condition
class Level(Condition):
    """How loud a recording is: its root mean square, and the logarithm of it."""

    name: ClassVar[str] = "level"
    encoder: ClassVar[str] = "level_encoder"

    def make_encoder(self, channels: int) -> nn.Module:
        layers = nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, channels), nn.Unflatten(1, (-1, 1))
        return nn.Sequential(*layers)

    def example(self, rows: int, n_frames: int) -> Tensor:
        return torch.zeros(rows, 2)

    def of_recording(self, recording: Recording) -> Tensor:
        level = recording.audio(0, recording.n_samples).square().mean().sqrt()
        return torch.stack([level, level.log10()])


def make_config(**changes: object) -> WaveNetConfig:
    values = {"sample_rate": RATE, "distribution": "gaussian", **SMALL, "conditions": ("level",)}
    return WaveNetConfig(**{**values, **changes})  # type: ignore[arg-type]


CONFIGS = {
    "alone": make_config(),
    "with mel and speakers": make_config(
        mel=MEL, speakers=2, speaker_names=("loud", "low"), unconditional=True
    ),
}
each_config = pytest.mark.parametrize("name", CONFIGS)


def make_model(name: str) -> WaveNet:
    torch.manual_seed(0)
    return WaveNet(CONFIGS[name]).eval()


def corpus() -> Corpus:
    draw = np.random.default_rng(0)
    parts = {"loud": 10000, "low": 100}
    noise = {who: draw.normal(0, rms, 6000).astype(np.int16) for who, rms in parts.items()}
    return Corpus(tuple(Utterance(who, x, who) for who, x in noise.items()), RATE)


LOUD, LOW = torch.tensor([[0.3, -0.5]]), torch.tensor([[0.003, -2.5]])


def trained(name: str) -> WaveNet:
    """A model after a few steps on noise of two levels."""
    model = make_model(name).train()
    plan = WindowPlan.of(model, 0.05)
    windows = Windows(corpus(), plan, n_windows=8 * 60, seed=0, drop={"mel": 0.3, "level": 0.0})
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(60):
        batch = windows.__getitems__(list(range(8 * step, 8 * step + 8))).whole
        loss = bits_per_sample(model, batch, plan)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def test_a_model_learns_from_it_and_every_engine_generates_by_it(tmp_path: Path) -> None:
    model = trained("alone")
    model.save(tmp_path)
    again = wavenet.load(tmp_path)
    given = torch.cat([LOUD, LOW])
    made = {
        engine: wavenet.generate(
            again, n_samples=600, conditions={"level": given}, seed=0, engine=engine
        )
        for engine in ("stream", "eager", "cpu")
        if engine != "cpu" or _has_numba()
    }
    loud, low = made["stream"].square().mean(-1).sqrt()
    assert float(loud) > 3 * float(low)
    for samples in made.values():
        assert float((samples - made["stream"]).abs().max()) < 1e-4


def _has_numba() -> bool:
    try:
        import numba  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def test_beside_mel_and_speaker_it_can_be_left_out_as_they_can() -> None:
    model = trained("with mel and speakers")
    mel = torch.randn(4, 3)
    given = [
        {"mel": mel, "speaker": "low", "conditions": {"level": LOUD}},
        {"mel": mel, "speaker": "low"},
        {"mel": mel, "conditions": {"level": LOUD}},
        {"n_samples": 100, "conditions": {"level": LOUD}},
        {"n_samples": 100, "speaker": "low"},
    ]
    made = [
        wavenet.generate(model, seed=0, engine="stream", refine=0, **one)  # type: ignore[arg-type]
        for one in given
    ]
    for i, samples in enumerate(made):
        assert not any(torch.equal(samples[:, :100], other[:, :100]) for other in made[:i])


@each_config
def test_windows_hold_its_value_of_the_recording_and_whether_it_is_kept(name: str) -> None:
    model = make_model(name)
    plan = WindowPlan.of(model, 0.05)
    windows = Windows(corpus(), plan, n_windows=200, seed=0, drop={"level": 0.5})
    batch = windows.__getitems__(list(range(200))).whole
    for i in range(200):
        expected = model.conditions["level"].of_recording(windows.place(i)[0])
        assert torch.equal(batch["level"][i], expected)
    assert ("level_kept" in batch) == CONFIGS[name].unconditional
    if CONFIGS[name].unconditional:
        share = batch["level_kept"].double().mean()
        assert float(share) == pytest.approx(0.5, abs=4 * (0.25 / 200) ** 0.5)
        assert batch["mel_kept"].all()
        assert batch["speaker_kept"].all()


def test_a_dropped_value_has_no_influence_on_the_loss() -> None:
    model = make_model("with mel and speakers")
    plan = WindowPlan.of(model, 0.05)
    windows = Windows(corpus(), plan, n_windows=4, seed=0, drop={"level": 1.0})
    batch = windows.__getitems__([0, 1, 2, 3]).whole
    other = batch | {"level": batch["level"] + 1}
    losses = [bits_per_sample(model, one, plan) for one in (batch, other)]
    assert torch.equal(*losses)
    kept = {"level_kept": torch.ones(4, dtype=torch.bool)}
    assert not torch.equal(bits_per_sample(model, batch | kept, plan), losses[0])


@each_config
def test_an_exported_program_takes_it_by_name(name: str) -> None:
    model = make_model(name)
    found = trace_conditioning(model)
    assert found is not None
    program, inputs, _ = found
    assert inputs == (["level"] if name == "alone" else ["features", "speaker", "level"])
    given = model.example_conditions(3, 7)
    given["level"] = torch.randn(3, 2)
    values = [given.get(key) for key in model.conditions]
    expected = model.condition(conditions=given)
    assert expected is not None
    assert torch.allclose(program.module()(*values), expected, atol=1e-6)
    assert torch.equal(Conditioning(model)(*values), expected)


def test_validation_hears_that_of_another_window_and_previews_that_of_the_recording() -> None:
    model = make_model("alone")
    plan = WindowPlan.of(model, 0.05)
    check = ShuffledConditioning(plan)
    assert (check.name, check.applies) == ("level", True)
    pieces = choose_pieces(corpus(), plan, 0.02)
    assert len({float(piece.conditions["level"][0]) for piece in pieces}) > 1
    rows = generate_clips(model, pieces)
    assert rows is not None
    assert [len(row) for row in rows] == [160] * len(pieces)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"level is None, but this model takes \[B, 2\]"),
        ({"level": torch.zeros(1, 3)}, r"level is shape \(1, 3\), but this model takes \[B, 2\]"),
        ({"level": 0.3}, "level is a float, expected a tensor of rows"),
        ({"height": LOUD}, r"conditions has 'height', but this model takes \['mel', 'speaker', "),
        ({"level": torch.zeros(3, 2)}, "disagree on the number of rows: batch_size 2, level 3"),
    ],
)
def test_values_that_do_not_fit_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wavenet.generate(make_model("alone"), n_samples=2, batch_size=2, conditions=given)


def test_names_that_are_taken_or_not_registered_are_refused() -> None:
    with pytest.raises(ValueError, match="name='speaker' is taken by another condition"):
        register_condition(type("Other", (Speaker,), {}))
    with pytest.raises(ValueError, match="conditions=\\['pitch'\\]: 'pitch' is unknown"):
        make_config(conditions=("pitch",))
    with pytest.raises(ValueError, match="'level' is unknown or named twice"):
        make_config(conditions=("level", "level"))
    with pytest.raises(ConfigError, match="drop_conditions: level=2.0 must lie within 0 to 1"):
        TrainingConfig(drop_conditions={"level": 2.0})
    with pytest.raises(ConfigError, match="drop_conditions: mel has a setting .* use drop_mel"):
        TrainingConfig(drop_conditions={"mel": 0.5})
    plan = WindowPlan.of(make_model("alone"), 0.05)
    with pytest.raises(ValueError, match="'pitch' names a condition that is none of"):
        Windows(corpus(), plan, n_windows=1, seed=0, drop={"pitch": 0.5})


@pytest.mark.parametrize("name", ["x", "mask", "frame", "samples", "feedback_noise"])
def test_a_condition_has_no_name_of_another_tensor_in_a_batch(name: str) -> None:
    with pytest.raises(ValueError, match=f"name='{name}' is taken by a tensor of each batch"):
        register_condition(type("Other", (Speaker,), {"name": name}))
