"""The model on disk: there from the first moment on, with where it comes from."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from wavenet.data import Corpus
from wavenet.model import WaveNet
from wavenet.training.config import TrainingConfig
from wavenet.training.module import WaveNetTraining
from wavenet.training.trainer import is_writer


class Export(Callback):
    """Keeps a loadable model on disk: the one of the last validation, or of an interruption.

    Attributes:
        step, bits: of the last validation; NaN before the first.
        before: bits of the model that training started from.

    Args:
        module: which has the model.
        folder: for the model.
        provenance: where it comes from, beside steps and bits.
    """

    def __init__(self, module: WaveNetTraining, folder: Path, provenance: dict[str, Any]) -> None:
        self.module, self.folder, self.provenance = module, folder, provenance
        self.step = 0
        self.bits = self.before = math.nan

    def save(self, *, step: int, bits: float | None = None) -> None:
        """Write the model, unless a loss so far or a weight is not finite."""
        if is_writer() and self.module.sound:
            found = {**self.provenance, "steps": step, "validation_bits_per_sample": bits}
            self.module.learnt.save(self.folder, provenance=found)

    def state_dict(self) -> dict[str, Any]:
        """Called by Lightning: for a checkpoint."""
        return {"step": self.step, "bits": self.bits, "before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Called by Lightning: from a checkpoint."""
        self.step, self.bits = state_dict["step"], state_dict["bits"]
        self.before = state_dict["before"]

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Called by Lightning; a validation that is not finite has ended the run before."""
        self.step, self.bits = trainer.global_step, float(trainer.callback_metrics["valid/bits"])
        self.save(step=self.step, bits=self.bits)


def dependencies(model: WaveNet, corpus: Corpus, config: TrainingConfig) -> dict[str, Any]:
    """What the weights of every step depend on, in plain values, by the configuration's keys."""
    known = hashlib.sha256(corpus.content.encode())
    for part in corpus.utterances:
        known.update(f"{part.name} {part.speaker} {len(part.samples)}".encode())
        if not corpus.content:  # every so many samples have to do
            known.update(part.samples[:: max(1, len(part.samples) // 256)].tobytes())
    content = {
        "files": len(corpus.utterances),
        "samples": corpus.n_samples,
        "hash": known.hexdigest()[:16],
    }
    run = {**asdict(config), "model": model.config.to_dict(), "corpus_content": content}
    plain: dict[str, Any] = json.loads(json.dumps(run, default=str))
    return plain


def provenance(corpus: Corpus, config: TrainingConfig, command: str | None) -> dict[str, Any]:
    """Where a model comes from, for its ``config.json``, beside steps and bits."""
    return {
        "corpus": {
            "folder": Path(config.corpus).resolve().name,
            "files": len(corpus.utterances),
            "seconds": round(corpus.duration_s, 3),
        },
        "command": command,
        "training": asdict(config),
    }
