"""Checkpoints to go on from: weights, average, optimizer and step, between two steps.

``DIR/checkpoints/step-00000500-1f0c...ckpt`` is written with ``torch.save``, and its name has its
SHA-256: a file that is torn, or has one bit wrong, is known and passed over. It is written beside,
flushed and renamed. The last two are kept. Nothing is unpickled.

Windows are numbered, the learning rate is a function of the step, and what else is drawn in a step
depends on the seed and the step alone: a resumed run ends with the same bits. The keys are those of
Lightning's Trainer, which wrote older checkpoints: where weights are averaged, ``state_dict`` is
the average and ``current_model_state`` what is trained.
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
from typing import TYPE_CHECKING, Any

import torch

from wavenet.model.config import WaveNetConfig
from wavenet.storage.files import atomic_write
from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.errors import TrainingError

if TYPE_CHECKING:
    from wavenet.training.trainer import Trainer

logger = logging.getLogger("wavenet")

FOLDER = "checkpoints"
KEPT = 2
SCALE = "MixedPrecision"
"""Key of the scale of 16-bit losses."""
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{32})\.ckpt")

FREE = frozenset(
    {
        "cache",
        "cache_gb",  # what depends on it is in the content of the corpus
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
        "trainer.limit_val_batches",  # of Lightning's Trainer, which began older runs
        "trainer.log_every_n_steps",
        "trainer.max_time",  # likewise
        "trainer.profiler",  # likewise
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


class Checkpoints:
    """Saves all that a run goes on from.

    Args:
        folder: for the files.
        run: what the run depends on, in plain values.
    """

    def __init__(self, folder: Path, run: dict[str, Any]) -> None:
        self.folder, self.run = folder, run
        self._saved: int | None = None

    def save(self, trainer: Trainer, *, again: bool = False) -> None:
        """Write the state of this step, unless it is there; to be called by every process.

        Args:
            trainer: of the run.
            again: write it also if it is there, as something of it has changed.

        Raises:
            TrainingError: if a loss so far, a weight or a moment of the optimizer is not finite.
            WriteError: if it cannot be written; nothing is there then.
        """
        step = trainer.global_step
        if step == self._saved and not again:
            return
        trainer.throughput.pause()
        trainer.require_finite()
        if trainer.is_global_zero:
            state = {**_state(trainer), "run": self.run}
            _require_readable(state["callbacks"])
            _write(self.folder / f"step-{step:08d}", state)
            _keep_last(self.folder, step)
        self._saved = step

    def load(self, trainer: Trainer, path: Path) -> None:
        """Let a run go on from a checkpoint."""
        _restore(trainer, torch.load(path, map_location="cpu", weights_only=True))
        self._saved = trainer.global_step


def _state(trainer: Trainer) -> dict[str, Any]:
    """Return all that changes from step to step."""
    weights, scale = trainer.module.state_dict(), trainer.strategy.precision.state_dict()
    state: dict[str, Any] = {
        "global_step": trainer.global_step,
        "state_dict": weights,
        "optimizer_states": [trainer.optimizer.state_dict()],
        "callbacks": {
            name: one.state_dict() for name, one in _named(trainer) if hasattr(one, "state_dict")
        },
    }
    if scale:
        state[SCALE] = scale
    if trainer.average is not None:
        averages = trainer.average.model.state_dict()
        state["state_dict"] = {f"model.{name}": value for name, value in averages.items()}
        state["current_model_state"] = weights
        state["averaging_state"] = {"n_averaged": torch.tensor(trainer.average.updates)}
    if trainer.time_limit is not None:
        decays_over = trainer.schedule.decays_over
        state["time"] = {
            **trainer.time_limit.state_dict(),
            "decays_over": None if decays_over is None else list(decays_over),
        }
    return state


def _restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Go on from what ``_state`` returned, in this or another process."""
    trainer.global_step = state["global_step"]
    trainer.module.load_state_dict(state.get("current_model_state", state["state_dict"]))
    trainer.optimizer.load_state_dict(state["optimizer_states"][0])
    for name, one in _named(trainer):
        if name in state["callbacks"]:
            one.load_state_dict(state["callbacks"][name])
    if SCALE in state:
        trainer.strategy.precision.load_state_dict(state[SCALE])
    if trainer.average is not None:
        averages = state["state_dict"].items()
        named = {name.removeprefix("model."): value for name, value in averages}
        trainer.average.model.load_state_dict(named)
        trainer.average.updates = int(state["averaging_state"]["n_averaged"])
    if trainer.time_limit is not None:
        trainer.time_limit.load_state_dict(state["time"])
        if state["time"]["decays_over"] is not None:
            trainer.decay_over(*state["time"]["decays_over"])


def _named(trainer: Trainer) -> list[tuple[str, Any]]:
    """Return what has a state of its own, by its class; further ones of a class are numbered."""
    named: list[tuple[str, Any]] = []
    count: dict[str, int] = {}
    for one in (trainer.outputs.export, *trainer.extras.callbacks):
        name = type(one).__qualname__
        count[name] = count.get(name, 0) + 1
        named.append((name if count[name] == 1 else f"{name}#{count[name]}", one))
    return named


def _require_readable(states: dict[str, Any]) -> None:
    """Raise TrainingError for states of callbacks that a resumed run would not read."""
    buffer = io.BytesIO()
    torch.save(states, buffer)
    buffer.seek(0)
    try:
        torch.load(buffer, weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = "such values" if found is None else found[1]
        raise TrainingError(
            f"a checkpoint with {what} of {', '.join(states)} could not be read again; let "
            "state_dict() return tensors and plain values"
        ) from None


def _write(stem: Path, content: dict[str, Any]) -> None:
    """Write ``stem-HASH.ckpt``, and its name to the disk before older ones go."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    whole = buffer.getbuffer()
    target = Path(f"{stem}-{_digest(whole)}.ckpt")
    with atomic_write(target) as temporary:
        temporary.write_bytes(whole)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
