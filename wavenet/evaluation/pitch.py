"""F0 of a recording, and distances of two tracks of it.

One tracker serves every installation, so that figures compare: pYIN (Mauch and Dixon 2014) decides
which frames are voiced and in which octave F0 is, on a grid of 20 cents; YIN's interpolated
period (de Cheveigne and Kawahara 2002) gives the value where it is within a step of that. Both
are librosa's, and neither draws anything. A grid of 10 cents, librosa's default, takes eight times
as long.
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
LOWEST_RATE_HZ = 1000
"""F0 is sought up to a quarter of the rate."""
TRACKER = "pYIN, refined by YIN (librosa)"
_STEP_CENTS = 20
GROSS_CENTS = 1200 * math.log2(1.2)
"""F0 off by more than 20%, mostly by an octave, is a gross error (Chu and Alwan 2009)."""
MIN_DURATION_S = 0.1
"""Shorter recordings hold too few periods of a low voice."""

Track = np.ndarray
"""F0 in Hz of each frame, 0 where it is unvoiced, ``[F]``."""


@dataclass(frozen=True)
class Tracker:
    """A method that finds F0.

    Attributes:
        name: for the report.
        track: from float64 samples ``[T]`` and their rate in Hz to F0 every ``FRAME_S``.
    """

    name: str
    track: Callable[[np.ndarray, int], Track]


def find_tracker() -> Tracker | None:
    """The tracker, or None where librosa is not installed."""
    try:
        import librosa  # noqa: F401
    except ModuleNotFoundError:
        return None
    return Tracker(TRACKER, track_f0)


def why_untracked(n_samples: int, sample_rate: int) -> str | None:
    """The reason why F0 of so few samples, or at so low a rate, cannot be found; None if it can."""
    if n_samples < MIN_DURATION_S * sample_rate:
        return f"shorter than {MIN_DURATION_S:g} s"
    if sample_rate < LOWEST_RATE_HZ:
        return f"a rate below {LOWEST_RATE_HZ} Hz leaves no room for F0"
    return None


def track_f0(samples: np.ndarray, sample_rate: int) -> Track:
    """F0 every ``FRAME_S``, 0 where unvoiced.

    Args:
        samples: float64 ``[T]``.
        sample_rate: in Hz, at least ``LOWEST_RATE_HZ``.
    """
    import librosa

    options = {
        "fmin": F0_MIN_HZ,
        "fmax": min(F0_MAX_HZ, sample_rate / 4),
        "sr": sample_rate,
        # Two periods of the lowest F0 and more, as a power of two.
        "frame_length": 2 ** math.ceil(math.log2(2 * sample_rate / F0_MIN_HZ)),
        "hop_length": max(1, round(FRAME_S * sample_rate)),
    }
    coarse, voiced, _ = librosa.pyin(samples, resolution=_STEP_CENTS / 100, **options)
    fine = librosa.yin(samples, **options)
    with np.errstate(invalid="ignore"):  # NaN where it is unvoiced
        agree = np.abs(1200 * np.log2(fine / coarse)) <= _STEP_CENTS
    track: Track = np.where(voiced, np.where(agree, fine, np.nan_to_num(coarse)), 0.0)
    return track


def world() -> Any | None:
    """The module pyworld, for the baseline; None where it cannot be imported.

    It imports pkg_resources, which warns of its end and which setuptools has dropped in version 82.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyworld
    except ImportError:
        return None
    return pyworld


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
