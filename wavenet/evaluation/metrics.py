"""Distances of a copy from its recording: the metrics that a report gives.

Both signals have the same length and are aligned sample by sample, as every copy is made
from the recording's own frames; nothing is warped in time. The definitions are in ``METRICS``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.evaluation.packaged_scores import PACKAGED_SCORES, PESQ_LONGEST_S
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
from wavenet.values.text import short

INSTALL = "not installed: pip install 'wavenet-audio[eval]'"
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
CHOICES = (*PACKAGED_SCORES, "f0")
"""Metrics that may be left out: ``PACKAGED_SCORES``, and f0 for those of ``PITCH_KEYS``."""
NOT_CHOSEN = "not chosen"


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
    """Metrics that are measured: those that were chosen, where their packages are installed.

    Args:
        chosen: of ``CHOICES``; None for all. The other metrics are measured in any case.

    Attributes:
        tracker: of F0, or None.
        unavailable: by ``Metric.key``, why nothing has that metric.

    Raises:
        ValueError: for a name that is not in ``CHOICES``.
    """

    def __init__(self, chosen: Collection[str] | None = None) -> None:
        wanted = CHOICES if chosen is None else chosen
        for name in wanted:
            if name not in CHOICES:
                raise ValueError(
                    f"metrics={short(name)} is unknown; choose of {', '.join(CHOICES)}"
                )
        self.tracker: Tracker | None = find_tracker() if "f0" in wanted else None
        self.unavailable: dict[str, str] = {}
        for key, score in PACKAGED_SCORES.items():
            if key not in wanted:
                self.unavailable[key] = NOT_CHOSEN
            elif not score.is_installed():
                self.unavailable[key] = f"{score.package} is {INSTALL}"
        if self.tracker is None:
            why = f"librosa is {INSTALL}" if "f0" in wanted else NOT_CHOSEN
            self.unavailable |= dict.fromkeys(PITCH_KEYS, why)


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
        for key, score in PACKAGED_SCORES.items():
            if key not in self.instruments.unavailable:
                scores.add(key, *score.measure(self.audio, copy, self.sample_rate))
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
