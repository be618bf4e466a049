"""wavenet.training.fit: a model of one's own, with loggers, callbacks and an optimizer."""

from __future__ import annotations

import csv
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import wavenet
from wavenet.data import Corpus, find_corpus, read_cached
from wavenet.model.conditioner import Condition, Recording, register_condition
from wavenet.training import ConfigError, TrainingConfig, fit, train
from wavenet.training.callbacks import HOOKS
from wavenet.training.errors import TrainingError
from wavenet.training.recipe import parse_training

BRIEF: dict[str, Any] = {
    "window_s": 0.02,
    "batch_size": 2,
    "validation_windows": 3,
    "max_steps": 3,
    "listen_every": 0,
    "warmup_steps": 1,
    "trainer": {"log_every_n_steps": 1, "enable_progress_bar": False},
}
CSV = "lightning.pytorch.loggers.CSVLogger"


def small_model(**changes: Any) -> wavenet.WaveNet:
    torch.manual_seed(0)
    sizes = {"layers_per_stack": 3, "stacks": 1, "residual_channels": 8, "skip_channels": 8}
    return wavenet.WaveNet(wavenet.WaveNetConfig(**sizes, sample_rate=8000, **changes))


class Rates(Callback):
    """Notes the optimizer and the learning rate of each step."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        (optimizer,) = trainer.optimizers
        self.kinds.add(type(optimizer).__name__)
        self.rates.append(optimizer.param_groups[0]["lr"])


class Notes:
    """Writes down which hooks are called, in a class of one's own, and has a state."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.restored: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        if name not in HOOKS:
            raise AttributeError(name)
        return lambda *_: self.called.append(name)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": len(self.called)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.restored = state


class EpochCounter(Callback):
    """Waits for epochs, of which a run has none."""

    def on_train_epoch_end(self, *_: Any) -> None:
        """Do nothing."""


class StopAfterTwo(Callback):
    """Ends the run, and logs a number."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        trainer.log({"mine": 3.0}, trainer.global_step - 1)
        trainer.should_stop = trainer.global_step == 2


def logged(path: Path, column: str) -> list[float]:
    with open(path) as file:
        return [float(row[column]) for row in csv.DictReader(file) if row.get(column)]


def test_a_model_is_trained_with_loggers_callbacks_and_an_optimizer(
    tones: Path, tmp_path: Path
) -> None:
    model, rates = small_model(), Rates()
    before = [parameter.clone() for parameter in model.parameters()]
    result = fit(
        model,
        tones,
        tmp_path / "run",
        TrainingConfig(**BRIEF),
        loggers=[CSVLogger(tmp_path, name="csv", version="")],
        callbacks=[rates],
        optimizer=partial(torch.optim.SGD, lr=0.5),
    )
    assert (result.steps, result.interrupted) == (3, False)
    assert rates.kinds == {"SGD"}
    assert max(rates.rates) <= 0.5
    assert rates.rates[0] > 0.3  # of the peak, on its way down
    changed = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert any(changed)
    assert wavenet.load(result.model_folder).config == model.config
    assert len(logged(tmp_path / "csv" / "metrics.csv", "train/bits")) == 3
    assert list((tmp_path / "run" / "logs").glob("events*"))


def test_what_fit_learns_is_what_a_recipe_of_the_same_model_learns(
    tones: Path, tmp_path: Path
) -> None:
    model = small_model()
    model.save(tmp_path / "start")
    fit(model, tones, tmp_path / "fit", TrainingConfig(**BRIEF))
    recipe = TrainingConfig(**BRIEF, corpus=str(tones), init_from=str(tmp_path / "start"))
    train(recipe, tmp_path / "train")
    found, expected = (wavenet.load(tmp_path / name / "model") for name in ("fit", "train"))
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_a_corpus_that_was_read_before_is_trained_on_and_a_run_goes_on(
    tones: Path, tmp_path: Path
) -> None:
    corpus: Corpus = read_cached(find_corpus(str(tones)), 8000)
    brief = {**BRIEF, "checkpoint_every": 1}
    fit(small_model(), corpus, tmp_path / "run", TrainingConfig(**brief))
    again = fit(small_model(), corpus, tmp_path / "run", TrainingConfig(**brief), resume=True)
    assert again.steps == 3
    with pytest.raises(ConfigError, match="data is at 8000 Hz and the model at 16000 Hz"):
        fit(
            small_model().__class__(wavenet.WaveNetConfig.preset("tiny")),
            corpus,
            tmp_path / "other",
            TrainingConfig(**BRIEF),
        )
    with pytest.raises(ConfigError, match="already holds a model"):
        fit(small_model(), corpus, tmp_path / "run", TrainingConfig(**BRIEF))


def test_the_hooks_of_a_callback_are_called_in_order_and_its_state_is_kept(
    tones: Path, tmp_path: Path
) -> None:
    notes, brief = Notes(), TrainingConfig(**{**BRIEF, "max_steps": 1, "batch_size": 1})
    fit(small_model(), tones, tmp_path, brief, callbacks=[notes])
    training = ["on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end"]
    validation = ["on_validation_start", "on_validation_end"]
    assert notes.called == [
        *validation,
        *("on_train_start", *training),
        *validation,
        "on_train_end",
    ]
    again = Notes()
    fit(small_model(), tones, tmp_path, brief, callbacks=[again], resume=True)
    assert again.restored == {"calls": notes.called.index("on_train_end")}
    assert not set(training) & set(again.called)


def test_a_callback_ends_a_run_and_logs_numbers(tones: Path, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="csv", version="")
    result = fit(
        small_model(),
        tones,
        tmp_path / "run",
        TrainingConfig(**BRIEF),
        callbacks=[StopAfterTwo()],
        loggers=[logger],
    )
    assert (result.steps, result.interrupted) == (2, False)
    assert logged(tmp_path / "csv" / "metrics.csv", "mine") == [3.0, 3.0]


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (EpochCounter(), "EpochCounter overrides on_train_epoch_end, which training does not call"),
        (LearningRateMonitor(), "LearningRateMonitor needs Lightning's Trainer"),
        (ModelCheckpoint(), "ModelCheckpoint needs Lightning's Trainer"),
        (print, "<built-in function print> is no object with a hook; the hooks are on_train_start"),
        (Rates, "Rates'> is no object with a hook"),
    ],
)
def test_a_callback_that_cannot_work_is_refused_before_anything_is_written(
    callback: Any, message: str, tones: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=message) as caught:
        fit(small_model(), tones, out, TrainingConfig(**BRIEF), callbacks=[callback])
    assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "prompts-16k"}, "model='prompts-16k' is a name; load it: wavenet.load"),
        ({"model": torch.nn.Linear(1, 1)}, "model is a Linear, expected a WaveNet"),
        ({"config": BRIEF}, "config is a dict; give a TrainingConfig"),
        ({"config": {}}, "config is a dict; give a TrainingConfig"),
        ({"loggers": ["csv"]}, "loggers: 'csv' is no logger; give objects, such as"),
        ({"loggers": [CSVLogger]}, "CSVLogger'> is no logger; give objects"),
        (
            {"optimizer": torch.optim.SGD(torch.nn.Linear(1, 1).parameters())},
            "optimizer is a SGD; give what makes one of the parameters, such as functools.partial",
        ),
    ],
)
def test_an_argument_of_another_kind_is_named_before_anything_is_written(
    given: dict[str, Any], message: str, tones: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    usual = {"model": small_model(), "config": TrainingConfig(**BRIEF)}
    with pytest.raises((TypeError, ConfigError), match=message) as caught:
        fit(data=tones, out=out, **usual | given)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_recipe_names_loggers_and_callbacks_by_the_paths_of_their_classes(
    tones: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"loggers: [{CSV}, {{{CSV}: {{name: second}}}}]\n"
        "callbacks:\n- lightning.pytorch.callbacks.Timer: {duration: '00:01:00:00'}\n"
    )
    config, *_ = parse_training([str(tmp_path / "recipe.yaml")])
    assert config.loggers == [CSV, {CSV: {"name": "second"}}]
    brief = {**BRIEF, "loggers": config.loggers, "callbacks": config.callbacks}
    fit(small_model(), tones, tmp_path / "run", TrainingConfig(**brief))
    for name in ("csv", "second"):
        found = tmp_path / "run" / "logs" / name / "version_0" / "metrics.csv"
        assert len(logged(found, "train/bits")) == 3
    assert f"- {CSV}\n" in (tmp_path / "run" / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loggers": ["os.system"]}, "'os.system' is no class of lightning.pytorch.loggers"),
        ({"loggers": ["lightning.pytorch.callbacks.Timer"]}, "is no class of lightning.pytorch.l"),
        ({"callbacks": ["lightning.pytorch.callbacks.Nothing"]}, "is no class of lightning.py"),
        ({"callbacks": ["lightning.pytorch.callbacks.os"]}, "is no class of lightning.pytorch.c"),
        ({"loggers": [{CSV: {"colour": 1}}]}, "unexpected keyword argument 'colour'"),
        ({"loggers": [{CSV: 3}]}, "loggers: give a class's path, or `path: {argument: value}`"),
    ],
)
def test_what_names_no_logger_or_callback_is_refused_before_anything_is_written(
    changes: dict[str, Any], message: str, tones: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for run in (
        lambda config: fit(small_model(), tones, out, config),
        lambda config: train(config, out),
    ):
        with pytest.raises(ConfigError) as caught:
            run(TrainingConfig(**BRIEF, **changes, corpus=str(tones)))
        assert message in str(caught.value)
        assert not out.exists()


class Counts:
    """Keeps a number."""

    def __init__(self, number: Any) -> None:
        self.number = number

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.number = state["number"]


def test_callbacks_of_one_class_keep_their_own_states(tones: Path, tmp_path: Path) -> None:
    brief = TrainingConfig(**{**BRIEF, "max_steps": 1, "batch_size": 1})
    fit(small_model(), tones, tmp_path, brief, callbacks=[Counts(1), Counts(2)])
    again = [Counts(0), Counts(0)]
    fit(small_model(), tones, tmp_path, brief, callbacks=again, resume=True)
    assert [one.number for one in again] == [1, 2]


def test_a_state_that_could_not_be_read_again_is_refused_when_it_is_saved(
    tones: Path, tmp_path: Path
) -> None:
    brief = TrainingConfig(**{**BRIEF, "max_steps": 1, "batch_size": 1})
    with pytest.raises(TrainingError, match=r"Counts could not be read again; let state_dict\(\)"):
        fit(small_model(), tones, tmp_path, brief, callbacks=[Counts(np.float64(9))])


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda parameters: None, "optimizer made a NoneType; let it return a torch.optim.Opt"),
        (torch.optim.LBFGS, "optimizer made a LBFGS, whose step needs a closure; choose one that"),
    ],
)
def test_an_optimizer_that_the_loop_cannot_use_is_refused(
    optimizer: Any, message: str, tones: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(small_model(), tones, tmp_path / "run", TrainingConfig(**BRIEF), optimizer=optimizer)
    assert not (tmp_path / "run").exists()


def test_a_model_without_parameters_to_train_is_refused(tones: Path, tmp_path: Path) -> None:
    model = small_model().requires_grad_(False)
    with pytest.raises(ConfigError, match="model has no parameters to train: requires_grad is"):
        fit(model, tones, tmp_path / "run", TrainingConfig(**BRIEF))


def test_normalized_weights_are_trained_and_written_as_plain_ones(
    tones: Path, tmp_path: Path
) -> None:
    model = small_model()
    for block in model.stack.blocks:
        weight_norm(block.conv)
    fit(model, tones, tmp_path / "run", TrainingConfig(**BRIEF, ema_decay=0.0))
    again = wavenet.load(tmp_path / "run" / "model")
    assert again.state_dict().keys() == small_model().state_dict().keys()
    x = torch.rand(1, 1, 40) * 2 - 1
    assert torch.equal(again(x), model.eval()(x))


def test_a_model_that_cannot_be_written_is_refused_before_training(
    tones: Path, tmp_path: Path
) -> None:
    model = small_model()
    model.register_buffer("level", torch.ones(1))
    with pytest.raises(ValueError, match=r"level is a tensor of one .* config.json cannot desc"):
        fit(model, tones, tmp_path / "run", TrainingConfig(**BRIEF))
    assert not (tmp_path / "run").exists()


def test_training_makes_gradients_where_the_caller_has_switched_them_off(
    tones: Path, tmp_path: Path
) -> None:
    found = []
    for name, off in (("a", torch.no_grad()), ("b", nullcontext()), ("c", torch.inference_mode())):
        model = small_model()
        with off:
            fit(model, tones, tmp_path / name, TrainingConfig(**BRIEF))
        found.append(model.state_dict())
    for name, tensor in found[1].items():
        assert torch.equal(tensor, found[0][name])
        assert torch.equal(tensor, found[2][name])


def test_of_a_compiled_model_the_model_inside_is_trained(tones: Path, tmp_path: Path) -> None:
    model, other = small_model(), small_model()
    compiled: Any = torch.compile(model)
    fit(compiled, tones, tmp_path / "a", TrainingConfig(**BRIEF))
    fit(other, tones, tmp_path / "b", TrainingConfig(**BRIEF))
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


class Numbers(Condition):
    """Two numbers of a recording, through an encoder with a dropout and a normalization."""

    name: ClassVar[str] = "numbers"
    encoder: ClassVar[str] = "numbers_encoder"

    def make_encoder(self, channels: int) -> nn.Module:
        normalized = (nn.Linear(2, channels), nn.BatchNorm1d(channels), nn.Dropout(0.5))
        return nn.Sequential(*normalized, nn.Unflatten(1, (channels, 1)))

    def example(self, rows: int, n_frames: int) -> Tensor:
        return torch.ones(rows, 2)

    def of_recording(self, recording: Recording) -> Tensor:
        return torch.tensor([recording.n_samples / 8000, 3.0])


register_condition(Numbers)


class EndsAfter:
    """Ends a run as a crash does, without its last checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("ended")


def numbers_model(seed: int = 0) -> wavenet.WaveNet:
    """Return a new model; what is drawn after that depends on the seed."""
    model = small_model(conditions=("numbers",), cond_channels=4)
    torch.manual_seed(seed)
    return model


def test_a_condition_with_dropout_and_statistics_is_trained_the_same_after_a_resume(
    tones: Path, tmp_path: Path
) -> None:
    config = TrainingConfig(**BRIEF, checkpoint_every=1)
    fit(numbers_model(), tones, tmp_path / "whole", config)
    ends = [EndsAfter(2)]
    with pytest.raises(RuntimeError, match="ended"):
        fit(numbers_model(1), tones, tmp_path / "parts", config, callbacks=ends)
    fit(numbers_model(2), tones, tmp_path / "parts", config, resume=True)
    whole, parts = (wavenet.load(tmp_path / name / "model") for name in ("whole", "parts"))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_an_averaged_model_has_the_statistics_of_the_trained_one(
    tones: Path, tmp_path: Path
) -> None:
    model = numbers_model()
    fit(model, tones, tmp_path / "run", TrainingConfig(**BRIEF))
    learnt = dict(wavenet.load(tmp_path / "run" / "model").named_buffers())
    assert learnt["numbers_encoder.1.num_batches_tracked"] == 3
    for name, found in model.named_buffers():
        assert torch.equal(found, learnt[name])
