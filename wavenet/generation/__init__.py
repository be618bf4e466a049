"""Sampling: ``generate`` for whole utterances, ``stream`` for live use, and their engines."""

from wavenet.generation.engine import Engine, GenerationState
from wavenet.generation.sampling import generate, stream
from wavenet.generation.speeches import Manner, Speeches, Spoken

__all__ = ["Engine", "GenerationState", "Manner", "Speeches", "Spoken", "generate", "stream"]
