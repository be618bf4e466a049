"""Pretrained models that ship with the package, each a folder in ``wavenet/voices``, found by name.

The folder holds a checkpoint (``config.json``, ``model.safetensors``), a model card
(``MODEL_CARD.md``: data, recipe, figures, limits) and the licence of the weights. Wherever a
checkpoint's folder is asked for, the name of a voice will do.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "voices"
DEFAULT_VOICE = "prompts-16k"
"""The one that speaks where no model is named."""

CARD_NAME = "MODEL_CARD.md"


def voice_names() -> list[str]:
    """The voices that are here, sorted."""
    return sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


def voice_folder(name: str) -> Path:
    """Where the files of a voice lie.

    Raises:
        ValueError: if there is no such voice; those that are here are listed.
    """
    if name not in voice_names():
        raise ValueError(f"{name!r} is no voice; {voices_in_words()}")
    return FOLDER / name


def voices_in_words() -> str:
    """For an error message: which voices are here."""
    return f"the voices are {', '.join(voice_names())}" if voice_names() else "no voice is here"
