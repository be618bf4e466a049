"""Loggers, callbacks and an optimizer that a run takes beside its own.

A recipe names loggers and callbacks by the paths of their classes, those of Lightning alone: a
recipe from elsewhere imports no other code. Python gives ``fit`` any; see
``wavenet.training.callbacks`` for what is called.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.loggers import Logger
from lightning.pytorch.callbacks import Callback

from wavenet.training.callbacks import check_callbacks
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.schedule import OptimizerFactory
from wavenet.values.text import short

MODULES = {"loggers": "lightning.pytorch.loggers", "callbacks": "lightning.pytorch.callbacks"}
BASES: dict[str, type] = {"loggers": Logger, "callbacks": Callback}


@dataclass(frozen=True)
class Extras:
    """Loggers, callbacks and an optimizer of a caller.

    Attributes:
        loggers: get all that TensorBoard gets, but for sounds and pictures.
        callbacks: called between steps; see ``wavenet.training.callbacks``.
        optimizer: in the place of Adam.
    """

    loggers: tuple[Logger, ...] = ()
    callbacks: tuple[Any, ...] = ()
    optimizer: OptimizerFactory | None = None

    def with_recipe(self, config: TrainingConfig, out: Path) -> Extras:
        """Add those that a configuration names.

        Raises:
            ConfigError: for a path or arguments that make none, a logger or an optimizer of another
                kind, or a callback that cannot work.
        """
        self._check_kinds()
        made = {
            key: [_make(key, entry, out / "logs") for entry in getattr(config, key)]
            for key in MODULES
        }
        callbacks = (*made["callbacks"], *self.callbacks)
        check_callbacks(callbacks)
        return Extras((*made["loggers"], *self.loggers), callbacks, self.optimizer)

    def _check_kinds(self) -> None:
        for logger in self.loggers:
            if isinstance(logger, type) or not hasattr(logger, "log_metrics"):
                raise ConfigError(
                    f"loggers: {short(logger)} is no logger; give objects, such as "
                    "lightning.pytorch.loggers.CSVLogger(folder)"
                )
        if self.optimizer is not None and not callable(self.optimizer):
            raise ConfigError(
                f"optimizer is a {type(self.optimizer).__name__}; give what makes one of the "
                "parameters, such as functools.partial(torch.optim.AdamW, lr=1e-3)"
            )


def _make(key: str, entry: str | dict[str, Any], folder: Path) -> Any:
    """An object of ``path`` or ``{path: {argument: value}}``; a logger writes to the folder."""
    path, arguments = (entry, {}) if isinstance(entry, str) else _only_item(key, entry)
    module, _, name = path.rpartition(".")
    kind = None
    if module == MODULES[key]:
        kind = getattr(importlib.import_module(module), name, None)
    if not inspect.isclass(kind) or not issubclass(kind, BASES[key]):
        raise ConfigError(
            f"{key}: {path[:80]!r} is no class of {MODULES[key]}; name one, or call "
            "wavenet.training.fit from Python"
        )
    if key == "loggers" and "save_dir" in inspect.signature(kind).parameters:
        arguments = {"save_dir": folder, **arguments}
        if name == "CSVLogger":
            arguments = {"name": "csv", **arguments}
    try:
        return kind(**arguments)
    except (TypeError, ValueError, RuntimeError, ModuleNotFoundError) as error:
        raise ConfigError(f"{key}: {path}: {' '.join(str(error).split())}") from None


def _only_item(key: str, entry: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    items = list(entry.items())
    if len(items) != 1 or not isinstance(items[0][1], dict):
        raise ConfigError(f"{key}: give a class's path, or `path: {{argument: value}}`")
    return str(items[0][0]), items[0][1]
