"""What a request asks for: the query of a POST or the first message of a WebSocket."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from starlette.requests import Request
from torch import Tensor

from wavenet.features.mel_config import MelConfig
from wavenet.features.mel_warping import MelWarp, change_speed, require_factor
from wavenet.generation.arguments import speaker_of_text
from wavenet.model import WaveNet
from wavenet.serving.limits import RequestError
from wavenet.values.numerals import integer_of, number_of

FORMATS = {"wav": "audio/wav", "flac": "audio/flac", "pcm": "application/octet-stream"}
"""Formats of an answer, and their media types; ``pcm`` is raw 16-bit little-endian samples."""
_LARGEST_SEED = 2**63 - 1
_MOST_PASSES = 64


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of one utterance.

    Attributes:
        seed: of the random draws.
        temperature: of sampling; None for the model's own.
        speaker: index or name; None for none.
        refine: passes of refinement; None for the server's.
        pitch: factor of the fundamental frequency.
        formant: factor of the frequencies of the formants.
        speed: factor of the speed.
        format: one of ``FORMATS``.
    """

    seed: int = 0
    temperature: float | None = None
    speaker: int | str | None = None
    refine: int | None = None
    pitch: float = 1.0
    formant: float = 1.0
    speed: float = 1.0
    format: str = "wav"

    def changed(self, mel: Tensor, n_samples: int, config: MelConfig) -> tuple[Tensor, int]:
        """Return a mel ``[M, F]`` with pitch, formants and speed changed, and its samples."""
        warped = MelWarp(config, pitch=self.pitch, formant=self.formant)(mel)
        made = change_speed(warped, self.speed)
        if self.speed != 1:
            n_samples = min(
                max(1, round(n_samples / self.speed)), made.shape[1] * config.hop_samples
            )
        return made, n_samples


def query_of(request: Request) -> dict[str, str]:
    """Return the query of a request; RequestError (400) for a name that is given twice."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise RequestError(400, f"{name[:40]!r} is given twice; drop one of them")
        found[name] = value
    return found


def read_settings(given: Mapping[str, Any], model: WaveNet, *, live: bool = False) -> Settings:
    """Read settings, strictly; text is converted as JSON's numbers are, and null is left out.

    Args:
        given: names and values.
        model: that the speaker is one of.
        live: whether the mel arrives while it is spoken, when speed and format have no meaning.

    Raises:
        RequestError: (400) for an unknown name or a wrong value.
    """
    known = [one.name for one in fields(Settings) if not (live and one.name in ("speed", "format"))]
    for name in given:
        if name not in known:
            raise RequestError(400, f"{str(name)[:40]!r} is unknown; known are {', '.join(known)}")
    values = {
        name: _READERS[name](name, value) for name, value in given.items() if value is not None
    }
    try:
        for name in ("pitch", "formant", "speed"):
            require_factor(name, values.get(name, 1.0))
        if "speaker" in values:
            values["speaker"] = speaker_of_text(values["speaker"], model)
    except ValueError as error:
        raise RequestError(400, str(error)) from None
    return Settings(**values)


def _integer(most: int) -> Callable[[str, Any], int]:
    def read(name: str, value: Any) -> int:
        text = str(value)
        found = integer_of(text, most)
        if found is None or found < 0:
            raise RequestError(400, f"{name}={text[:40]!r} must be an integer from 0 to {most}")
        return found

    return read


def _number(name: str, value: Any) -> float:
    found = number_of(str(value))
    if found is None or not math.isfinite(found):
        raise RequestError(400, f"{name}={str(value)[:40]!r} must be a number")
    return found


def _text(name: str, value: Any) -> str:
    return str(value)[:200]


def _format(name: str, value: Any) -> str:
    if value not in FORMATS:
        raise RequestError(400, f"format={str(value)[:40]!r} must be one of {', '.join(FORMATS)}")
    return str(value)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "seed": _integer(_LARGEST_SEED),
    "temperature": _number,
    "speaker": _text,
    "refine": _integer(_MOST_PASSES),
    "pitch": _number,
    "formant": _number,
    "speed": _number,
    "format": _format,
}
