"""Training that starts from a model: the speakers of the corpus that it does not know yet."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from wavenet.data import Corpus
from wavenet.data.manifest import MANIFEST_SUFFIXES
from wavenet.model import WaveNet
from wavenet.training.config import ConfigError, TrainingConfig

logger = logging.getLogger("wavenet")

_TABLE = "speaker_embedding.table.weight"


def add_speakers(start: WaveNet, corpus: Corpus, config: TrainingConfig) -> tuple[WaveNet, Corpus]:
    """Make room in a model for the speakers of a corpus.

    A model with named speakers keeps them, and gets those of the corpus that are new to it;
    a corpus that names no speaker is a speaker of its own name. A model without
    speakers learns them with ``speakers_by_folder``, and else stays as it is.

    Returns:
        The model, or a larger one that sounds the same, and the corpus with its speakers named.

    Raises:
        ConfigError: if speakers shall be learnt by a model that nothing conditions.
    """
    known = start.config.speaker_names
    if not known and not config.speakers_by_folder:
        return start, corpus
    if not known and (start.config.speakers or start.config.conditioning_channels is None):
        raise ConfigError(
            f"speakers_by_folder is set, but the model init_from={config.init_from!r} has no "
            "named speakers; drop the key or start from another model"
        )
    corpus = _named(corpus, _name_of(config.corpus))
    new = [name for name in corpus.speakers if name not in known]
    if not new:
        return start, corpus
    logger.info("new speakers: %s; the model had %s", ", ".join(new), ", ".join(known) or "none")
    return with_speakers(start, new), corpus


def with_speakers(model: WaveNet, names: Sequence[str]) -> WaveNet:
    """Copy a model and add speakers; for those it had it sounds the same.

    A new speaker begins in the middle of the known ones; where there are none, at zero, which adds
    nothing to the mel.

    Args:
        model: one that something conditions.
        names: of the new speakers.
    """
    known = model.config.speaker_names
    config = model.config.replace(speakers=len(known) + len(names), speaker_names=(*known, *names))
    with torch.random.fork_rng(devices=[]):
        larger = WaveNet(config)
    state = dict(model.state_dict())
    table = state.get(_TABLE, torch.empty(0, larger.state_dict()[_TABLE].shape[1]))
    middle = table.mean(dim=0) if len(table) else torch.zeros(table.shape[1])
    state[_TABLE] = torch.cat((table, middle.expand(len(names), -1)))
    larger.load_state_dict(state)
    larger.licences = model.licences
    return larger


def _name_of(corpus: str) -> str:
    """Return the name of a folder or a manifest."""
    path = Path(corpus).resolve()
    return path.stem if path.suffix.lower() in MANIFEST_SUFFIXES else path.name


def _named(corpus: Corpus, name: str) -> Corpus:
    """Name the speaker of recordings without one ``name``."""
    utterances = (
        part if part.speaker else replace(part, speaker=name) for part in corpus.utterances
    )
    return replace(corpus, utterances=tuple(utterances))
