"""Choice of a folder's recordings to measure, and of their speakers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wavenet.data import Corpus, Listing, Recording, Utterance
from wavenet.data.corpus import Progress
from wavenet.data.recordings import CorpusError, decode_all
from wavenet.evaluation.text import common_folder, without_folder
from wavenet.model import WaveNet


@dataclass(frozen=True)
class Chosen:
    """Recordings to measure.

    Attributes:
        utterances: in the order of their names.
        left_out: one line for every file that was tried and cannot be used.
        listed: how many recordings the folder has.
    """

    utterances: tuple[Utterance, ...]
    left_out: tuple[str, ...]
    listed: int


def choose(
    listing: Listing,
    sample_rate: int,
    count: int | None = None,
    *,
    seed: int = 0,
    progress: Progress = iter,
) -> Chosen:
    """Decode all recordings, or so many of them that can be used.

    A choice is fixed by the seed and the names: a recording's rank does not depend on the others,
    so that a larger count adds to a smaller one, and a file that is added changes one place.

    Args:
        listing: what there is.
        sample_rate: to which everything is resampled, in Hz.
        count: how many are wanted; None for all, fewer where there are not as many.
        seed: of the choice.
        progress: wraps the recordings that are read.

    Raises:
        ValueError: for a count below 1.
        CorpusError: if none can be used.
    """
    if count is None:
        corpus = Corpus.read(listing, sample_rate, progress=progress)
        return _portable(corpus.utterances, corpus.skipped, listing)
    if count < 1:
        raise ValueError(f"utterances={count} must be at least 1; leave it out for all")
    ranked = sorted(listing.recordings, key=lambda recording: _rank(seed, recording))
    found: list[Utterance] = []
    left_out: list[str] = []
    for recording, samples in zip(ranked, decode_all(progress(ranked), sample_rate), strict=True):
        if isinstance(samples, Exception):
            left_out.append(str(samples))
            continue
        found.append(Utterance(recording.name, samples, recording.speaker))
        if len(found) == count:
            break
    if not found:
        raise CorpusError(f"none of the {len(left_out)} audio files can be used: {left_out[0]}")
    return _portable(found, left_out, listing)


def _portable(utterances: Sequence[Utterance], left_out: Sequence[str], listing: Listing) -> Chosen:
    """The choice, with names and lines that do not depend on where the folder is."""
    place = listing.place if listing.place.is_dir() else listing.place.parent
    folder = common_folder(utterance.name for utterance in utterances)
    named = [
        replace(each, name=os.path.relpath(each.name, folder)) if os.path.isabs(each.name) else each
        for each in utterances
    ]
    return Chosen(
        tuple(sorted(named, key=lambda utterance: utterance.name)),
        tuple(without_folder(line, place) for line in left_out),
        len(listing.recordings),
    )


def with_speaker(utterances: Sequence[Utterance], speaker: str | None) -> tuple[Utterance, ...]:
    """Assign one speaker to all of them, where one is named."""
    if speaker is None:
        return tuple(utterances)
    return tuple(replace(utterance, speaker=speaker) for utterance in utterances)


def speaker_index(model: WaveNet, speaker: str) -> int | None:
    """Return the index of a speaker of the model; None for a model without speakers.

    Where no speaker is given, a model that may do without one gets none.

    Args:
        model: any ``WaveNet``.
        speaker: a name, or an index where the model has no names; empty where it is unknown.

    Raises:
        ValueError: if the model does not know the speaker.
    """
    config = model.config
    if not config.speakers or (config.unconditional and not speaker):
        return None
    if speaker in config.speaker_names:
        return config.speaker_names.index(speaker)
    if not config.speaker_names and speaker.isdecimal() and int(speaker) < config.speakers:
        return int(speaker)
    known = ", ".join(config.speaker_names) or f"0 to {config.speakers - 1}"
    none = "; --speaker '' selects none" if config.unconditional else ""
    raise ValueError(
        f"speaker={speaker!r} is none that the model knows: {known}; name the folders below the "
        f"corpus so, or select one with --speaker{none}"
    )


def _rank(seed: int, recording: Recording) -> bytes:
    return hashlib.sha256(f"{seed}/{recording.name}".encode("utf-8", "backslashreplace")).digest()
