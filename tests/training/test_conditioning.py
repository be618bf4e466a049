"""wavenet.training.conditioning: warn of a model that does not use its conditioning."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet.data import Corpus, WindowPlan, Windows
from wavenet.training import TrainingConfig
from wavenet.training.checkpoints import Checkpoints
from wavenet.training.conditioning import EARLIEST_STEP, ShuffledConditioning, bits_of
from wavenet.training.devices import make_fabric
from wavenet.training.export import Export
from wavenet.training.loaders import validation_batches
from wavenet.training.loss import bits_per_sample, window_log_prob
from wavenet.training.module import WaveNetTraining
from wavenet.training.run import train
from wavenet.training.sample_logger import SampleLogger
from wavenet.training.trainer import Outputs, Trainer

RATE = 8000
MEL = {"sample_rate": RATE, "n_fft": 256, "win_samples": 200, "hop_samples": 80, "n_mels": 8}
SMALL = {
    "sample_rate": RATE,
    "layers_per_stack": 1,  # a receptive field of two samples: too short for their level
    "stacks": 1,
    "residual_channels": 8,
    "skip_channels": 8,
    "distribution": "gaussian",
}


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise that is loud or faint: ann's faint in all recordings, bob's loud."""
    folder, draw = tmp_path_factory.mktemp("noises"), np.random.default_rng(0)
    for i in range(16):
        speaker, level = (("ann", 0.003), ("bob", 0.2))[i % 2]
        (folder / speaker).mkdir(exist_ok=True)
        soundfile.write(
            folder / speaker / f"{i}.wav", draw.normal(0, level, 4000).clip(-1, 1), RATE
        )
    return folder


@pytest.fixture(scope="module", params=["mel", "speaker"])
def trained(
    request: pytest.FixtureRequest, noises: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingConfig, wavenet.WaveNet, Corpus]:
    mel = {"mel": {**MEL, "f_max_hz": 4000.0}} if request.param == "mel" else {}
    config = TrainingConfig(
        corpus=str(noises),
        model={**SMALL, **mel},
        speakers_by_folder=request.param == "speaker",
        window_s=0.02,
        batch_size=8,
        validation_fraction=0.4,
        validation_windows=16,
        max_steps=60,
        learning_rate=0.02,
        warmup_steps=5,
        ema_decay=0.9,
        listen_every=0,
        trainer={"accelerator": "cpu", "enable_progress_bar": False},
    )
    out = tmp_path_factory.mktemp("trained")
    train(config, out)
    corpus = Corpus.read(noises, RATE).split(0.4)[1]
    return config, wavenet.load(out / "model"), corpus


def without_conditioning(model: wavenet.WaveNet) -> wavenet.WaveNet:
    """The same, but no conditioning reaches a layer."""
    with torch.no_grad():
        for block in model.stack.blocks:
            block.cond_projection.weight.zero_()  # type: ignore[union-attr,operator]
    return model


def validated(
    model: wavenet.WaveNet, config: TrainingConfig, corpus: Corpus, step: int, out: Path
) -> dict[str, float]:
    """What validation logs, as if so many steps had been made."""
    plan = WindowPlan.of(model, config.window_s)
    windows = Windows(corpus, plan, n_windows=config.validation_windows, seed=0)
    fabric, config = make_fabric(config), replace(config, ema_decay=0.0)
    outputs = Outputs(Export(out / "model", {}), Checkpoints(out, {}), SampleLogger([], out, 0.0))
    trainer = Trainer(fabric, WaveNetTraining(model, plan, config), config, outputs)
    trainer.global_step = step
    trainer.validate(validation_batches(windows, config, fabric))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_model_that_hears_its_conditioning_needs_more_bits_with_anothers(
    trained: tuple[TrainingConfig, wavenet.WaveNet, Corpus],
    batch_size: int,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    config, model, corpus = trained
    config = replace(config, batch_size=batch_size)
    with caplog.at_level(logging.WARNING, "wavenet"):
        found = validated(model, config, corpus, EARLIEST_STEP, tmp_path)
    assert found["valid/conditioning_gain"] > 1
    assert found["valid/bits_shuffled"] > found["valid/bits"] + 0.5
    assert not caplog.records


def test_a_model_whose_conditioning_reaches_nothing_is_one_line(
    trained: tuple[TrainingConfig, wavenet.WaveNet, Corpus],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    config, model, corpus = trained
    name = "mel" if model.config.mel is not None else "speaker"
    state = {key: value.clone() for key, value in model.state_dict().items()}
    try:
        with caplog.at_level(logging.WARNING, "wavenet"):
            without_conditioning(model)
            assert validated(model, config, corpus, EARLIEST_STEP - 1, tmp_path)
            assert not caplog.records  # too early
            found = validated(model, config, corpus, EARLIEST_STEP, tmp_path)
    finally:
        model.load_state_dict(state)
    assert found["valid/conditioning_gain"] == pytest.approx(0, abs=1e-9)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"conditioning is ignored: with the {name} of other windows validation needs "
    )
    assert "after 500 steps; train longer, or check that " in record.getMessage()


def test_it_is_said_once_until_the_conditioning_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    plan = WindowPlan(100, 1, 1, 0, None, ("ann", "bob"))
    check = ShuffledConditioning(plan, warmup_steps=900)
    with caplog.at_level(logging.WARNING, "wavenet"):
        for step, gain in ((500, 0.0), (900, 0.0), (1000, 0.0), (1100, 0.1), (1200, -0.1)):
            check.judge(gain, step)
    messages = [record.getMessage() for record in caplog.records]
    assert ["after 900 steps" in messages[0], "after 1200 steps" in messages[1]] == [True, True]
    assert len(messages) == 2


def test_each_window_hears_the_conditioning_of_the_one_before_it(
    trained: tuple[TrainingConfig, wavenet.WaveNet, Corpus],
) -> None:
    """Swap whole recordings' conditioning in windows, one by one, to get the same."""
    config, model, corpus = trained
    plan = WindowPlan.of(model, config.window_s)
    windows = Windows(corpus, plan, n_windows=6, seed=0)
    keys = ("mel", "frame") if plan.mel is not None else ("speaker",)
    check = ShuffledConditioning(plan)

    def needed(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        log_prob, mask = window_log_prob(model, batch, plan)
        return -(log_prob * mask).double().sum(-1)

    with torch.no_grad():
        for rows in ((0, 1, 2), (3, 4), (5,)):
            batch = windows.__getitems__(rows).whole
            count = torch.full((len(rows),), float(plan.length), dtype=torch.float64)
            check.add(batch, needed(batch), count, needed)
        expected = []
        for row, other in ((0, 2), (1, 0), (2, 1), (3, 2), (4, 3), (5, 4)):
            one, another = windows.__getitems__([row]).whole, windows.__getitems__([other]).whole
            if plan.mel is None and torch.equal(one["speaker"], another["speaker"]):
                continue
            mixed = {**one, **{key: another[key] for key in keys}}
            expected.append([float(bits_per_sample(model, b, plan)) for b in (one, mixed)])
    found = bits_of(check.sums)
    assert found == pytest.approx(np.mean(expected, axis=0).tolist(), rel=1e-5)  # float32


@pytest.mark.parametrize("speakers", [(), ("ann",)])
def test_where_nothing_can_be_shuffled_nothing_is_said(speakers: tuple[str, ...]) -> None:
    check = ShuffledConditioning(WindowPlan(100, 1, 1, 0, None, speakers))
    assert not check.applies
    batch: dict[str, Any] = {"x": torch.zeros(2, 1, 101), "speaker": torch.zeros(2).long()}
    check.add(batch, torch.ones(2).double(), torch.ones(2).double(), lambda other: other["x"])
    assert bits_of(check.sums) is None
