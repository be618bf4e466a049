"""Sampling: ``generate`` for whole utterances, ``stream`` for live use, ``generate_queue`` for many
utterances through a few rows, and their engines.
"""

from wavenet.generation.engines.base import Engine, GenerationState
from wavenet.generation.prompts import Prompt
from wavenet.generation.queue import Utterance, generate_queue
from wavenet.generation.sampling import generate, stream
from wavenet.generation.speeches import Manner, Speeches, Spoken

__all__ = [
    "Engine",
    "GenerationState",
    "Manner",
    "Prompt",
    "Speeches",
    "Spoken",
    "Utterance",
    "generate",
    "generate_queue",
    "stream",
]
