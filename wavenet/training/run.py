"""One training run, from a folder of audio to a folder with a model."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from wavenet.checkpoint import CONFIG_NAME, WEIGHTS_NAME
from wavenet.data import Corpus, WindowPlan, Windows
from wavenet.distributions import MuLaw, mu_law_decode, mu_law_encode
from wavenet.files import WriteError, atomic_write
from wavenet.model import WaveNet, load
from wavenet.model_config import PRESETS, WaveNetConfig
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.module import WaveNetTraining

logger = logging.getLogger("wavenet")

CHECKPOINT_FILES = (CONFIG_NAME, WEIGHTS_NAME)

VALIDATION_SEED = 1_000_003
"""Validation windows depend on it alone, so that runs with other seeds compare."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run ends with.

    Attributes:
        model_folder: the checkpoint.
        bits_before: validation bits per sample of the model it started from.
        bits_after: the same at the end, or at the last validation of an interrupted run.
        constant_bits: what the best constant distribution needs on the same windows.
        steps: optimiser steps made.
        interrupted: whether it was stopped by ctrl-C; the model is kept.
    """

    model_folder: Path
    bits_before: float
    bits_after: float
    constant_bits: float
    steps: int
    interrupted: bool


def train(config: TrainingConfig, out: str | Path, *, command: str | None = None) -> TrainingResult:
    """Train a model and keep ``out/model`` loadable from the first moment on.

    Args:
        config: see ``TrainingConfig``.
        out: folder that gets ``model`` (the checkpoint), ``config.yaml`` (every setting of the run)
            and ``logs`` (for TensorBoard).
        command: the command line behind the run, for the checkpoint's provenance.

    Raises:
        ValueError: if the configuration or the corpus cannot be used, or out holds a model already.
        TrainingError: if the loss is not finite; the last good model stays in ``out/model``.
        WriteError: if a file cannot be written.
        KeyboardInterrupt: for ctrl-C before the first step; later, the result says ``interrupted``.
    """
    out = Path(out)
    if _is_writer() and any((out / "model" / name).exists() for name in CHECKPOINT_FILES):
        raise ConfigError(f"out={str(out)!r} already holds a model; choose another folder")
    if not config.corpus:
        raise ConfigError("corpus is not set; name a folder of audio files")
    start = None if config.init_from is None else load(config.init_from)
    model_config = config.model_config() if start is None else _continued(start, config)
    corpus = Corpus.read(config.corpus, model_config.sample_rate, progress=_progress)
    _report(corpus)
    if config.speakers_by_folder and start is None:
        model_config = model_config.replace(
            speakers=len(corpus.speakers), speaker_names=corpus.speakers
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        model = WaveNet(model_config) if start is None else start.train()
    return _run(model, corpus, config, out, command)


def _run(
    model: WaveNet, corpus: Corpus, config: TrainingConfig, out: Path, command: str | None
) -> TrainingResult:
    plan = WindowPlan.of(model, config.window_s)
    train_part, valid_part = corpus.split(config.validation_fraction)
    n_valid = config.validation_windows
    valid_windows = Windows(valid_part, plan, n_windows=n_valid, seed=VALIDATION_SEED)
    constant = constant_bits(train_part, valid_windows)
    logger.info("best constant distribution: %.2f bits per sample", constant)
    export = _Export(model, out / "model", _provenance(corpus, config, command))
    module = WaveNetTraining(model, plan, config)
    interrupted = False
    with _quiet_lightning(), _full_disk_in_one_line(out):
        trainer = _trainer(config, out, export)
        n_train = config.max_steps * _windows_per_step(config, trainer)
        train_windows = Windows(train_part, plan, n_windows=n_train, seed=config.seed)
        batches = _loader(train_windows, config.batch_size, config.workers)
        fixed = _loader(valid_windows, config.batch_size, 0)
        export.begin(config, out)
        _leaving_ctrl_c(trainer.validate, module, fixed, verbose=False)
        before = export.bits
        if math.isnan(before):
            raise ConfigError(f"trainer={config.trainer} leaves nothing to validate on")
        logger.info("validation before training: %.2f bits per sample", before)
        try:
            _leaving_ctrl_c(trainer.fit, module, batches, fixed)
            if export.step != trainer.global_step:  # the last steps were less than validate_every
                _leaving_ctrl_c(trainer.validate, module, fixed, verbose=False)
        except KeyboardInterrupt:
            interrupted = True
            if export.step != trainer.global_step:
                export.save(step=trainer.global_step)
    return TrainingResult(
        export.folder, before, export.bits, constant, trainer.global_step, interrupted
    )


def constant_bits(train_part: Corpus, windows: Windows) -> float:
    """Bits per sample of the best distribution that hears nothing: the mu-law histogram.

    Counted on the training files, measured on the validation windows' samples. A model that does
    not get well below this has learnt no more than how loud the corpus is.
    """
    law = MuLaw(256)
    logits = (_class_counts(law, (part.samples for part in train_part.utterances)) + 1).log()
    places = (windows.place(i) for i in range(len(windows)))
    length = windows.plan.length
    seen = _class_counts(law, (part.samples[start : start + length] for part, start in places))
    values = mu_law_decode(torch.arange(law.classes), law.classes)
    log_prob = law.log_prob(logits[None, :, None].expand(1, -1, law.classes), values[None])[0]
    return float(-(seen * log_prob).sum() / seen.sum() / math.log(2))


def _class_counts(law: MuLaw, parts: Iterable[np.ndarray]) -> Tensor:
    """How many of the int16 samples fall into each class, float64 ``[classes]``."""
    counts = np.zeros(65536)
    for samples in parts:
        counts += np.bincount(samples.astype(np.int64) + 32768, minlength=65536)
    codes = mu_law_encode(torch.arange(-32768, 32768) / 32768, law.classes)
    classes = torch.zeros(law.classes, dtype=torch.float64)
    return classes.index_add(0, codes, torch.from_numpy(counts))


def _is_writer() -> bool:
    """Whether files are this process's to write: of several that train together, one."""
    return getattr(rank_zero_only, "rank", 0) == 0


class _Export(Callback):
    """Keeps a loadable model on disk: the one of the last validation, or of an interruption.

    Attributes:
        step, bits: of the last validation; NaN before the first.
    """

    def __init__(self, model: WaveNet, folder: Path, provenance: dict[str, Any]) -> None:
        self.model, self.folder, self.provenance = model, folder, provenance
        self.step = 0
        self.bits = math.nan

    def begin(self, config: TrainingConfig, out: Path) -> None:
        """Write the settings and the model that training starts from."""
        if _is_writer():
            with atomic_write(out / "config.yaml") as path:
                path.write_text(yaml.safe_dump(asdict(config), sort_keys=False))
        self.save(step=0)

    def save(self, *, step: int, bits: float | None = None) -> None:
        """Write the model, unless a weight is not finite."""
        finite = all(bool(parameter.isfinite().all()) for parameter in self.model.parameters())
        if _is_writer() and finite:
            found = {**self.provenance, "steps": step, "validation_bits_per_sample": bits}
            self.model.save(self.folder, provenance=found)

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Called by Lightning; a validation that is not finite has ended the run before."""
        self.step, self.bits = trainer.global_step, float(trainer.callback_metrics["valid/bits"])
        self.save(step=self.step, bits=self.bits)


class _Progress(TQDMProgressBar):
    """Closes its bars also when training ends early: what is said then begins a new line."""

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Called by Lightning."""
        for bar in ("val_progress_bar", "train_progress_bar"):
            with contextlib.suppress(TypeError):  # there is none yet
                getattr(self, bar).close()


def _continued(start: WaveNet, config: TrainingConfig) -> WaveNetConfig:
    """The configuration of the model to start from, unless the recipe asks for another."""
    own, wanted = start.config.to_dict(), config.model_config().to_dict()
    for key in {**PRESETS.get(config.model.get("preset", ""), {}), **config.model}:
        if key != "preset" and wanted[key] != own[key]:
            raise ConfigError(
                f"init_from={config.init_from!r} has {key}={own[key]}, but the configuration asks "
                f"for {key}={wanted[key]}; drop the key or start from another model"
            )
    if config.speakers_by_folder and not start.config.speaker_names:
        raise ConfigError(
            f"speakers_by_folder is set, but the model init_from={config.init_from!r} knows no "
            "speakers by name; drop the key or start from another model"
        )
    return start.config


def _report(corpus: Corpus) -> None:
    """Say what will be trained on, and what was left out."""
    n_files, minutes = len(corpus.utterances), corpus.duration_s / 60
    logger.info("corpus: %d files, %.1f minutes at %d Hz", n_files, minutes, corpus.sample_rate)
    if corpus.skipped:
        total = n_files + len(corpus.skipped)
        shown = "; ".join(corpus.skipped[:3]) + ("; ..." if len(corpus.skipped) > 3 else "")
        logger.warning("left out %d of %d files: %s", len(corpus.skipped), total, shown)


def _provenance(corpus: Corpus, config: TrainingConfig, command: str | None) -> dict[str, Any]:
    return {
        "corpus": {
            "folder": Path(config.corpus).resolve().name,
            "files": len(corpus.utterances),
            "seconds": round(corpus.duration_s, 3),
        },
        "command": command,
        "training": asdict(config),
    }


def _trainer(config: TrainingConfig, out: Path, export: _Export) -> lightning.Trainer:
    settings: dict[str, Any] = {
        "max_steps": config.max_steps,
        "val_check_interval": _batches_between_validations(config),
        "check_val_every_n_epoch": None,  # the interval counts batches, whatever an epoch is
        "num_sanity_val_steps": 0,
        "gradient_clip_val": config.gradient_clip or None,
        "enable_checkpointing": False,
        "logger": TensorBoardLogger(out, name="logs", version=""),
        "callbacks": [export],
    }
    defaults = {"log_every_n_steps": min(10, config.max_steps), "enable_model_summary": False}
    for key in config.trainer:
        if key in settings:
            raise ConfigError(f"trainer.{key} is the run's own business; drop the key")
    if config.trainer.get("enable_progress_bar", True):
        settings["callbacks"].append(_Progress(refresh_rate=10))
    try:
        trainer = lightning.Trainer(**{**defaults, **settings, **config.trainer})
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"trainer={config.trainer}: {' '.join(str(error).split())}") from None
    if trainer.precision in ("16-true", "bf16-true"):
        raise ConfigError(
            f"trainer.precision={trainer.precision} would round the samples to be predicted; "
            "use bf16-mixed"
        )
    return trainer


def _batches_between_validations(config: TrainingConfig) -> int:
    accumulated: int = config.trainer.get("accumulate_grad_batches", 1)
    return min(config.validate_every, config.max_steps) * accumulated


def _windows_per_step(config: TrainingConfig, trainer: lightning.Trainer) -> int:
    return config.batch_size * trainer.accumulate_grad_batches * trainer.world_size


def _loader(windows: Windows, batch_size: int, workers: int) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(
        windows,
        batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # or a loader draws its workers' seeds from the global one
    )


def _leaving_ctrl_c(call: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Call Lightning, which answers ctrl-C by switching it off and leaving the program.

    Raises:
        KeyboardInterrupt: instead of that; ctrl-C works as before.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        call(*arguments, **options)
    except SystemExit:
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _progress(paths: Sequence[Path]) -> Iterable[Path]:
    return tqdm(paths, desc="reading", unit="file", leave=False, disable=None)  # None: no terminal


@contextlib.contextmanager
def _full_disk_in_one_line(out: Path) -> Iterator[None]:
    """Name the folder when the logs meet a full disk, and keep their thread's traceback quiet."""
    show = threading.excepthook

    def show_others(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):  # those reach the main thread, too
            show(arguments)

    threading.excepthook = show_others
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise WriteError(f"{out}: logs cannot be written: {error.strerror}; free some space") from (
            error
        )
    finally:
        threading.excepthook = show


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's advice on workers and hardware, which a small run cannot follow."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*GPU available but not used.*")
            warnings.filterwarnings("ignore", ".*isinstance.*LeafSpec.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
