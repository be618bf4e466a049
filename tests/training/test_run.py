"""wavenet.training.run: training learns, repeats itself, and never leaves a broken model behind."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from training_runs import SMALL

import wavenet
from wavenet.data import Corpus, WindowPlan, Windows
from wavenet.storage.files import WriteError
from wavenet.training import ConfigError, TrainingConfig, TrainingError
from wavenet.training.beginning import CHECKPOINT_FILES
from wavenet.training.constant import constant_bits
from wavenet.training.loss import bits_per_sample
from wavenet.training.recipe import parse_training
from wavenet.training.run import VALIDATION_SEED, TrainingResult, train

Limit = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def brief(tones: Path) -> Callable[..., TrainingConfig]:
    """A configuration of three tiny steps, with changes."""

    def make(**changes: Any) -> TrainingConfig:
        settings = {"window_s": 0.02, "batch_size": 2, "validation_windows": 3, "max_steps": 3}
        given = {"corpus": str(tones), "model": SMALL, "listen_every": 0, **settings, **changes}
        return TrainingConfig(**given)

    return make


def provenance(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "model" / "config.json").read_text())["provenance"]
    return found


def same_weights(one: Path, other: Path) -> bool:
    a, b = (wavenet.load(out / "model").state_dict() for out in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# --- a run that learns ---


@pytest.fixture(scope="module")
def learnt(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, Path]:
    config = TrainingConfig(
        corpus=str(tones),
        model=SMALL,
        window_s=0.1,
        batch_size=4,
        max_steps=110,
        learning_rate=0.01,
        warmup_steps=20,
        validation_windows=8,
        validate_every=50,
        listen_every=0,
    )
    out = tmp_path_factory.mktemp("learnt")
    return train(config, out, recipe="/data/ann/recipe.yaml"), out


def test_training_falls_well_below_the_best_constant_distribution(
    learnt: tuple[TrainingResult, Path],
) -> None:
    result, out = learnt
    assert (result.steps, result.interrupted) == (110, False)
    assert result.model_folder == out / "model"
    assert result.bits_after < result.constant_bits - 2 < result.bits_before


def test_the_model_is_that_of_the_end_with_the_bits_it_is_said_to_need(
    learnt: tuple[TrainingResult, Path], tones: Path
) -> None:
    result, out = learnt  # 110 steps are no multiple of validate_every
    model = wavenet.load(out / "model")
    _, valid = Corpus.read(tones, 8000).split(0.05)
    plan = WindowPlan.of(model, 0.1)
    windows = Windows(valid, plan, n_windows=8, seed=VALIDATION_SEED)
    batch = torch.utils.data.default_collate([windows[i] for i in range(8)])
    with torch.no_grad():
        bits = float(bits_per_sample(model, batch, plan))
    assert result.bits_after == pytest.approx(bits, rel=1e-5)  # float32, in two batches


def test_provenance_says_corpus_recipe_settings_steps_and_loss(
    learnt: tuple[TrainingResult, Path], tones: Path
) -> None:
    result, out = learnt
    found = provenance(out)
    digest = found["corpus"].pop("hash")
    assert re.fullmatch("[0-9a-f]{16}", digest)
    assert found["corpus"] == {"folder": tones.name, "files": 8, "seconds": 8.0}
    assert found["recipe"] == "recipe.yaml"
    assert found["steps"] == 110
    assert found["validation_bits_per_sample"] == result.bits_after
    assert found["training"]["learning_rate"] == 0.01
    assert found["versions"]["torch"] == torch.__version__


def test_the_settings_are_kept_as_a_recipe_that_says_the_same(
    learnt: tuple[TrainingResult, Path],
) -> None:
    _, out = learnt
    again, *_ = parse_training([str(out / "config.yaml")])
    portable = {**asdict(again), "corpus": Path(again.corpus).name}
    for key in ("corpus_root", "download", "cache", "workers"):  # matters of this machine
        del portable[key]
    assert portable == provenance(out)["training"]
    assert yaml.safe_load((out / "config.yaml").read_text()) == asdict(again)


def logged(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of every number that TensorBoard finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tensorboard imports is not ours to mend
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(out / "logs"))
    events.Reload()
    tags = events.Tags()["scalars"]
    # Files come in the order of their names, where the tenth of a process precedes the second.
    return {tag: sorted((event.step, event.value) for event in events.Scalars(tag)) for tag in tags}


def test_tensorboard_finds_the_bits_of_training_and_validation(
    learnt: tuple[TrainingResult, Path],
) -> None:
    result, out = learnt
    found = logged(out)
    assert [step for step, _ in found["train/bits"]] == list(range(9, 110, 10))
    valid = found["valid/bits"]
    # A validation amid training is logged at the index of the step that was just made.
    assert [step for step, _ in valid] == [0, 49, 99, 110]
    assert valid[0][1] == pytest.approx(result.bits_before)
    assert valid[-1][1] == pytest.approx(result.bits_after)
    constant = pytest.approx(result.constant_bits)
    assert found["valid/bits_constant"] == [(step, constant) for step, _ in valid]
    assert "valid/bits_shuffled" not in found  # nothing conditions this model


def test_tensorboard_finds_rate_norm_and_speed_at_every_step_that_logs(
    tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    trainer = {"log_every_n_steps": 2, "accumulate_grad_batches": 2}
    changes = {"max_steps": 8, "warmup_steps": 16, "learning_rate": 0.016, "window_s": 0.1}
    begun_s = time.monotonic()
    train(brief(trainer=trainer, gradient_clip=1e-3, **changes), tmp_path)
    lasted_s = time.monotonic() - begun_s
    found = logged(tmp_path)
    rates = dict(found["train/learning_rate"])
    assert rates == pytest.approx({1: 0.002, 3: 0.004, 5: 0.006, 7: 0.008})
    norms = dict(found["train/gradient_norm"])
    assert norms.keys() == rates.keys()
    assert min(norms.values()) > 1e-2  # before they are clipped to 0.001
    speeds = dict(found["train/samples_per_second"])
    assert speeds.keys() == rates.keys()
    # Steps 3 to 8 see 2 windows of 0.1 s each; no window of these reaches beyond its recording.
    assert sum(2 * 2 * 800 / speeds[step] for step in (3, 5, 7)) < lasted_s


def test_a_constant_distribution_of_one_value_needs_the_bits_of_its_class() -> None:
    """Everything is in mu-law class 255, which holds the 16-bit samples from 32065 on: 703."""
    loud = np.full(10_000, 32767, dtype=np.int16)
    part = wavenet.data.Utterance("loud", loud, "")  # type: ignore[attr-defined]
    corpus = Corpus((part,), 8000)
    plan = WindowPlan(length=100, warm_up=1, hop=1, context_frames=0, mel=None, speakers=())
    windows = Windows(corpus, plan, n_windows=2, seed=0)
    held = int((wavenet.distributions.mu_law_encode(torch.arange(32768) / 32768) == 255).sum())
    # one count more for each of the 256 classes
    expected = np.log2(held) - np.log2(10_001 / 10_256)
    assert constant_bits(corpus, windows) == pytest.approx(expected, rel=1e-5)


# --- what depends on what ---


def test_the_same_settings_give_the_same_weights_and_another_seed_others(
    tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    for name, changes in (("a", {}), ("b", {"workers": 2}), ("c", {"seed": 1})):
        train(brief(**changes), tmp_path / name)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("workers", [0, 2])
def test_no_global_random_number_is_drawn_or_seeded(
    tmp_path: Path, brief: Callable[..., TrainingConfig], workers: int
) -> None:
    def states() -> tuple[Any, ...]:
        name, keys, *rest = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), random.getstate(), name, keys.tolist(), rest

    before = states()
    train(brief(workers=workers), tmp_path)
    assert states() == before
    model = wavenet.load(tmp_path / "model")
    after_loading = states()
    wavenet.generate(model, n_samples=10, seed=0, engine="eager")
    assert states() == after_loading


@pytest.mark.parametrize(("max_steps", "validate_every"), [(1, 500), (1, 1), (3, 500), (3, 2)])
def test_any_number_of_steps_ends_with_a_validated_model(
    tmp_path: Path, brief: Callable[..., TrainingConfig], max_steps: int, validate_every: int
) -> None:
    result = train(brief(max_steps=max_steps, validate_every=validate_every), tmp_path)
    assert result.steps == max_steps
    assert provenance(tmp_path)["steps"] == max_steps
    assert provenance(tmp_path)["validation_bits_per_sample"] == result.bits_after
    assert result.bits_after != result.bits_before


def test_accumulated_batches_make_the_steps_that_were_asked_for(
    tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    trainer = {"accumulate_grad_batches": 2}
    result = train(brief(batch_size=2, trainer=trainer), tmp_path / "a")
    train(brief(batch_size=2), tmp_path / "b")
    assert result.steps == 3
    one, other = (wavenet.load(tmp_path / name / "model") for name in "ab")
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)  # the same windows in the same steps


def test_a_model_with_a_mel_and_speakers_by_folder_trains(
    tmp_path: Path, tones: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i, speaker in enumerate(("mary", "john", "mary", "john")):
        folder = tmp_path / "corpus" / speaker
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.wav").write_bytes((tones / f"tone-{i}.wav").read_bytes())
    mel = {"sample_rate": 8000, "n_fft": 256, "win_samples": 200, "hop_samples": 80, "n_mels": 10}
    config = TrainingConfig(
        corpus=str(tmp_path / "corpus"),
        model={**SMALL, "mel": {**mel, "f_max_hz": 4000.0}},
        speakers_by_folder=True,
        window_s=0.02,
        batch_size=2,
        validation_windows=2,
        max_steps=2,
        listen_every=0,
    )
    with caplog.at_level(logging.WARNING, "wavenet"):
        train(config, tmp_path / "out")
        assert not caplog.records
        train(replace(config, augment=0.5), tmp_path / "augmented")
    (record,) = caplog.records
    assert record.getMessage().startswith("augment=0.5 trains other pitches under the speakers'")
    model = wavenet.load(tmp_path / "out" / "model")
    assert model.config.speaker_names == ("john", "mary")
    generated = wavenet.generate(model, mel=torch.zeros(10, 3), speaker="mary", seed=0)
    assert generated.shape == (1, 240)


def test_a_manifest_with_speakers_trains_also_where_the_cache_cannot_be_written(
    tmp_path: Path,
    tones: Path,
    brief: Callable[..., TrainingConfig],
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = [f"{tones}/tone-{i}.wav,{'john' if i % 2 else 'mary'},0.25,0.75" for i in range(6)]
    (tmp_path / "list.csv").write_text("\n".join(["path,speaker,start,end", *lines]))
    (tmp_path / "file").write_text("no folder")
    corpus = {"corpus": str(tmp_path / "list.csv"), "speakers_by_folder": True}
    with caplog.at_level(logging.WARNING, "wavenet"):
        train(brief(**corpus), tmp_path / "a")
        assert not caplog.records
        train(brief(**corpus, cache=str(tmp_path / "file" / "cache")), tmp_path / "b")
    (record,) = caplog.records
    assert "samples are kept in memory" in record.getMessage()
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert wavenet.load(tmp_path / "a" / "model").config.speaker_names == ("john", "mary")
    assert provenance(tmp_path / "a")["corpus"]["seconds"] == 3.0


# --- going on from a model ---


def test_fine_tuning_begins_where_the_model_ended(
    learnt: tuple[TrainingResult, Path], tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    result, out = learnt
    start = str(out / "model")
    changes = {"window_s": 0.1, "batch_size": 4, "validation_windows": 8, "learning_rate": 1e-6}
    tuned = train(brief(model={}, init_from=start, **changes), tmp_path)
    assert tuned.bits_before == pytest.approx(result.bits_after, rel=1e-6)
    assert tuned.bits_after == pytest.approx(result.bits_after, rel=1e-3)
    assert wavenet.load(tmp_path / "model").config == wavenet.load(start).config
    assert not same_weights(out, tmp_path)
    assert provenance(tmp_path)["training"]["init_from"] == f"{out.name}/model"
    assert re.fullmatch("[0-9a-f]{32}", provenance(tmp_path)["init_from_weights"])


def test_provenance_holds_no_path_of_the_machine(
    learnt: tuple[TrainingResult, Path], tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    _, out = learnt
    root = str(tmp_path / "root")
    config = brief(
        model={},
        init_from=str(out / "model"),
        cache=str(tmp_path / "cache"),
        corpus_root=root,
        max_steps=1,
        trainer={"default_root_dir": root},
    )
    train(config, tmp_path / "run", recipe=str(tmp_path / "recipe.yaml"))
    text = json.dumps(provenance(tmp_path / "run"))
    assert str(tmp_path) not in text
    assert str(out) not in text
    assert not re.search(r'"[~/]', text)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        # 16000 is also the default: asked for by name it counts
        ({"sample_rate": 16000}, "has sample_rate=8000, but the configuration asks for sample_ra"),
        ({"preset": "tiny"}, "has layers_per_stack=3, but the configuration asks for layers_per_s"),
        ({"mel": {}}, "has mel=None, but the configuration asks for mel={'sample_rate': 16000"),
    ],
)
def test_going_on_as_another_model_is_one_line_with_both_values(
    learnt: tuple[TrainingResult, Path],
    tmp_path: Path,
    brief: Callable[..., TrainingConfig],
    model: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        train(brief(model=model, init_from=str(learnt[1] / "model")), tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not os.listdir(tmp_path)


def test_what_the_model_says_itself_may_be_said_again(
    learnt: tuple[TrainingResult, Path], tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    assert train(brief(init_from=str(learnt[1] / "model")), tmp_path).steps == 3  # model=SMALL


# --- what goes wrong ---


def test_a_folder_with_a_model_is_left_alone(
    learnt: tuple[TrainingResult, Path], brief: Callable[..., TrainingConfig]
) -> None:
    _, out = learnt
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    with pytest.raises(ConfigError, match=f"out='{out}' already holds a model; choose another"):
        train(brief(), out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_run_does_not_lie_in_its_own_corpus(
    tmp_path: Path, tones: Path, brief: Callable[..., TrainingConfig]
) -> None:
    (tmp_path / "0.wav").write_bytes((tones / "tone-0.wav").read_bytes())
    for out in (tmp_path / "out", tmp_path):
        with pytest.raises(ConfigError, match="is inside corpus=.*; name a folder outside"):
            train(brief(corpus=str(tmp_path)), out)
    assert os.listdir(tmp_path) == ["0.wav"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": ""}, "corpus is not set; name a folder of audio files"),
        ({"corpus": "nowhere"}, "corpus='nowhere' is not a folder"),
        ({"model": {"stack": 3}}, "model.stack is unknown; did you mean stacks"),
        ({"model": {**SMALL, "speakers": 2}}, "model.speakers=2 without speaker_names"),
        ({"feedback_noise": 1.0}, "feedback_noise=1.0 needs a model with linear_prediction; set"),
        ({"init_from": "nowhere"}, "nowhere holds no config.json"),
        (
            {"trainer": {"acelerator": "cpu"}},
            "trainer={'acelerator': 'cpu'}: .* unexpected keyword",
        ),
        ({"trainer": {"accelerator": "abacus"}}, "trainer={'accelerator': 'abacus'}: "),
        ({"trainer": {"max_steps": 9}}, "trainer.max_steps is the run's own business; drop the k"),
        ({"trainer": {"limit_val_batches": 0}}, "is not for this; set validation_windows"),
        (
            {"trainer": {"precision": "bf16-true"}},
            "trainer.precision=bf16-true would round the sam",
        ),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, brief: Callable[..., TrainingConfig], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        train(brief(**changes), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("max_steps", "seen_at"), [(1, 1), (20, 9)])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_model(
    tmp_path: Path, brief: Callable[..., TrainingConfig], max_steps: int, seen_at: int
) -> None:
    """It is not finite from step 1 on, and looked at where it is logged, every 10 steps."""
    config = brief(learning_rate=1e30, gradient_clip=0.0, max_steps=max_steps)
    with pytest.raises(
        TrainingError, match=rf"loss is (nan|inf) at step {seen_at}; .* Lower learning_rate="
    ):
        train(config, tmp_path)
    kept = wavenet.load(tmp_path / "model")
    assert provenance(tmp_path)["steps"] == 0
    assert all(bool(parameter.isfinite().all()) for parameter in kept.parameters())
    assert wavenet.generate(kept, n_samples=20, seed=0).abs().max() > 0


def test_a_checkpoint_is_not_written_once_a_loss_was_not_finite(
    tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    """After step 1 the weights are finite, and so large that the next loss is not: seen at step 2,
    before its checkpoint is written, though nothing is logged before step 10."""
    wild = {"learning_rate": 1e30, "gradient_clip": 0.0, "max_steps": 20, "checkpoint_every": 1}
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) at step 2; the last good model"):
        train(brief(**wild), tmp_path)
    kept = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name[:13] for path in kept] == ["step-00000000", "step-00000001"]
    for path in kept:
        weights = torch.load(path, weights_only=True)["state_dict"].values()
        assert all(bool(weight.isfinite().all()) for weight in weights)


def test_bad_files_among_good_ones_are_counted_in_one_warning(
    tmp_path: Path,
    tones: Path,
    brief: Callable[..., TrainingConfig],
    caplog: pytest.LogCaptureFixture,
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for i in range(3):
        content = (tones / f"tone-{i}.wav").read_bytes()
        (corpus / f"{i}.wav").write_bytes(content)
        (corpus / f"bad-{i}.wav").write_text("no sound")
    soundfile.write(corpus / "cut.flac", np.random.default_rng(0).normal(0, 0.1, 50_000), 8000)
    (corpus / "cut.flac").write_bytes((corpus / "cut.flac").read_bytes()[:20_000])
    with caplog.at_level(logging.WARNING, "wavenet"):
        assert train(brief(corpus=str(corpus)), tmp_path / "out").steps == 3
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("left out 4 of 7 files: ")
    assert "bad-0.wav" in message
    assert message.endswith("; ...")
    assert "\n" not in message


def test_a_disk_too_full_for_the_model_leaves_no_part_of_it(
    tmp_path: Path, brief: Callable[..., TrainingConfig], files_of_at_most: Limit
) -> None:
    for _ in range(2):  # and what is left of the first attempt is not in the way of the second
        full = pytest.raises(WriteError, match="nothing was written: File too large;")
        with full as caught, files_of_at_most(8000):
            train(brief(), tmp_path)
        assert "model.safetensors" in str(caught.value)
        assert not list(tmp_path.rglob("*"))  # a run with more space is not refused


def test_a_disk_that_the_logs_fill_up_is_one_line_and_the_model_stays(
    tmp_path: Path,
    brief: Callable[..., TrainingConfig],
    capfd: pytest.CaptureFixture[str],
    files_of_at_most: Limit,
) -> None:
    model = {**SMALL, "residual_channels": 2, "skip_channels": 2, "distribution": "gaussian"}
    config = brief(model=model, max_steps=500, trainer={"log_every_n_steps": 1})
    full = pytest.raises(
        WriteError, match=f"{tmp_path}: logs cannot be written: File too large; fr"
    )
    # Model and first checkpoint are smaller, the logs of 500 steps are not.
    with full, files_of_at_most(25_000):
        train(config, tmp_path)
    assert wavenet.load(tmp_path / "model").sample_rate == 8000
    assert "Traceback" not in capfd.readouterr().err  # from the thread that writes them


# --- at every moment ---


def test_the_model_can_be_loaded_at_every_moment(
    tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    loaded, broken, over = [], [], threading.Event()

    def keep_loading() -> None:
        while not over.is_set():
            if not all((tmp_path / "model" / name).exists() for name in CHECKPOINT_FILES):
                continue
            try:
                loaded.append(wavenet.load(tmp_path / "model"))
            except ValueError as error:
                broken.append(error)

    reader = threading.Thread(target=keep_loading)
    reader.start()
    try:
        train(brief(max_steps=20, validate_every=1), tmp_path)
    finally:
        over.set()
        reader.join()
    assert not broken
    assert len(loaded) >= 5


def test_ctrl_c_keeps_the_model_and_what_ctrl_c_does(
    tmp_path: Path, brief: Callable[..., TrainingConfig]
) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def press_ctrl_c_after_some_steps() -> None:
        settings = tmp_path / "model" / "config.json"
        while not settings.exists() or provenance(tmp_path)["steps"] < 4:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press_ctrl_c_after_some_steps)
    presser.start()
    result = train(brief(max_steps=5000, validate_every=2), tmp_path)
    presser.join()
    assert result.interrupted
    assert 4 <= result.steps < 5000
    assert signal.getsignal(signal.SIGINT) is handler
    assert provenance(tmp_path)["steps"] == result.steps
    assert wavenet.load(tmp_path / "model").sample_rate == 8000
