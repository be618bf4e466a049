"""Settings below ``trainer`` in a recipe: those of the loop, and those of Lightning Fabric."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import torch

from wavenet.training.config import ConfigError, TrainingConfig

FABRIC = ("accelerator", "strategy", "devices", "num_nodes", "precision")
"""Passed to ``lightning.fabric.Fabric``, which describes them."""

WITHOUT_EFFECT = ("default_root_dir", "enable_model_summary")
"""Keys of recipes written for Lightning's Trainer; a run writes to its own folder alone."""

_DECIDED = (
    *("callbacks", "check_val_every_n_epoch", "enable_checkpointing", "gradient_clip_val"),
    *("logger", "loggers", "max_steps", "num_sanity_val_steps", "plugins"),
    *("use_distributed_sampler", "val_check_interval"),
)
_STEPS = ("fast_dev_run", "max_epochs", "min_epochs", "min_steps", "limit_train_batches")
REFUSED = {
    **dict.fromkeys(_DECIDED, "the run's own business"),
    **dict.fromkeys(_STEPS, "not for this; set max_steps"),
    **dict.fromkeys(
        ("limit_val_batches", "overfit_batches"), "not for this; set validation_windows"
    ),
    "max_time": "not for this; set minutes",
    "gradient_clip_algorithm": "not for this; gradient_clip is a norm",
    "profiler": "not for this; use torch.profiler",
}
"""Keys of Lightning's Trainer that other settings of a run decide."""


@dataclass(frozen=True)
class TrainerSettings:
    """Settings of the loop; the defaults of ``log_every_n_steps`` depend on the run.

    Attributes:
        accumulate_grad_batches: compute a step in this many parts, one after the other.
        log_every_n_steps: log numbers after this many steps; 0 for never.
        enable_progress_bar: show a progress bar.
        deterministic: let torch choose repeatable algorithms: true, false or warn.
        benchmark: let cuDNN time its algorithms and choose the fastest.
        detect_anomaly: look for NaN in every backward pass, which is slow.
    """

    accumulate_grad_batches: int = 1
    log_every_n_steps: int = 10
    enable_progress_bar: bool = True
    deterministic: bool | str = False
    benchmark: bool = False
    detect_anomaly: bool = False

    @classmethod
    def of(cls, config: TrainingConfig) -> TrainerSettings:
        """Return the loop's settings in ``config.trainer``.

        Raises:
            ConfigError: for a key that is unknown, or that another setting decides, or a value of
                a wrong type.
        """
        known = [field.name for field in fields(cls)]
        for key in config.trainer:
            if key not in (*known, *FABRIC, *WITHOUT_EFFECT):
                _refuse(key, config, known)
        given = {key: value for key, value in config.trainer.items() if value is not None}
        own = {key: given[key] for key in known if key in given}
        settings = cls(**{"log_every_n_steps": min(10, config.max_steps), **own})
        for key, least in (("accumulate_grad_batches", 1), ("log_every_n_steps", 0)):
            value = getattr(settings, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    f"trainer.{key}={value!r} must be a whole number, {least} or more"
                )
        for key, value in asdict(settings).items():
            may_be_bool = isinstance(value, bool) or (key, value) == ("deterministic", "warn")
            if isinstance(getattr(cls, key), bool) and not may_be_bool:
                kind = type(value).__name__
                raise ConfigError(f"trainer.{key}={value!r}: expects a bool, but got {kind}")
        return settings

    @contextlib.contextmanager
    def torch_settings(self) -> Iterator[None]:
        """Set torch's global switches within this block, and put them back after it."""
        strict = torch.are_deterministic_algorithms_enabled()
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
        benchmark = torch.backends.cudnn.benchmark
        try:
            if self.deterministic:
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
                torch.use_deterministic_algorithms(True, warn_only=self.deterministic == "warn")
            torch.backends.cudnn.benchmark = benchmark or self.benchmark
            with torch.autograd.set_detect_anomaly(self.detect_anomaly):
                yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warns)
            torch.backends.cudnn.benchmark = benchmark


def _refuse(key: str, config: TrainingConfig, known: list[str]) -> None:
    """Raise ConfigError for a key that has no place below ``trainer``."""
    if key in REFUSED:
        raise ConfigError(f"trainer.{key} is {REFUSED[key]}; drop the key")
    names = (*FABRIC, *known)
    near = difflib.get_close_matches(str(key)[:100], names, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    raise ConfigError(f"trainer={config.trainer}: {key!r} is an unexpected keyword; {remedy}")
