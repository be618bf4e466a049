"""Checkpoints to go on from: weights, averages, optimiser and schedule, between two steps.

``DIR/checkpoints/step-00000500-1f0c...ckpt`` is what Lightning saves, with ``torch.save``, and its
name has its SHA-256: a file that is torn, or has one bit wrong, is known and passed over. It is
written beside, flushed and renamed; Lightning's own writer goes by the folder for temporary files,
from where a move to another file system is no single step. The last two are kept. Nothing is
unpickled.

What Lightning would save beside that are its loops' counters. Their values depend on the hook that
saved them, and a half-done epoch is resumed by rules of its own. None of that is needed: windows
are numbered, so a resumed run is an epoch of the batches that remain, and its counters go on from
the step. Nothing else is random in a step, so it ends with the same bits.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import pickle
import re
import zipfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.callbacks import Callback

from wavenet.model.config import WaveNetConfig
from wavenet.storage.files import atomic_write, is_temporary
from wavenet.training.beginning import OWN_FOLDERS
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.errors import TrainingError
from wavenet.training.module import WaveNetTraining

logger = logging.getLogger("wavenet")

FOLDER = "checkpoints"
KEPT = 2
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{32})\.ckpt")

FREE = frozenset(
    {
        "cache",
        "corpus",  # its content is compared, not its location
        "corpus_root",
        "download",
        "init_from",  # likewise
        "validation_windows",
        "validate_every",
        "checkpoint_every",
        "listen_every",
        "listen_s",
        "loggers",
        "workers",
        "trainer.default_root_dir",
        "trainer.detect_anomaly",
        "trainer.enable_model_summary",
        "trainer.enable_progress_bar",
        "trainer.limit_val_batches",
        "trainer.log_every_n_steps",
        "trainer.max_time",
        "trainer.profiler",
    }
)
"""Keys that may change when a run goes on: no weight depends on them."""

ROUNDING = frozenset(
    {
        "compile",
        "recompute",
        "trainer.accelerator",
        "trainer.accumulate_grad_batches",
        "trainer.benchmark",
        "trainer.deterministic",
        "trainer.devices",
        "trainer.num_nodes",
        "trainer.strategy",
    }
)
"""Keys that change which machine does the same steps: the same up to rounding, with a warning."""


@dataclass(frozen=True)
class Checkpoint:
    """One that can be gone on from.

    Attributes:
        path: of the file.
        step: optimiser steps made.
        run: what the run depends on: the configuration, with the whole model's in its place, and
            the corpus.
    """

    path: Path
    step: int
    run: dict[str, Any]


class WholeFiles(CheckpointIO):
    """Writes and reads Lightning's checkpoints; see the module."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write ``path`` with the content's hash at the end of its name.

        Raises:
            WriteError: if it cannot be written; nothing is there then.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getbuffer()
        target = Path(f"{path}-{_digest(content)}.ckpt")
        with atomic_write(target) as temporary:
            temporary.write_bytes(content)
        folder = os.open(target.parent, os.O_RDONLY)  # the name, too, before older ones go
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; tensors and plain values, no code."""
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one."""
        Path(path).unlink(missing_ok=True)


class Checkpoints(Callback):
    """Saves between two steps: every ``every`` steps, at the beginning, the end, and when asked.

    It saves before the first batch of a step: by then everything that belongs to the step before
    is done, validation included.

    Args:
        folder: for the files.
        every: steps.
        run: what the run depends on, in plain values.
    """

    def __init__(self, folder: Path, every: int, run: dict[str, Any]) -> None:
        self.folder, self.every, self.run = folder, every, run
        self._saved: int | None = None

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save where a step is due."""
        due = trainer.global_step % self.every == 0
        if due and between_steps(trainer, trainer.fit_loop.batch_idx):
            self.save(trainer)

    def on_train_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save the last step."""
        if between_steps(trainer, trainer.fit_loop.batch_idx + 1):
            self.save(trainer)

    def save(self, trainer: lightning.Trainer, *, again: bool = False) -> None:
        """Write the state of this step, unless it is there.

        Args:
            trainer: of the run.
            again: write it also if it is there, as something of it has changed.

        Raises:
            TrainingError: if a loss so far, a weight or a moment of the optimiser is not finite.
        """
        step, module = trainer.global_step, trainer.lightning_module
        if step == self._saved and not again:
            return
        assert isinstance(module, WaveNetTraining)
        module.require_finite()
        trainer.save_checkpoint(self.folder / f"step-{step:08d}")
        self._saved = step
        if trainer.is_global_zero:
            _keep_last(self.folder, step)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: object, checkpoint: dict[str, Any]
    ) -> None:
        """Replace the loops' counters by what the run depends on."""
        del checkpoint["loops"]
        checkpoint["run"] = self.run

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: object, checkpoint: dict[str, Any]
    ) -> None:
        """Let Lightning's counters go on from the step."""
        step, loop = checkpoint["global_step"], trainer.fit_loop.epoch_loop
        loop.automatic_optimization.optim_progress.optimizer.step.total.ready = step
        loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
        loop._batches_that_stepped = step  # what loggers count by
        for name in ("ready", "started", "processed", "completed"):  # validation is due by these
            setattr(loop.batch_progress.total, name, step * trainer.accumulate_grad_batches)
        self._saved = step


def find_last(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; None if there is no checkpoint at all.

    Raises:
        TrainingError: if there are some, and none of them is whole.
    """
    paths = _newest_first(folder)
    for path in paths:
        found = _read(path)
        if found is not None:
            return found
        logger.warning("%s is damaged; looking for the one before", path)
    if paths:
        raise TrainingError(
            f"none of the {len(paths)} checkpoints in {folder} is whole; train anew into another "
            "folder"
        )
    return None


def require_same_run(then: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that what a run depends on has not changed, or only in where it is computed.

    Raises:
        ConfigError: for the first key that changed, with both values.
    """
    before, after = _flat(_completed(then, now)), _flat(now)
    for key in sorted(before.keys() | after.keys()):
        was, found = before.get(key), after.get(key)
        if was == found or key in FREE:
            continue
        if key not in ROUNDING:
            raise ConfigError(
                f"the run to go on with has {key}={was}, but the configuration now has "
                f"{key}={found}; set it back, or train into another folder"
            )
        logger.warning(
            "%s was %s and is now %s: the same steps, rounded otherwise", key, was, found
        )


def _completed(then: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """A run of an older version of this package, with the defaults of the keys added since.

    Raises:
        ConfigError: if it does not know its first weights, and they may be others now.
    """
    if "init_from_weights" not in then:
        if then.get("init_from") != now["init_from"]:
            raise ConfigError(
                f"the run to go on with has init_from={then.get('init_from')}, but the "
                f"configuration now has init_from={now['init_from']}; set it back, or train into "
                "another folder"
            )
        then = {**then, "init_from_weights": now["init_from_weights"]}
    defaults = json.loads(json.dumps(asdict(TrainingConfig())))
    model = {**WaveNetConfig().to_dict(), **then["model"]}
    return {**defaults, **then, "model": model}


def remove_unfinished(out: Path) -> None:
    """Take away temporary files that a killed process of this run has left in its folders."""
    folders = [out, *(out / name for name in OWN_FOLDERS), *(out / "samples").glob("*/")]
    for path in (path for folder in folders for path in folder.glob(".*.tmp")):
        if is_temporary(path.name):
            with suppress(OSError):
                path.unlink()


def between_steps(trainer: lightning.Trainer, batches_done: int) -> bool:
    """Return whether no batch of the next step has been accumulated yet."""
    return batches_done % trainer.accumulate_grad_batches == 0


def _keep_last(folder: Path, step: int) -> None:
    """Keep those up to the one just saved; remove damaged ones of this or a later step, too."""
    kept: set[int] = set()
    for path in _newest_first(folder):
        its_step = int(path.name.split("-")[1])
        if its_step > step or its_step in kept or len(kept) == KEPT:
            path.unlink(missing_ok=True)
        else:
            kept.add(its_step)


def _newest_first(folder: Path) -> list[Path]:
    found = []
    for path in folder.glob("*.ckpt"):
        match = _NAME.fullmatch(path.name)
        with suppress(FileNotFoundError):  # the run that owns it may take it away meanwhile
            if match is not None:
                found.append((int(match[1]), path.stat().st_mtime_ns, path))
    return [path for _, _, path in sorted(found, reverse=True)]


def _read(path: Path) -> Checkpoint | None:
    """Read a checkpoint; None if it is damaged."""
    match = _NAME.fullmatch(path.name)
    assert match is not None  # as it was listed
    try:
        content = path.read_bytes()
        if _digest(content) != match[2]:
            return None
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return Checkpoint(path, loaded["global_step"], loaded["run"])
    except (OSError, RuntimeError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None


def _digest(content: bytes | memoryview) -> str:
    """Half of the SHA-256: short enough for a name, and far beyond chance."""
    return hashlib.sha256(content).hexdigest()[:32]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` as ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
