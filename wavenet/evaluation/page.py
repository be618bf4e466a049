"""The listening page: one HTML file that holds its sounds and pictures and asks no network.

Sounds are 16-bit FLAC, which every current browser plays, so that nothing is lost between the model
and the ear; pictures are log-mel spectrograms as lossless WebP. The template, its style and its
script are beside this file as ``page.html``, ``page.css`` and ``page.js``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from torch import Tensor

from wavenet.audio import resample
from wavenet.evaluation.baselines import System
from wavenet.evaluation.evaluate import Measured, whole_audio
from wavenet.evaluation.metrics import INSTALL, METRICS, measuring_mel
from wavenet.evaluation.report import notes_of
from wavenet.features import log_mel
from wavenet.values.text import printable

PLAYED_S = 15.0
"""So much of each recording is on the page; the numbers are of more."""
SHOWN_NATS = 8.0
"""From the loudest to the darkest colour of a spectrogram: 69 dB."""
CARD_METRICS = ("pesq", "stoi", "mcd_db", "f0_error_cents")
REFERENCE = System("reference", "recording", "The recording itself, 16 bits.")
_PLAYABLE_HZ = (8000, 48000)  # what every browser's FLAC decoder takes


@dataclass(frozen=True)
class Version:
    """One sound of an utterance.

    Attributes:
        system: what made it.
        audio: base64 of a FLAC file; None where there is no copy.
        picture: base64 of a WebP file; None without matplotlib.
        facts: title and value of some metrics.
        missing: why there is no copy.
    """

    system: System
    audio: str | None = None
    picture: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class PageEntry:
    """One utterance of the page.

    Attributes:
        name: of the recording.
        speaker: name of the speaker, or empty.
        duration_s: of what is played.
        cut: whether the recording is longer.
        versions: the recording first.
    """

    name: str
    speaker: str
    duration_s: float
    cut: bool
    versions: tuple[Version, ...]


def spread(names: Sequence[str], count: int) -> frozenset[str]:
    """Choose ``count`` of the names, evenly spread over their order.

    Raises:
        ValueError: for a negative count.
    """
    if count < 0:
        raise ValueError(f"page_utterances={count} must not be negative")
    if count >= len(names):
        return frozenset(names)
    return frozenset(names[i * len(names) // count] for i in range(count))


def page_entry(measured: Measured, systems: Sequence[System], sample_rate: int) -> PageEntry:
    """Return the audio and pictures of one measured recording with its copies."""
    n_played = min(measured.copied_samples, round(PLAYED_S * sample_rate))
    recording = whole_audio(measured.utterance)[:n_played]
    loudest = float(log_mel(recording, measuring_mel(sample_rate)).max())
    versions = [
        Version(REFERENCE, flac(recording, sample_rate), picture(recording, sample_rate, loudest))
    ]
    for system in systems:
        copy = measured.copies.get(system.key)
        scores = measured.scores[system.key]
        if copy is None:
            versions.append(Version(system, missing=scores.missing.get("copy", "no copy")))
            continue
        sound = copy[:n_played]
        facts = tuple(
            (metric.title, f"{scores.values[metric.key]:.{metric.digits}f} {metric.unit}".strip())
            for metric in METRICS
            if metric.key in CARD_METRICS and metric.key in scores.values
        )
        image = picture(sound, sample_rate, loudest)
        versions.append(Version(system, flac(sound, sample_rate), image, facts))
    utterance = measured.utterance
    return PageEntry(
        printable(utterance.name),
        printable(utterance.speaker),
        n_played / sample_rate,
        n_played < len(utterance.samples),
        tuple(versions),
    )


def flac(samples: Tensor, sample_rate: int) -> str:
    """16-bit FLAC in base64, at a rate that browsers play."""
    import soundfile

    rate = min(max(sample_rate, _PLAYABLE_HZ[0]), _PLAYABLE_HZ[1])
    content = io.BytesIO()
    soundfile.write(
        content, resample(samples, sample_rate, rate).numpy(), rate, "PCM_16", format="FLAC"
    )
    return base64.b64encode(content.getvalue()).decode()


def picture(samples: Tensor, sample_rate: int, loudest: float) -> str | None:
    """The log-mel spectrogram as WebP in base64, low bands below; None without matplotlib.

    Args:
        samples: ``[T]``.
        sample_rate: in Hz.
        loudest: the log-mel, in nats, that has the brightest colour.
    """
    if not has_pictures():
        return None
    from matplotlib import colormaps
    from PIL import Image

    mel = log_mel(samples, measuring_mel(sample_rate)).numpy()
    level = 1 + (mel[::-1] - loudest) / SHOWN_NATS
    image = Image.fromarray(colormaps["magma"](level.clip(0, 1), bytes=True)[..., :3])
    content = io.BytesIO()
    image.save(content, "WEBP", lossless=True)
    return base64.b64encode(content.getvalue()).decode()


def has_pictures() -> bool:
    """Return whether spectrograms can be drawn."""
    try:
        import matplotlib
        import PIL  # noqa: F401
    except ModuleNotFoundError:
        return False
    return bool(matplotlib.__version__)


def require_template_engine() -> None:
    """Refuse to begin where ``render`` could not end.

    Raises:
        ModuleNotFoundError: without jinja2, which torch brings.
    """
    try:
        import jinja2  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"the listening page needs jinja2: {INSTALL}") from error


def render(report: dict[str, Any], entries: Sequence[PageEntry]) -> str:
    """The page.

    Args:
        report: the content of ``report.json``.
        entries: the utterances that can be played, sorted by name.
    """
    from jinja2 import Environment, StrictUndefined

    here = files("wavenet.evaluation")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(here.joinpath("page.html").read_text("utf-8"))
    shown = [m for m in METRICS if any(m.key in row for row in report["summary"].values())]
    return template.render(
        report=report,
        entries=entries,
        metrics=shown,
        own=[m for m in shown if m.key in report["summary"]["model"]],
        notes=notes_of(report),
        reference=REFERENCE,
        played_s=PLAYED_S,
        style=here.joinpath("page.css").read_text("utf-8"),
        script=here.joinpath("page.js").read_text("utf-8"),
    )
