"""Scores of speech by other packages: PESQ, STOI, ViSQOL and DNSMOS, each where it is installed."""

from __future__ import annotations

import functools
import importlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from wavenet.audio import resample

PESQ_RATE = 16000
PESQ_LONGEST_S = 15.0
"""The C code of P.862 keeps at most 50 bursts of speech and crashes beyond. A burst and the pause
behind it last 0.4 s at least, so that 15 s hold 37 at most."""
MOS_RATE = 16000
"""Rate in Hz at which ViSQOL's speech mode and DNSMOS work."""
VISQOL_SHORTEST_S = 1.0


@dataclass(frozen=True)
class PackagedScore:
    """A score that another package computes.

    Attributes:
        package: its name for pip.
        modules: what is imported of it, and of what it needs.
        measure: gives the score of a recording ``[T]``, a copy ``[T]`` and their rate in Hz, or
            None and the reason.
    """

    package: str
    modules: tuple[str, ...]
    measure: Callable[[Tensor, Tensor, int], tuple[float | None, str]]

    def is_installed(self) -> bool:
        """Return whether the package can be imported."""
        try:
            for module in self.modules:
                importlib.import_module(module)
        except ImportError:
            return False
        return True


def _pesq(reference: Tensor, copy: Tensor, sample_rate: int) -> tuple[float | None, str]:
    """Return the PESQ, or None and the reason."""
    from pesq import BufferTooShortError, NoUtterancesError, PesqError, pesq

    if not bool(copy.any()):
        return None, "the copy is silent"
    signals = [resample(x, sample_rate, PESQ_RATE).float().numpy() for x in (reference, copy)]
    parts = math.ceil(len(signals[0]) / (PESQ_LONGEST_S * PESQ_RATE))
    found: list[float] = []
    reason = "P.862 gives no score"
    for x, y in zip(*(np.array_split(signal, parts) for signal in signals), strict=True):
        try:
            found.append(float(pesq(PESQ_RATE, x, y, "wb")))
        except NoUtterancesError:
            reason = "P.862 detects no speech in it"
        except BufferTooShortError:
            reason = "shorter than the 0.25 s that P.862 needs"
        except (PesqError, ValueError) as error:  # ValueError: a level that is no number
            reason = f"P.862 gives no score: {' '.join(str(error).split())}"
    return (sum(found) / len(found) if found else None), reason


def _stoi(reference: Tensor, copy: Tensor, sample_rate: int) -> tuple[float | None, str]:
    """Return the STOI, or None and the reason."""
    from pystoi import stoi

    if not bool(reference.any()):
        return None, "the recording is silent there"
    with warnings.catch_warnings():
        # It warns of too few frames and gives 1e-5, which is no score.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            score = stoi(reference.double().numpy(), copy.double().numpy(), sample_rate)
        except (RuntimeWarning, ValueError):
            return None, "less than the 0.4 s of speech that STOI needs"
    return float(score), "STOI gives no score"


@functools.cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=False)  # the lattice needs another runtime
    return api


def _visqol(reference: Tensor, copy: Tensor, sample_rate: int) -> tuple[float | None, str]:
    """Return the ViSQOL score, or None and the reason."""
    if len(copy) < VISQOL_SHORTEST_S * sample_rate:
        return None, f"shorter than the {VISQOL_SHORTEST_S:g} s that ViSQOL needs"
    if not bool(reference.any()) or not bool(copy.any()):
        return None, "silent"
    signals = [resample(x, sample_rate, MOS_RATE).double().numpy() for x in (reference, copy)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its libraries deprecate
        try:
            return float(_visqol_api().measure_from_arrays(*signals, MOS_RATE).moslqo), ""
        except (ValueError, IndexError, ZeroDivisionError) as error:
            return None, f"ViSQOL gives no score: {' '.join(str(error).split())}"


def _dnsmos(_: Tensor, copy: Tensor, sample_rate: int) -> tuple[float | None, str]:
    """Return the overall score of DNSMOS, or None and the reason."""
    from speechmos import dnsmos

    if not bool(copy.any()):
        return None, "the copy is silent"
    signal = resample(copy, sample_rate, MOS_RATE).float().clamp(-1, 1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dnsmos.run(signal, MOS_RATE)
    return float(found["ovrl_mos"]), "DNSMOS gives no score"


PACKAGED_SCORES = {
    "pesq": PackagedScore("pesq", ("pesq",), _pesq),
    "stoi": PackagedScore("pystoi", ("pystoi",), _stoi),
    "visqol": PackagedScore("visqol-python", ("visqol",), _visqol),
    # speechmos asks for librosa only when it runs.
    "dnsmos": PackagedScore(
        "speechmos", ("librosa", "librosa.feature", "speechmos.dnsmos"), _dnsmos
    ),
}
"""By ``Metric.key``."""
