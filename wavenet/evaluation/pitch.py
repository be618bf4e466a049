"""F0 of a recording, and how far two tracks of it lie apart.

The tracker is WORLD's DIO refined by StoneMask (Morise, Kawahara and Katayose 2009), through
pyworld; where pyworld is missing, librosa's pYIN (Mauch and Dixon 2014), which is steadier but
takes some fifty times as long. A report says which, as their numbers do not compare. WORLD's newer
Harvest serves synthesis, not judgement: it calls nearly every frame voiced.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

F0_MIN_HZ, F0_MAX_HZ = 71.0, 800.0
FRAME_S = 0.005
GROSS_CENTS = 1200 * math.log2(1.2)
"""F0 off by more than 20%, mostly by an octave, is a gross error (Chu and Alwan 2009)."""
MIN_DURATION_S = 0.1
"""Shorter recordings hold too few periods of a low voice."""

Track = np.ndarray
"""F0 in Hz of each frame, 0 where it is unvoiced, ``[F]``."""


@dataclass(frozen=True)
class Tracker:
    """What finds F0.

    Attributes:
        name: for the report.
        track: from float64 samples ``[T]`` and their rate in Hz to F0 every ``FRAME_S``.
    """

    name: str
    track: Callable[[np.ndarray, int], Track]


def find_tracker() -> Tracker | None:
    """The best one that is installed."""
    if world() is not None:
        return Tracker("WORLD DIO with StoneMask (pyworld)", _dio)
    try:
        import librosa  # noqa: F401
    except ModuleNotFoundError:
        return None
    return Tracker("pYIN (librosa)", _pyin)


def world() -> Any | None:
    """The module pyworld, or None where it cannot be imported.

    It imports pkg_resources, which warns of its end and which setuptools has dropped in version 82.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyworld
    except ImportError:
        return None
    return pyworld


def _dio(samples: np.ndarray, sample_rate: int) -> Track:
    pyworld = world()
    assert pyworld is not None
    f0, times = pyworld.dio(samples, sample_rate, F0_MIN_HZ, F0_MAX_HZ, frame_period=FRAME_S * 1000)
    refined: Track = pyworld.stonemask(samples, f0, times, sample_rate)
    return refined


def _pyin(samples: np.ndarray, sample_rate: int) -> Track:
    import librosa

    # Two periods of the lowest F0 and more, as a power of two.
    frame = 2 ** math.ceil(math.log2(2 * sample_rate / F0_MIN_HZ))
    f0, voiced, _ = librosa.pyin(
        samples,
        fmin=F0_MIN_HZ,
        fmax=min(F0_MAX_HZ, sample_rate / 4),
        sr=sample_rate,
        frame_length=frame,
        hop_length=round(FRAME_S * sample_rate),
    )
    track: Track = np.where(voiced, np.nan_to_num(f0), 0.0)
    return track


def fine_error_cents(reference: Track, track: Track) -> float | None:
    """Root mean square of the distance over frames voiced in both, gross errors aside.

    None without any such frame.
    """
    cents = _distance_cents(reference, track)
    fine = cents[cents <= GROSS_CENTS]
    return float(np.sqrt(np.mean(fine**2))) if len(fine) else None


def gross_error_percent(reference: Track, track: Track) -> float | None:
    """Share of frames voiced in both whose F0 is a gross error; None without any such frame."""
    cents = _distance_cents(reference, track)
    return float(np.mean(cents > GROSS_CENTS) * 100) if len(cents) else None


def voicing_error_percent(reference: Track, track: Track) -> float:
    """Share of frames that are voiced in one of them alone."""
    return float(np.mean((reference > 0) != (track > 0)) * 100)


def _distance_cents(reference: Track, track: Track) -> np.ndarray:
    """1200 |log2| of the ratio, in frames voiced in both."""
    both = (reference > 0) & (track > 0)
    distance: np.ndarray = np.abs(1200 * np.log2(track[both] / reference[both]))
    return distance
