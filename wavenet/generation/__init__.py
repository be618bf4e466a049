"""Sampling: ``generate`` for whole utterances, ``stream`` for live use, and their engines."""

from wavenet.generation.engine import Engine, GenerationState
from wavenet.generation.sampling import generate, stream

__all__ = ["Engine", "GenerationState", "generate", "stream"]
