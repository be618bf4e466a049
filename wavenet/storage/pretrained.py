"""Pretrained models that ship with the package, each a folder in ``wavenet/voices``, found by name.

The folder contains a checkpoint (``config.json``, ``model.safetensors``), a model card
(``MODEL_CARD.md``: data, recipe, figures, limits) and the licence of the weights. The name of a
voice is accepted wherever a checkpoint's folder is.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "voices"
DEFAULT_VOICE = "prompts-16k"
"""Default model."""

CARD_NAME = "MODEL_CARD.md"


def voice_names() -> list[str]:
    """Names of the voices in the package, sorted.

    >>> voice_names()
    ['prompts-16k']
    """
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def voice_folder(name: str) -> Path:
    """Return the folder of a voice.

    Raises:
        ValueError: if there is no such voice; the message lists the existing ones.
    """
    if name not in voice_names():
        raise ValueError(f"{name!r} is no voice; {voices_in_words()}")
    return FOLDER / name


def voices_in_words() -> str:
    """List the voices for an error message."""
    return f"the voices are {', '.join(voice_names())}" if voice_names() else "no voice is here"
