"""Data loaders of a run: every process gets its part of each step, and of the validation."""

from __future__ import annotations

import math
import signal
import sys
from typing import cast

import torch
from lightning.fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from wavenet.data import Batches, Windows
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.interruption import SIGNALS
from wavenet.training.trainer_settings import TrainerSettings

Loader = DataLoader[dict[str, Tensor]]


def training_batches(windows: Windows, config: TrainingConfig, fabric: Fabric, step: int) -> Loader:
    """Return this process's part of every step from ``step`` on."""
    per_step = TrainerSettings.of(config).accumulate_grad_batches
    batches = _dealt(windows, config.batch_size, per_step, fabric)
    return _loader(batches, fabric, config.workers, range(step * per_step, len(batches)))


def validation_batches(windows: Windows, config: TrainingConfig, fabric: Fabric) -> Loader:
    """Return this process's part of all validation windows, in batches about as in training.

    Every process has as many batches: they meet after each.
    """
    processes, n = fabric.world_size, len(windows)
    if n < processes:
        raise ConfigError(
            f"validation_windows={n} is less than one for each of {processes} processes; raise it"
        )
    per_step = TrainerSettings.of(config).accumulate_grad_batches
    rows = math.ceil(config.batch_size / (processes * per_step))
    turns = min(math.ceil(n / (processes * rows)), n // processes)
    return _loader(_dealt(windows, n, turns, fabric), fabric)


def _dealt(windows: Windows, batch_size: int, per_step: int, fabric: Fabric) -> Batches:
    try:
        return Batches(
            windows,
            batch_size,
            per_step=per_step,
            process=fabric.global_rank,
            processes=fabric.world_size,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _loader(
    batches: Batches, fabric: Fabric, workers: int = 0, order: range | None = None
) -> Loader:
    loader = DataLoader(
        batches,
        batch_size=None,  # an item is one
        sampler=order,
        num_workers=workers,
        # A forked worker shares the corpus, and sees when this process has been killed: a fork
        # server, the way of Python 3.14 and newer, would be between them and live on.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # or a loader draws its workers' seeds from the global one
    )
    placed = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    return cast(Loader, placed)


def _leave_signals(worker: int) -> None:
    """Ignore signals in a loader's worker: the main process answers them.

    It finishes its step and needs windows for that; when it ends, or dies, so do the workers.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
