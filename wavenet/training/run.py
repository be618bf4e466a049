"""One training run, from a folder of audio to a folder with a model."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from wavenet.data import Corpus, WindowPlan, Windows
from wavenet.distributions import MuLaw, mu_law_decode, mu_law_encode
from wavenet.files import atomic_write
from wavenet.model import WaveNet, WaveNetConfig, load
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.module import WaveNetTraining

logger = logging.getLogger("wavenet")

VALIDATION_SEED = 1_000_003
"""Validation windows depend on it alone, so that runs with other seeds compare."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run ends with.

    Attributes:
        model_folder: the checkpoint.
        bits_before: validation bits per sample of the model it started from.
        bits_after: the same at the end.
        constant_bits: what the best constant distribution needs on the same windows.
        steps: optimiser steps made.
        interrupted: whether it was stopped by ctrl-C.
    """

    model_folder: Path
    bits_before: float
    bits_after: float
    constant_bits: float
    steps: int
    interrupted: bool


def train(config: TrainingConfig, out: str | Path) -> TrainingResult:
    """Train a model and keep ``out/model`` loadable from the first moment on.

    ``out`` gets ``model`` (the checkpoint), ``config.yaml`` (every setting of the run) and ``logs``
    (for TensorBoard).

    Raises:
        ValueError: if the configuration or the corpus cannot be used, or out holds a model already.
        TrainingError: if the loss is not finite; the last good model stays in ``out/model``.
        WriteError: if a file cannot be written.
    """
    out = Path(out)
    if (out / "model").exists():
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
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = WaveNet(model_config) if start is None else start.train()
    return _run(model, corpus, config, out)


def _run(model: WaveNet, corpus: Corpus, config: TrainingConfig, out: Path) -> TrainingResult:
    plan = WindowPlan.of(model, config.window_s)
    train_part, valid_part = corpus.split(config.validation_fraction)
    n_windows = config.max_steps * config.batch_size
    train_windows = Windows(train_part, plan, n_windows=n_windows, seed=config.seed)
    valid_windows = Windows(
        valid_part, plan, n_windows=config.validation_windows, seed=VALIDATION_SEED
    )
    constant = constant_bits(train_part, valid_windows)
    logger.info("best constant distribution: %.2f bits per sample", constant)
    export = _Export(model, out / "model", _provenance(corpus, config))
    module = WaveNetTraining(model, plan, config)
    batches = DataLoader(
        train_windows,
        config.batch_size,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
    )
    fixed = DataLoader(valid_windows, config.batch_size)
    with _quiet_lightning():
        trainer = _trainer(config, out, export)
        with atomic_write(out / "config.yaml") as path:
            path.write_text(yaml.safe_dump(asdict(config), sort_keys=False))
        export.save(step=0, bits=None)
        (before,) = trainer.validate(module, fixed, verbose=False)
        logger.info("validation before training: %.2f bits per sample", before["valid/bits"])
        interrupted = _fit(trainer, module, batches, fixed)
    export.save(step=trainer.global_step, bits=export.bits)
    return TrainingResult(
        export.folder,
        before["valid/bits"],
        export.bits if export.bits is not None else before["valid/bits"],
        constant,
        trainer.global_step,
        interrupted,
    )


def constant_bits(train_part: Corpus, windows: Windows) -> float:
    """Bits per sample of the best distribution that hears nothing: the mu-law histogram.

    Counted on the training files, measured on the validation windows' samples. A model that does
    not get well below this has learnt no more than how loud the corpus is.
    """
    law = MuLaw(256)

    def histogram(audio: list[Tensor]) -> Tensor:
        codes = [
            torch.bincount(mu_law_encode(x, law.classes), minlength=law.classes) for x in audio
        ]
        return torch.stack(codes).sum(0)

    whole = [utterance.audio(0, len(utterance.samples)) for utterance in train_part.utterances]
    logits = (histogram(whole) + 1.0).log()
    targets = []
    for i in range(len(windows)):
        item, length = windows[i], windows.plan.length
        inside = item["heard"][0, -length:] > 0
        targets.append(item["x"][0, -length:][inside])
    seen = histogram(targets)
    values = mu_law_decode(torch.arange(law.classes), law.classes)
    log_prob = law.log_prob(logits[None, :, None].expand(1, -1, law.classes), values[None])[0]
    return float(-(seen * log_prob).sum() / seen.sum() / math.log(2))


class _Export(Callback):
    """Keeps a loadable model on disk: the one of the last finite validation, or of the end."""

    def __init__(self, model: WaveNet, folder: Path, provenance: dict[str, Any]) -> None:
        self.model, self.folder, self.provenance = model, folder, provenance
        self.bits: float | None = None

    def save(self, *, step: int, bits: float | None) -> None:
        """Write the model, unless a weight is not finite."""
        if all(bool(parameter.isfinite().all()) for parameter in self.model.parameters()):
            found = {**self.provenance, "steps": step, "validation_bits_per_sample": bits}
            self.model.save(self.folder, provenance=found)

    def on_validation_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        """Called by Lightning."""
        bits = float(trainer.callback_metrics["valid/bits"])
        if trainer.state.fn != "fit" or not trainer.is_global_zero or not math.isfinite(bits):
            return
        self.bits = bits
        self.save(step=trainer.global_step, bits=bits)


def _continued(start: WaveNet, config: TrainingConfig) -> WaveNetConfig:
    """The configuration of the model to start from, unless the recipe asks for another."""
    wanted = config.model_config().to_dict() if config.model else {}
    named = WaveNetConfig.from_dict({}).to_dict()
    own = start.config.to_dict()
    for key, value in wanted.items():
        # speaker tables may differ between a recipe and what it made of a corpus
        if key not in ("speakers", "speaker_names") and value not in (own[key], named[key]):
            raise ConfigError(
                f"init_from={config.init_from!r} has {key}={own[key]}, but the configuration asks "
                f"for {key}={value}; drop the key or start from another model"
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


def _provenance(corpus: Corpus, config: TrainingConfig) -> dict[str, Any]:
    return {
        "corpus": {
            "folder": Path(config.corpus).name,
            "files": len(corpus.utterances),
            "seconds": round(corpus.duration_s, 3),
        },
        "command": " ".join(["wavenet", *sys.argv[1:]]),
        "training": asdict(config),
    }


def _trainer(config: TrainingConfig, out: Path, export: _Export) -> lightning.Trainer:
    settings: dict[str, Any] = {
        "max_steps": config.max_steps,
        "val_check_interval": min(config.validate_every, config.max_steps),
        "num_sanity_val_steps": 0,
        "gradient_clip_val": config.gradient_clip or None,
        "log_every_n_steps": min(10, config.max_steps),
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "logger": TensorBoardLogger(out, name="logs", version=""),
        "callbacks": [export, TQDMProgressBar(refresh_rate=10)],
    }
    try:
        return lightning.Trainer(**{**settings, **config.trainer})
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"trainer={config.trainer}: {error}") from None


def _fit(
    trainer: lightning.Trainer,
    module: WaveNetTraining,
    batches: DataLoader[Any],
    fixed: DataLoader[Any],
) -> bool:
    """Train; True if ctrl-C ended it, which Lightning reports by leaving the program."""
    try:
        trainer.fit(module, batches, fixed)
    except SystemExit:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning switched it off
        return True
    return False


def _progress(paths: Sequence[Path]) -> Iterable[Path]:
    return tqdm(paths, desc="reading", unit="file", leave=False)


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
