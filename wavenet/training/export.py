"""The model on disk: there from the first moment on, with where it comes from."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from wavenet.data import Corpus
from wavenet.data.corpora import LAYOUTS
from wavenet.loading import load_wavenet
from wavenet.model import WaveNet
from wavenet.storage.sharing import without_local_paths
from wavenet.training.config import TrainingConfig
from wavenet.training.devices import is_writer


class Export:
    """Keeps a loadable model on disk: the one of the last validation, or of an interruption.

    Attributes:
        step, bits: of the last validation; NaN before the first.
        before: bits of the model that training started from.

    Args:
        folder: for the model.
        provenance: where it comes from, beside steps and bits.
    """

    def __init__(self, folder: Path, provenance: dict[str, Any]) -> None:
        self.folder, self.provenance = folder, provenance
        self.step = 0
        self.bits = self.before = math.nan

    def save(self, model: WaveNet, *, step: int, bits: float | None = None) -> None:
        """Write the model, in the process that writes."""
        if is_writer():
            found = {**self.provenance, "steps": step, "validation_bits_per_sample": bits}
            model.save(self.folder, provenance=found)

    def is_whole(self) -> bool:
        """Return whether the model can be loaded."""
        try:
            load_wavenet(self.folder)
        except (ValueError, OSError):
            return False
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"step": self.step, "bits": self.bits, "before": self.before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.step, self.bits, self.before = (state[key] for key in ("step", "bits", "before"))


def dependencies(
    model: WaveNet, corpus: Corpus, config: TrainingConfig, start_hash: str | None = None
) -> dict[str, Any]:
    """Return all that the weights depend on, in plain values, by the configuration's keys.

    Args:
        model: the model that is trained.
        corpus: all of it.
        config: of the run.
        start_hash: ``weights_hash`` of the model ``init_from``; None where training starts anew.
    """
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
    run = {
        **asdict(config),
        "model": model.config.to_dict(),
        "corpus_content": content,
        "init_from_weights": start_hash,
    }
    plain: dict[str, Any] = json.loads(json.dumps(run, default=str))
    return plain


def weights_hash(model: WaveNet) -> str:
    """Half of the SHA-256 of all tensors and their names."""
    known = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        known.update(name.encode())
        known.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return known.hexdigest()[:32]


def provenance(
    corpus: Corpus, config: TrainingConfig, run: dict[str, Any], recipe: str | None
) -> dict[str, Any]:
    """Return where a model comes from, for its ``config.json``, beside steps and bits.

    Nothing in it is a path of this machine, or a matter of this machine alone: the model may be
    given away as it is.

    Args:
        corpus: all of it.
        config: of the run.
        run: what ``dependencies`` returned.
        recipe: file that the settings were read from.
    """
    settings = {key: value for key, value in asdict(config).items() if key not in _LOCAL}
    settings["trainer"] = {k: v for k, v in config.trainer.items() if f"trainer.{k}" not in _LOCAL}
    settings["corpus"] = _corpus_name(config.corpus)
    if config.init_from is not None:
        settings["init_from"] = _model_name(config.init_from)
    found = {
        "corpus": {
            "folder": _corpus_name(config.corpus),
            "files": len(corpus.utterances),
            "seconds": round(corpus.duration_s, 3),
            "hash": run["corpus_content"]["hash"],
        },
        "recipe": None if recipe is None else Path(recipe).name,
        "training": settings,
    }
    if run["init_from_weights"] is not None:
        found["init_from_weights"] = run["init_from_weights"]
    plain: dict[str, Any] = without_local_paths(found)
    return plain


_LOCAL = frozenset({"corpus_root", "download", "cache", "workers", "trainer.default_root_dir"})
"""Settings of a machine: where it keeps things, and how many processes it has."""


def _corpus_name(corpus: str) -> str:
    """A named corpus with its parts as it is; of a folder or a manifest the name."""
    return corpus if corpus.partition("/")[0] in LAYOUTS else Path(corpus).resolve().name


def _model_name(model: str) -> str:
    """A voice, or the last parts of a folder's path: ``my-voice/model``."""
    if not Path(model).is_dir():
        return model
    return "/".join(Path(model).resolve().parts[-2:])
