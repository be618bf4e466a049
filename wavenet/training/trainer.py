"""Lightning set up for a run: trainer, loaders, and short messages from one process."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from wavenet.data import Batches, Windows
from wavenet.storage.files import WriteError
from wavenet.training.checkpoints import WholeFiles
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.interruption import SIGNALS

logger = logging.getLogger("wavenet")


def is_writer() -> bool:
    """Return whether this process writes files: of several that train together, one does."""
    return getattr(rank_zero_only, "rank", 0) == 0


class StepBar(TQDMProgressBar):
    """Closes its bars also when training ends early: messages then begin a new line."""

    _total: float | None = None

    @property
    def total_train_batches(self) -> int | float:
        """Number of batches that it counts to, of which a step may accumulate several."""
        return self.trainer.num_training_batches if self._total is None else self._total

    def count_to(self, batches: float) -> None:
        """Count to this many batches, or without an end to infinity."""
        self._total = batches
        if self._train_progress_bar is not None:
            self._train_progress_bar.total = None if math.isinf(batches) else int(batches)
            self._train_progress_bar.refresh()

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Count what remains of a resumed run."""
        super().on_train_epoch_start(trainer)
        if trainer.global_step:
            self.train_progress_bar.set_description(f"From step {trainer.global_step}")

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        """Close the bars."""
        for bar in ("val_progress_bar", "train_progress_bar"):
            with contextlib.suppress(TypeError):  # there is none yet
                getattr(self, bar).close()


def make_trainer(
    config: TrainingConfig,
    out: Path,
    callbacks: list[Callback],
    step: int,
    loggers: Sequence[Logger] = (),
) -> lightning.Trainer:
    """Return Lightning's trainer for a run, from a step on; TensorBoard's logger comes first.

    Raises:
        ConfigError: for settings that Lightning refuses or that the run decides.
    """
    for key, least in (("accumulate_grad_batches", 1), ("log_every_n_steps", 0)):
        value = config.trainer.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"trainer.{key}={value!r} must be a whole number, {least} or more")
    plugins: list[Any] = [WholeFiles()]
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        # Lightning would save amid a step when SLURM warns, and queue the job again by itself.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    settings: dict[str, Any] = {
        "max_steps": config.max_steps,
        "val_check_interval": _batches_between_validations(config),
        "check_val_every_n_epoch": None,  # the interval counts batches, whatever an epoch is
        "num_sanity_val_steps": 0,
        "gradient_clip_val": config.gradient_clip or None,
        "enable_checkpointing": False,
        # What was logged beyond the checkpoint that a run goes on from is logged anew.
        "logger": [
            TensorBoardLogger(
                out,
                name="logs",
                version="",
                purge_step=step if 0 < step < config.max_steps else None,
            ),
            *loggers,
        ],
        "callbacks": callbacks,
        "plugins": plugins,
        "use_distributed_sampler": False,  # windows are dealt by Batches
    }
    defaults = {"log_every_n_steps": min(10, config.max_steps), "enable_model_summary": False}
    for key in config.trainer:
        if key in settings:
            raise ConfigError(f"trainer.{key} is the run's own business; drop the key")
    if config.trainer.get("enable_progress_bar", True):
        callbacks.append(StepBar(refresh_rate=10))
    strategy = str(config.trainer.get("strategy", ""))
    if any(way in strategy for way in ("spawn", "fork", "notebook")):
        raise ConfigError(f"trainer.strategy={strategy} copies this process; use ddp")
    try:
        trainer = lightning.Trainer(**{**defaults, **settings, **config.trainer})
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise ConfigError(f"trainer={config.trainer}: {' '.join(str(error).split())}") from None
    if trainer.precision in ("16-true", "bf16-true"):
        raise ConfigError(
            f"trainer.precision={trainer.precision} would round the samples to be predicted; "
            "use bf16-mixed"
        )
    _require_work(config, trainer)
    return trainer


def _require_work(config: TrainingConfig, trainer: lightning.Trainer) -> None:
    """Refuse settings of Lightning's that leave nothing to do, or take over what ends a run."""
    for key in ("fast_dev_run", "overfit_batches", "max_epochs", "min_epochs", "min_steps"):
        if config.trainer.get(key):
            raise ConfigError(f"trainer.{key} is not for this; set max_steps and drop the key")
    if config.trainer.get("max_epochs") == 0:
        raise ConfigError("trainer.max_epochs=0 leaves nothing to train; drop the key")
    for key, what in (("limit_val_batches", "validate on"), ("limit_train_batches", "train on")):
        if not getattr(trainer, key) > 0:
            raise ConfigError(
                f"trainer.{key}={config.trainer[key]} leaves nothing to {what}; drop the key"
            )


def _batches_between_validations(config: TrainingConfig) -> int:
    accumulated: int = config.trainer.get("accumulate_grad_batches", 1)
    return min(config.validate_every, config.max_steps) * accumulated


def training_batches(
    windows: Windows, config: TrainingConfig, trainer: lightning.Trainer, step: int
) -> DataLoader[dict[str, Tensor]]:
    """This process's part of every step from ``step`` on."""
    per_step = trainer.accumulate_grad_batches
    batches = _dealt(windows, config.batch_size, per_step, trainer)
    # Of a run that is complete one batch stays: Lightning warns of none, and then makes no step.
    first = min(step * per_step, len(batches) - 1)
    return _loader(batches, config.workers, range(first, len(batches)))


def validation_batches(
    windows: Windows, config: TrainingConfig, trainer: lightning.Trainer
) -> DataLoader[dict[str, Tensor]]:
    """This process's part of all validation windows, in batches about as large as in training.

    Every process has as many: they meet after each.
    """
    processes, n = trainer.world_size, len(windows)
    if n < processes:
        raise ConfigError(
            f"validation_windows={n} is less than one for each of {processes} processes; raise it"
        )
    rows = math.ceil(config.batch_size / (processes * trainer.accumulate_grad_batches))
    turns = min(math.ceil(n / (processes * rows)), n // processes)
    return _loader(_dealt(windows, n, turns, trainer), workers=0)


def _dealt(windows: Windows, batch_size: int, per_step: int, trainer: lightning.Trainer) -> Batches:
    try:
        return Batches(
            windows,
            batch_size,
            per_step=per_step,
            process=trainer.global_rank,
            processes=trainer.world_size,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _loader(
    batches: Batches, workers: int, order: range | None = None
) -> DataLoader[dict[str, Tensor]]:
    return DataLoader(
        batches,
        batch_size=None,  # an item is one
        sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        # A forked worker shares the corpus, and sees when this process has been killed: a fork
        # server, the way of Python 3.14 and newer, would be between them and live on.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # or a loader draws its workers' seeds from the global one
    )


def _leave_signals(worker: int) -> None:
    """Ignore signals in a loader's worker: the main process answers them.

    It finishes its step and needs windows for that; when it ends, or dies, so do the workers.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


_CODE_AFTER_CTRL_C = 1
"""With which Lightning leaves the program."""


def leaving_ctrl_c(call: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Call Lightning, which answers ctrl-C by switching it off and leaving the program.

    Raises:
        KeyboardInterrupt: instead of that; ctrl-C works as before.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        call(*arguments, **options)
    except SystemExit as error:
        signal.signal(signal.SIGINT, handler)
        if error.code != _CODE_AFTER_CTRL_C:  # a handler's, for SIGTERM or SIGHUP
            raise
        raise KeyboardInterrupt from None


@contextlib.contextmanager
def full_disk_in_one_line(out: Path) -> Iterator[None]:
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
def mistakes_in_one_line(config: TrainingConfig) -> Iterator[None]:
    """Report in one line what Lightning finds wrong when it runs, and that memory is short."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(f"trainer={config.trainer}: {' '.join(str(error).split())}") from None
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ConfigError(
            f"not enough memory for batch_size={config.batch_size} windows of "
            f"window_s={config.window_s:g}; lower one of them, set recompute, or take a smaller "
            "model"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory is exhausted; on a CPU torch has no exception type for it."""
    by_type = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return by_type or "DefaultCPUAllocator" in str(error)


@contextlib.contextmanager
def reports_of_writer() -> Iterator[None]:
    """Let only the writer report, of several processes that train together."""
    level = logger.level
    if not is_writer():
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice on workers and hardware, which a small run cannot follow."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*GPU available but not used.*")
            warnings.filterwarnings("ignore", ".*is smaller than the logging interval.*")
            warnings.filterwarnings("ignore", ".*recommended to use `self.log.*sync_dist=True.*")
            warnings.filterwarnings("ignore", ".*isinstance.*LeafSpec.*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
