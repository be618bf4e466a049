"""One training run, from a folder of audio to a folder with a model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from wavenet.training import lightning_import  # noqa: F401  # isort: skip  (before Lightning)
from lightning.fabric.loggers import Logger
from lightning.pytorch.loggers import TensorBoardLogger

from wavenet.data import Corpus, WindowPlan, Windows
from wavenet.data.corpus import Progress
from wavenet.loading import load_wavenet
from wavenet.model import WaveNet
from wavenet.model.config import PRESETS, WaveNetConfig
from wavenet.model.exact import require_savable, require_wavenet
from wavenet.nn.hooks import unwrapped
from wavenet.storage.checkpoint import CONFIG_NAME, read_config
from wavenet.training.beginning import (
    alone,
    local_folder,
    require_place,
    undone_unless,
    write_settings,
)
from wavenet.training.checkpoints import (
    FOLDER,
    Checkpoint,
    Checkpoints,
    find_last,
    require_same_run,
)
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.constant import constant_bits
from wavenet.training.corpus import open_corpus, report
from wavenet.training.devices import is_writer, make_fabric, quiet_lightning
from wavenet.training.errors import TrainingError
from wavenet.training.export import Export, dependencies, provenance, weights_hash
from wavenet.training.extras import Extras
from wavenet.training.failures import (
    full_disk_in_one_line,
    short_memory_in_one_line,
    store_failure_in_one_line,
)
from wavenet.training.finetune import add_speakers
from wavenet.training.loaders import training_batches, validation_batches
from wavenet.training.module import WaveNetTraining
from wavenet.training.preview_clips import choose_pieces, corpus_level_db
from wavenet.training.sample_logger import SampleLogger
from wavenet.training.schedule import OptimizerFactory
from wavenet.training.sizes import check_sizes
from wavenet.training.trainer import Outputs, Trainer
from wavenet.training.trainer_settings import TrainerSettings

logger = logging.getLogger("wavenet")

VALIDATION_SEED = 1_000_003
"""Validation windows depend on it alone, so that runs with other seeds compare."""


@dataclass(frozen=True)
class TrainingResult:
    """Results of a run.

    >>> result = TrainingResult(Path("runs/me/model"), 16.0, 7.5, 9.0, 1000, interrupted=False)
    >>> result.constant_bits - result.bits_after
    1.5

    Attributes:
        model_folder: the checkpoint.
        bits_before: validation bits per sample of the model it started from.
        bits_after: the same at the end, or at the last validation of an interrupted run.
        constant_bits: what the best constant distribution needs on the same windows.
        steps: optimiser steps made.
        interrupted: whether ctrl-C, SIGTERM or SIGHUP stopped it; the model is kept.
    """

    model_folder: Path
    bits_before: float
    bits_after: float
    constant_bits: float
    steps: int
    interrupted: bool


def train(
    config: TrainingConfig,
    out: str | Path,
    *,
    recipe: str | None = None,
    resume: bool = False,
    progress: Progress = iter,
) -> TrainingResult:
    """Train a model and keep ``out/model`` loadable from the first moment on.

    A run that was killed at any moment and resumed ends with the same weights, averages and
    optimiser state, bit for bit, as one that never was: on the same CPU, with the same packages,
    as many threads, and any number of workers. On a GPU that holds as far as its kernels repeat
    themselves.

    >>> for i in range(3):
    ...     wavenet.audio.write_audio(f"wavs/{i}.wav", torch.randn(16000) / 10, 16000)
    >>> small = {"layers_per_stack": 4, "stacks": 1}
    >>> brief = {"max_steps": 2, "batch_size": 2, "validation_windows": 2, "listen_s": 0.01}
    >>> result = train(TrainingConfig("wavs", model=small, **brief), "runs/noise")
    >>> result.steps, sorted(path.name for path in result.model_folder.iterdir())
    (2, ['config.json', 'model.safetensors'])

    Args:
        config: see ``TrainingConfig``.
        out: folder that gets ``model`` (the model, to be used), ``config.yaml`` (every setting of
            the run), ``checkpoints`` (to go on from), ``logs`` (for TensorBoard) and ``samples``
            (what the model sounded like). Processes on several machines must all see it.
        recipe: file that the settings were read from, for the model's provenance.
        resume: go on from the last good checkpoint in ``out``, or begin if there is none.
        progress: wraps the recordings that are decoded, to show progress.

    Ctrl-C (SIGINT), SIGTERM and SIGHUP (a terminal that closes) end it after the step that is being
    made, with a checkpoint to go on from; a second one ends it at once.

    Raises:
        ValueError: if the configuration or the corpus cannot be used, out holds a model already,
            another process trains into it, or the run to resume is another one.
        TrainingError: if the loss is not finite, and the last good model stays in ``out/model``; or
            no checkpoint is whole.
        WriteError: if a file cannot be written.
        KeyboardInterrupt: for ctrl-C before the first step; later, the result is ``interrupted``.
    """
    where = local_folder(out)
    with alone(where):
        return _train(config, where, recipe, resume, progress)


def fit(
    model: WaveNet,
    data: str | Path | Corpus,
    out: str | Path,
    config: TrainingConfig | None = None,
    *,
    resume: bool = False,
    loggers: Sequence[Logger] = (),
    callbacks: Sequence[object] = (),
    optimizer: OptimizerFactory | None = None,
    progress: Progress = iter,
) -> TrainingResult:
    """Train a model of one's own; the folder ``out`` and its guarantees are those of ``train``.

    >>> for i in range(3):
    ...     wavenet.audio.write_audio(f"wavs/{i}.wav", torch.randn(16000) / 10, 16000)
    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig(layers_per_stack=4, stacks=1))
    >>> config = TrainingConfig(max_steps=2, batch_size=2, validation_windows=2, listen_s=0.01)
    >>> fit(model, "wavs", "runs/noise", config).steps
    2

    Args:
        model: trained in place, unless it learns speakers that it does not know: then a copy is.
            ``out/model`` has the average of its weights. Of one that ``torch.compile`` has wrapped
            the model itself is trained; ``config.compile`` compiles training.
        data: folder of audio, manifest or named corpus, as ``TrainingConfig.corpus``; or a corpus.
        out: folder that gets the model, logs and checkpoints.
        config: all other settings; those of model, corpus and first weights are not used.
        resume: go on from the last good checkpoint, given the same model, data and settings.
        loggers: of Lightning, beside TensorBoard's.
        callbacks: objects with the hooks of ``wavenet.training.callbacks``.
        optimizer: makes an optimizer of the parameters, such as
            ``functools.partial(torch.optim.AdamW, lr=1e-3)``; its learning rate is the peak of the
            schedule. Default, Adam with the configuration's rate.
        progress: wraps the recordings that are decoded, to show progress.

    Raises:
        TypeError: if model is no ``WaveNet``, or config no ``TrainingConfig``.
        ValueError: as ``train``, for a corpus at another sample rate than the model's, for a model
            on the meta device, and for one that ``WaveNet.save`` refuses.
        TrainingError, WriteError, KeyboardInterrupt: as ``train``.
    """
    require_wavenet(model)
    model = cast(WaveNet, unwrapped(model))
    require_savable(model)
    given, where = TrainingConfig() if config is None else config, local_folder(out)
    if not isinstance(given, TrainingConfig):
        raise TypeError(f"config is a {type(given).__name__}; give a TrainingConfig")
    name = "corpus" if isinstance(data, Corpus) else str(data)
    config = replace(given, model=model.config.to_dict(), corpus=name, init_from=None)
    extras = Extras(tuple(loggers), tuple(callbacks), optimizer).with_recipe(config, where)
    with alone(where):
        require_place(config, where, resume)
        check_sizes(config, model.config)
        make_fabric(config)  # refuses its settings before a corpus is decoded
        start_hash = weights_hash(model)
        corpus = (
            data if isinstance(data, Corpus) else open_corpus(config, model.sample_rate, progress)
        )
        if corpus.sample_rate != model.sample_rate:
            raise ConfigError(
                f"data is at {corpus.sample_rate} Hz and the model at {model.sample_rate} Hz; "
                "resample one of them"
            )
        report(corpus)
        learner, corpus = add_speakers(model.train(), corpus, config)
        return _run(_Job(learner, corpus, config, where, extras, resume, start_hash))


def _train(
    config: TrainingConfig, out: Path, recipe: str | None, resume: bool, progress: Progress
) -> TrainingResult:
    if not config.corpus:
        raise ConfigError("corpus is not set; name a folder of audio files")
    require_place(config, out, resume)
    start = None if config.init_from is None else load_wavenet(config.init_from)
    start_hash = None if start is None else weights_hash(start)
    model_config = config.model_config() if start is None else _continued(start, config)
    check_sizes(config, model_config)
    extras = Extras().with_recipe(config, out)
    make_fabric(config)  # likewise
    corpus = open_corpus(config, model_config.sample_rate, progress)
    report(corpus)
    if start is not None:
        start, corpus = add_speakers(start, corpus, config)
    elif config.speakers_by_folder:
        model_config = model_config.replace(
            speakers=len(corpus.speakers), speaker_names=corpus.speakers
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        model = WaveNet(model_config) if start is None else start.train()
    return _run(_Job(model, corpus, config, out, extras, resume, start_hash, recipe))


@dataclass(frozen=True)
class _Job:
    """A run that is ready to begin.

    Attributes:
        start_hash: ``weights_hash`` of the model it starts from, if any.
        recipe: file that the settings were read from.
    """

    model: WaveNet
    corpus: Corpus
    config: TrainingConfig
    out: Path
    extras: Extras
    resume: bool
    start_hash: str | None
    recipe: str | None = None


def _run(job: _Job) -> TrainingResult:
    model, corpus, config, out, extras = job.model, job.corpus, job.config, job.out, job.extras
    last = _last_checkpoint(out) if job.resume else None
    run = dependencies(model, corpus, config, job.start_hash)
    if last is not None:
        require_same_run(last.run, run)
    if config.feedback_noise and model.predictor is None:
        raise ConfigError(
            f"feedback_noise={config.feedback_noise} needs a model with linear_prediction; "
            "set model.linear_prediction, or feedback_noise to 0"
        )
    if config.augment and model.config.speakers and not model.config.unconditional:
        logger.warning(
            "augment=%g trains other pitches under the speakers' names; set model.unconditional to "
            "train on these windows without a speaker",
            config.augment,
        )
    plan = WindowPlan.of(model, config.window_s)
    parts = corpus.split(config.validation_fraction)
    train_windows, valid_windows = _windows(*parts, plan, config)
    constant = constant_bits(parts[0], valid_windows)
    logger.info("best constant distribution: %.2f bits per sample", constant)
    pieces = choose_pieces(parts[1], plan, config.listen_s)
    export = Export(out / "model", provenance(corpus, config, run, job.recipe))
    samples = SampleLogger(pieces, out, corpus_level_db(parts[1]))
    outputs = Outputs(export, Checkpoints(out / FOLDER, run), samples)
    step = 0 if last is None else last.step
    trainer: Trainer | None = None

    def trained() -> bool:
        made_steps = trainer is not None and trainer.global_step > 0
        return made_steps or last is not None or not is_writer()

    with (
        quiet_lightning(),
        undone_unless(out, trained, keep=TrainingError),
        full_disk_in_one_line(out),
        short_memory_in_one_line(config),
        store_failure_in_one_line(),
        torch.inference_mode(False),  # gradients, whatever the caller has switched off
        TrainerSettings.of(config).torch_settings(),
    ):
        loggers = (_tensorboard(out, step, config), *extras.loggers)
        fabric = make_fabric(config, loggers, extras.callbacks)
        fabric.launch()
        batches = training_batches(train_windows, config, fabric, step)
        fixed = validation_batches(valid_windows, config, fabric)
        module = WaveNetTraining(model, plan, config)
        with Trainer(fabric, module, config, outputs, extras, constant) as trainer:
            if last is None:
                trainer.export_model()  # before the settings: what has begun holds a model
                write_settings(config, out)
                trainer.validate(fixed)
                export.before = export.bits
                logger.info("validation before training: %.2f bits per sample", export.before)
            else:
                write_settings(config, out)
                outputs.checkpoints.load(trainer, last.path)
                trainer.restore_model()
                logger.info("going on from step %d: %s", step, last.path)
            interrupted = trainer.train(batches, fixed)
            steps = trainer.global_step
    return TrainingResult(export.folder, export.before, export.bits, constant, steps, interrupted)


def _windows(
    train_part: Corpus, valid_part: Corpus, plan: WindowPlan, config: TrainingConfig
) -> tuple[Windows, Windows]:
    """Return the windows of all steps, and those to validate on."""
    train_windows = Windows(
        train_part,
        plan,
        n_windows=config.max_steps * config.batch_size,
        seed=config.seed,
        drop=config.drop,
        augment=config.augment,
        feedback_noise=config.feedback_noise,
    ).shuffle_shards()
    n_valid = config.validation_windows
    return train_windows, Windows(valid_part, plan, n_windows=n_valid, seed=VALIDATION_SEED)


def _tensorboard(out: Path, step: int, config: TrainingConfig) -> TensorBoardLogger:
    """Return the run's own logger; what was logged from ``step`` on is logged anew."""
    purged = step if 0 < step < config.max_steps else None
    return TensorBoardLogger(out, name="logs", version="", purge_step=purged)


def _continued(start: WaveNet, config: TrainingConfig) -> WaveNetConfig:
    """The configuration of the model to start from, unless the recipe asks for another."""
    own, wanted = start.config.to_dict(), config.model_config().to_dict()
    for key in {**PRESETS.get(config.model.get("preset", ""), {}), **config.model}:
        if key != "preset" and wanted[key] != own[key]:
            raise ConfigError(
                f"init_from={config.init_from!r} has {key}={own[key]}, but the configuration asks "
                f"for {key}={wanted[key]}; drop the key or start from another model"
            )
    return start.config


def _last_checkpoint(out: Path) -> Checkpoint | None:
    """The one to go on from, if the run has begun."""
    last = find_last(out / FOLDER)
    if last is None and (out / "model" / CONFIG_NAME).exists():
        steps = read_config(out / "model")["provenance"].get("steps")
        if steps != 0:
            raise ConfigError(
                f"out={str(out)!r} holds a model of {steps} steps, but no checkpoint to go on "
                "from; choose another folder"
            )
    return last
