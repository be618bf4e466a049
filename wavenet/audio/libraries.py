"""soundfile and soxr, imported when first needed; checks of their arguments, and ``AudioError``."""

from __future__ import annotations

from typing import Any

from wavenet.values.integers import is_integer

BLOCK = 1 << 16
"""Samples read or written at once: long Vorbis blocks overflow libsndfile's stack."""


class AudioError(ValueError):
    """Raised if an audio file cannot be read or written; one line with path and remedy.

    >>> read_audio("missing.wav")
    Traceback (most recent call last):
        ...
    wavenet.audio.libraries.AudioError: missing.wav: cannot be read: No such file ...
    """


def require_rate(name: str, rate: int) -> int:
    """Return the rate as a Python integer; raise ValueError unless headers can hold it, in Hz."""
    if not is_integer(rate) or not 0 < rate < 2**31:
        raise ValueError(f"{name} is {rate!r}; give a positive integer below 2**31, in Hz")
    return int(rate)


def import_soundfile() -> Any:
    """Import the module soundfile, or raise ModuleNotFoundError with the remedy."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: soundfile without its libsndfile
        raise _missing("soundfile") from error
    return soundfile


def import_soxr() -> Any:
    """Import the module soxr, or raise ModuleNotFoundError with the remedy."""
    try:
        import soxr
    except ImportError as error:
        raise _missing("soxr") from error
    return soxr


def _missing(name: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f'audio needs {name}, which cannot be imported; run: pip install "wavenet-audio[audio]"',
        name=name,
    )
