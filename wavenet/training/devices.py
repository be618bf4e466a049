"""Devices, precision and processes of a run, by Lightning Fabric.

Fabric sets no signal handlers: under SLURM it neither saves amid a step nor queues a job again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from wavenet.training import lightning_import  # noqa: F401  # isort: skip  (before Lightning)
import numpy as np
import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import Logger
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only

from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.trainer_settings import FABRIC, TrainerSettings

logger = logging.getLogger("wavenet")

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
REFUSALS = (
    *(TypeError, ValueError, RuntimeError, OverflowError, ImportError),
    MisconfigurationException,
)
"""Errors that Fabric raises for its arguments."""

PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed")


class Autocast(MixedPrecision):
    """Mixed precision that does not round its inputs: they hold the samples to be predicted."""

    def convert_input(self, data: Any) -> Any:
        """Return the batch as it is."""
        return data


def is_writer() -> bool:
    """Return whether this process writes files: of several that train together, one does."""
    return getattr(rank_zero_only, "rank", 0) == 0


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what Lightning reports about devices and processes."""
    names = ("lightning.pytorch", "lightning.fabric")  # of whichever was imported last
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@quiet_lightning()
def make_fabric(
    config: TrainingConfig, loggers: Sequence[Logger] = (), callbacks: Sequence[object] = ()
) -> Fabric:
    """Return Lightning Fabric for the devices and the precision of a run.

    Raises:
        ConfigError: for settings that the loop or Fabric refuses, or that do not suit a run.
    """
    TrainerSettings.of(config)
    given = {key: config.trainer[key] for key in FABRIC if config.trainer.get(key) is not None}
    strategy = given.get("strategy", "auto")
    if any(way in str(strategy) for way in ("spawn", "fork", "notebook")):
        raise ConfigError(f"trainer.strategy={strategy} copies this process; use ddp")
    if strategy not in STRATEGIES:
        raise ConfigError(f"trainer.strategy={strategy!r} is not for this; use ddp")
    extras: dict[str, Any] = {"loggers": list(loggers), "callbacks": list(callbacks)}
    try:
        fabric = Fabric(**given, **extras)
        precision = fabric.strategy.precision
        if isinstance(precision, MixedPrecision):
            half = precision.precision == "16-mixed"
            autocast = Autocast("16-mixed" if half else "bf16-mixed", precision.device)
            fabric = Fabric(**{**given, "precision": None}, **extras, plugins=[autocast])
    except REFUSALS as error:
        raise ConfigError(f"trainer={config.trainer}: {' '.join(str(error).split())}") from None
    if precision.precision not in PRECISIONS:
        raise ConfigError(
            f"trainer.precision={precision.precision} would round the samples to be predicted; "
            "use bf16-mixed"
        )
    return fabric


@contextlib.contextmanager
def seeded(device: torch.device, *words: int) -> Iterator[None]:
    """Within, what torch draws on the CPU and on this device depends on these numbers alone."""
    seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            torch.cuda.default_generators[device.index].manual_seed(seed)
        yield


def summed(fabric: Fabric, values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes."""
    total = fabric.all_reduce(values.detach().clone().to(fabric.device), reduce_op="sum")
    assert isinstance(total, torch.Tensor)  # as a tensor went in
    return total


def average_gradients(fabric: Fabric, parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace gradients by their means over all processes.

    One tensor holds them all, in the order of the parameters, so that sums are rounded in the same
    order before and after a resume. ``DistributedDataParallel`` lays out its buckets anew after the
    first step, also of a resumed run. A missing gradient counts as zero.
    """
    learnt = [one for one in parameters if one.requires_grad]
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in learnt]
    mean = fabric.all_reduce(torch.cat([one.flatten() for one in gradients]), reduce_op="mean")
    assert isinstance(mean, torch.Tensor)  # as a tensor went in
    for one, part in zip(learnt, mean.split([one.numel() for one in learnt]), strict=True):
        one.grad = part.view_as(one)
