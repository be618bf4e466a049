"""Sampling: ``generate`` for whole utterances, ``stream`` for live use, ``generate_queue`` for many
utterances through a few rows, and their engines.
"""

import warnings
from typing import Any

from wavenet.generation.batching import BatchedVocoder
from wavenet.generation.engines.base import Engine, GenerationState
from wavenet.generation.options import SamplingOptions
from wavenet.generation.prompts import Prompt
from wavenet.generation.queue import Utterance, generate_queue
from wavenet.generation.rows import AudioChunk
from wavenet.generation.sampling import generate, stream

__all__ = [
    "AudioChunk",
    "BatchedVocoder",
    "Engine",
    "GenerationState",
    "Prompt",
    "SamplingOptions",
    "Utterance",
    "generate",
    "generate_queue",
    "stream",
]

_RENAMED = {"Manner": "SamplingOptions", "Speeches": "BatchedVocoder", "Spoken": "AudioChunk"}
"""Names of the release before this one."""


def __getattr__(name: str) -> Any:
    """Return what a name of the release before this one is called now, with a warning."""
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    now = _RENAMED[name]
    warnings.warn(f"wavenet.generation.{name} is now {now}", DeprecationWarning, stacklevel=2)
    return globals()[now]
