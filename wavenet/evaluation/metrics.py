"""Distances of a copy from its recording: the metrics that a report gives.

Both signals have the same length and are aligned sample by sample, as every copy is made
from the recording's own frames; nothing is warped in time. The definitions are in ``METRICS``.
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.audio import resample
from wavenet.evaluation.pitch import (
    TRACKER,
    Track,
    Tracker,
    find_tracker,
    fine_error_cents,
    gross_error_percent,
    voicing_error_percent,
    why_untracked,
)
from wavenet.features import log_mel
from wavenet.features.mel_config import MelConfig

INSTALL = "not installed: pip install 'wavenet-audio[eval]'"
PESQ_RATE = 16000
PESQ_LONGEST_S = 15.0
"""The C code of P.862 keeps at most 50 bursts of speech and crashes beyond. A burst and the pause
behind it last 0.4 s at least, so that 15 s hold 37 at most."""
MOS_RATE = 16000
"""Rate in Hz at which ViSQOL's speech mode and DNSMOS work."""
VISQOL_SHORTEST_S = 1.0
CEPSTRAL_ORDER = 24
SPEECH_RANGE_DB = 40.0
"""Frames that are further below the loudest frame of the recording are pauses."""


@dataclass(frozen=True)
class Metric:
    """One number of a report.

    Attributes:
        key: its name in ``report.json``.
        title: in tables.
        unit: such as dB; empty for scores.
        higher_is_better: the direction.
        digits: shown behind the point.
        definition: in full, with its source.
    """

    key: str
    title: str
    unit: str
    higher_is_better: bool
    digits: int
    definition: str


METRICS = (
    Metric(
        "bits_per_sample",
        "bits per sample",
        "bits",
        False,
        3,
        "Exact -log2 P of the 16-bit samples under teacher forcing, over the whole recording from "
        "silence (van den Oord et al. 2016, equation 1), with float32 weights.",
    ),
    Metric(
        "pesq",
        "PESQ",
        "",
        True,
        2,
        "Wideband PESQ (ITU-T P.862.2, MOS-LQO) at 16 kHz; from 1.0 to 4.64. Copies longer than "
        f"{PESQ_LONGEST_S:g} s: the mean over equal parts.",
    ),
    Metric(
        "stoi",
        "STOI",
        "",
        True,
        3,
        "Short-time objective intelligibility (Taal et al. 2011); at most 1.",
    ),
    Metric(
        "visqol",
        "ViSQOL",
        "",
        True,
        2,
        "ViSQOL v3 in speech mode at 16 kHz (Chinen et al. 2020), MOS-LQO from 1 to 5, as "
        "visqol-python computes it with its polynomial mapping, which is above the lattice's.",
    ),
    Metric(
        "dnsmos",
        "DNSMOS",
        "",
        True,
        2,
        "DNSMOS P.835, overall (Reddy et al. 2022), at 16 kHz, as speechmos computes it: from "
        "the copy alone, so the recording has a score too.",
    ),
    Metric(
        "log_mel_l1",
        "log-mel L1",
        "nats",
        False,
        3,
        "Mean absolute difference of log magnitude mel spectrograms: 80 bands to half the sample "
        "rate, Hann windows of 50 ms every 12.5 ms, floor 1e-5; all frames.",
    ),
    Metric(
        "mcd_db",
        "MCD",
        "dB",
        False,
        2,
        "Mel-cepstral distortion (Kubichek 1993): 10 / ln 10 sqrt(2 sum_d (c_d - c'_d)^2), d = 1 "
        f"to {CEPSTRAL_ORDER}, where c is the cosine transform of the log magnitude mel spectrum "
        "of log-mel L1 (no WORLD or SPTK envelope), scaled so that ln mel = c_0 / 2 + sum_d c_d "
        "cos(...); mean over frames within "
        f"{SPEECH_RANGE_DB:g} dB of the recording's loudest; no time warping.",
    ),
    Metric(
        "f0_error_cents",
        "F0 error",
        "cents",
        False,
        1,
        "Root mean square of 1200 log2 of the ratio of F0, every 5 ms, over frames voiced in both, "
        f"those with a gross error left out. F0 by {TRACKER}.",
    ),
    Metric(
        "f0_gross_error_percent",
        "gross F0 error",
        "%",
        False,
        1,
        "Share of the frames voiced in both whose F0 is off by more than 20% (GPE; Chu and Alwan "
        f"2009). F0 by {TRACKER}.",
    ),
    Metric(
        "voicing_error_percent",
        "voicing error",
        "%",
        False,
        1,
        "Share of frames of 5 ms that are voiced in the recording or in the copy alone (VDE; Chu "
        f"and Alwan 2009). Voicing by {TRACKER}.",
    ),
    Metric(
        "real_time_factor",
        "x real time",
        "",
        True,
        2,
        "Seconds of audio made per second of one core's work; a model makes several rows at once, "
        "and the row shares the speed of its batch.",
    ),
)
"""Every metric, in the order of the tables."""
PITCH_KEYS = ("f0_error_cents", "f0_gross_error_percent", "voicing_error_percent")


@dataclass
class Scores:
    """Scores of one copy.

    Attributes:
        values: by ``Metric.key``; finite.
        missing: why others have no value here, by key.
    """

    values: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, value: float | None, reason: str) -> None:
        """A value, or the reason where there is none that is finite."""
        if value is not None and math.isfinite(value):
            self.values[key] = value
        else:
            self.missing[key] = reason


class Instruments:
    """Metrics that this installation can measure.

    Attributes:
        tracker: of F0, or None.
        unavailable: by ``Metric.key``, why nothing has that metric.
    """

    def __init__(self) -> None:
        self.tracker: Tracker | None = find_tracker()
        self.unavailable: dict[str, str] = {}
        if not _has_pesq():
            self.unavailable["pesq"] = f"pesq is {INSTALL}"
        if not _has_pystoi():
            self.unavailable["stoi"] = f"pystoi is {INSTALL}"
        if not _has_visqol():
            self.unavailable["visqol"] = f"visqol-python is {INSTALL}"
        if not _has_dnsmos():
            self.unavailable["dnsmos"] = f"speechmos is {INSTALL}"
        if self.tracker is None:
            for key in PITCH_KEYS:
                self.unavailable[key] = f"librosa is {INSTALL}"


class Reference:
    """A recording that copies are measured against; what they share is computed once.

    Args:
        audio: ``[T]`` in [-1, 1].
        sample_rate: in Hz.
        instruments: what can be measured.
    """

    def __init__(self, audio: Tensor, sample_rate: int, instruments: Instruments) -> None:
        self.audio, self.sample_rate, self.instruments = audio, sample_rate, instruments
        self.mel_config = measuring_mel(sample_rate)
        self._mel = log_mel(audio, self.mel_config)
        self._f0 = self._track(audio)

    def compare(self, copy: Tensor) -> Scores:
        """Compute all distances of a copy ``[T]`` of the same length.

        Raises:
            ValueError: for another length.
        """
        if copy.shape != self.audio.shape:
            raise ValueError(
                f"copy has shape {tuple(copy.shape)}, expected {tuple(self.audio.shape)} as the "
                "recording has; cut or pad it"
            )
        scores = Scores()
        if "pesq" not in self.instruments.unavailable:
            scores.add("pesq", *_pesq(self.audio, copy, self.sample_rate))
        if "stoi" not in self.instruments.unavailable:
            scores.add("stoi", *_stoi(self.audio, copy, self.sample_rate))
        if "visqol" not in self.instruments.unavailable:
            scores.add("visqol", *_visqol(self.audio, copy, self.sample_rate))
        if "dnsmos" not in self.instruments.unavailable:
            scores.add("dnsmos", *_dnsmos(copy, self.sample_rate))
        mel = log_mel(copy, self.mel_config)
        scores.add("log_mel_l1", float((mel - self._mel).abs().mean()), "")
        scores.add("mcd_db", mel_cepstral_distortion(self._mel, mel), "")
        if self.instruments.tracker is not None:
            self._compare_pitch(copy, scores)
        return scores

    def _compare_pitch(self, copy: Tensor, scores: Scores) -> None:
        if self._f0 is None:
            reason = why_untracked(len(copy), self.sample_rate)
            assert reason is not None
            for key in PITCH_KEYS:
                scores.add(key, None, reason)
            return
        track = self._track(copy)
        assert track is not None
        neither = "no frame is voiced in both"
        scores.add("f0_error_cents", fine_error_cents(self._f0, track), neither)
        scores.add("f0_gross_error_percent", gross_error_percent(self._f0, track), neither)
        scores.add("voicing_error_percent", voicing_error_percent(self._f0, track), "")

    def _track(self, audio: Tensor) -> Track | None:
        tracker = self.instruments.tracker
        if tracker is None or why_untracked(len(audio), self.sample_rate) is not None:
            return None
        return tracker.track(audio.double().numpy(), self.sample_rate)


def measuring_mel(sample_rate: int) -> MelConfig:
    """The mel that distances are measured with, whatever the model's own: 50 ms every 12.5 ms."""
    hop = 2 * max(1, round(sample_rate / 160))
    return MelConfig(
        sample_rate=sample_rate,
        n_fft=2 ** math.ceil(math.log2(4 * hop)),
        win_samples=4 * hop,
        hop_samples=hop,
        f_max_hz=sample_rate / 2,
    )


def mel_cepstral_distortion(reference: Tensor, copy: Tensor) -> float:
    """Mel-cepstral distortion in dB, of log-mels ``[M, F]`` in nats; see ``METRICS``."""
    n_mels = reference.shape[0]
    band = torch.arange(n_mels, dtype=torch.float64)
    order = torch.arange(1, CEPSTRAL_ORDER + 1, dtype=torch.float64)
    cosines = torch.cos(torch.pi * order[:, None] * (band + 0.5) / n_mels)
    difference = (2 / n_mels) * cosines @ (copy - reference).double()  # [D, F]
    frames_db = 10 / math.log(10) * (2 * difference.square().sum(dim=0)).sqrt()
    level_db = 10 / math.log(10) * (2 * reference.double()).logsumexp(dim=0)
    return float(frames_db[level_db >= level_db.max() - SPEECH_RANGE_DB].mean())


def _has_pesq() -> bool:
    try:
        import pesq  # noqa: F401
    except ImportError:
        return False
    return True


def _has_pystoi() -> bool:
    try:
        import pystoi  # noqa: F401
    except ImportError:
        return False
    return True


def _has_visqol() -> bool:
    try:
        import visqol  # noqa: F401
    except ImportError:
        return False
    return True


def _has_dnsmos() -> bool:
    try:
        import librosa.feature  # noqa: F401  (speechmos asks for it only when it runs)
        from speechmos import dnsmos  # noqa: F401
    except ImportError:  # also where librosa or onnxruntime is missing
        return False
    return True


def _pesq(reference: Tensor, copy: Tensor, sample_rate: int) -> tuple[float | None, str]:
    """The score, or None and the reason."""
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
    """The score, or None and the reason."""
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
    """The score, or None and the reason."""
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


def _dnsmos(copy: Tensor, sample_rate: int) -> tuple[float | None, str]:
    """The score, or None and the reason."""
    from speechmos import dnsmos

    if not bool(copy.any()):
        return None, "the copy is silent"
    signal = resample(copy, sample_rate, MOS_RATE).float().clamp(-1, 1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dnsmos.run(signal, MOS_RATE)
    return float(found["ovrl_mos"]), "DNSMOS gives no score"
