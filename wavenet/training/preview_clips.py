"""Clips that are generated while a model trains: the same few validation recordings all along."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.data import Corpus, Utterance, WindowPlan
from wavenet.data.frame_features import columns
from wavenet.features import log_mel

PIECES = 3
"""How many are listened to."""

_CLIP_S, _CLIP_FILES = 10, 100


@dataclass(frozen=True)
class Piece:
    """The beginning of a recording, and what a model generates to be compared with it.

    Attributes:
        name: for files and TensorBoard.
        title: for a picture.
        reference: samples ``[T]`` in [-1, 1].
        frames: mel or other features of the reference, from which a model resynthesizes it,
            ``[M, F]``; None: what it generates has nothing to do with the reference.
        speaker: index, for a model with speakers.
        conditions: values of the model's further conditions, by name.
    """

    name: str
    title: str
    reference: Tensor
    frames: Tensor | None
    speaker: int | None
    conditions: Mapping[str, Tensor] = field(default_factory=dict)


def choose_pieces(corpus: Corpus, plan: WindowPlan, seconds: float) -> list[Piece]:
    """Choose at most ``PIECES`` of them, of different speakers as far as there are.

    Without a mel there is one for each speaker, as nothing else distinguishes them; a model without
    either gets ``PIECES`` rows of its own.
    """
    n_samples = max(1, round(seconds * corpus.sample_rate))
    utterances = _by_turns(corpus, n_samples)
    if not plan.frame_channels and plan.speakers:
        first = {utterance.speaker: utterance for utterance in reversed(utterances)}
        utterances = [u for u in utterances if first[u.speaker] is u]
    elif not plan.frame_channels:
        utterances = utterances * PIECES
    return [
        _piece(i, utterance, plan, n_samples) for i, utterance in enumerate(utterances[:PIECES])
    ]


def _by_turns(corpus: Corpus, n_samples: int) -> list[Utterance]:
    """Speaker after speaker, in turns; of each, those that are long enough before the others."""
    taken: dict[str, int] = {}
    turns = []
    long_first = sorted(corpus.utterances, key=lambda u: len(u.samples) < n_samples)
    for utterance in long_first:
        turn = taken[utterance.speaker] = taken.get(utterance.speaker, 0) + 1
        turns.append((turn, utterance.speaker, utterance))
    return [utterance for _, _, utterance in sorted(turns, key=lambda found: found[:2])]


def _piece(i: int, utterance: Utterance, plan: WindowPlan, n_samples: int) -> Piece:
    speaker = plan.speakers.index(utterance.speaker) if plan.speakers else None
    if plan.frame_channels:
        shown = re.sub(r"\.(wav|flac|ogg|mp3|aiff?)$", "", utterance.name)
    else:
        shown = utterance.speaker if plan.speakers else "free"
    name = re.sub(r"[^\w.-]+", "-", f"{i + 1}-{shown}", flags=re.ASCII)[:60]
    reference = utterance.audio(0, min(n_samples, len(utterance.samples)))
    further = [one for one in plan.conditions if one.name != "speaker"]
    conditions = {one.name: one.of_recording(utterance) for one in further}
    frames = _frames(utterance, plan, reference)
    return Piece(name, utterance.name, reference, frames, speaker, conditions)


def _frames(utterance: Utterance, plan: WindowPlan, reference: Tensor) -> Tensor | None:
    """Return the mel of a reference, or its features."""
    if plan.mel is not None:
        return log_mel(reference, plan.mel)
    if plan.features is None or utterance.features is None:
        return None
    count = math.ceil(len(reference) / plan.hop)
    return columns(utterance.features, plan.features, 0, count)[0]


def corpus_level_db(corpus: Corpus) -> float:
    """Root mean square of its recordings, in dB of full scale, from at most 1000 s of them."""
    longest = _CLIP_S * corpus.sample_rate
    parts = corpus.spread(_CLIP_FILES)
    return level_db([part.audio(0, min(longest, len(part.samples))) for part in parts])


def level_db(signals: list[Tensor]) -> float:
    """Root mean square of signals ``[T]`` together, in dB of full scale; -200 for digital silence.

    Full scale is a square wave between -1 and 1.
    """
    power = torch.cat(signals).double().square().mean()
    return float(10 * torch.log10(power.clamp(min=1e-20)))
