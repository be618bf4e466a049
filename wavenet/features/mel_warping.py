"""Pitch, formants and speed of a log-mel spectrogram, changed before it is synthesized.

A frame is the sum of two parts in the logarithm: an envelope, which the vocal tract makes, and a
ripple about it, whose period is the pitch where the bands resolve harmonics (Noll 1967). Formants
move with the frequency axis of the envelope, pitch with that of the ripple (a source-filter shift,
as in Roebel and Rodet 2005), and a vocoder with a linear predictor takes its lag from the ripple.
Speed interpolates frames in time and leaves each as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.features import mel_filterbank
from wavenet.features.mel_config import MelConfig

LOWEST_FACTOR, HIGHEST_FACTOR = 0.5, 2.0
"""Range of all three factors."""
ENVELOPE_HZ = 120.0
"""Standard deviation of the Gaussian that smooths the bands to their envelope."""


class MelWarp:
    """Changes pitch and formants of frames, each by itself.

    Args:
        config: settings of the mel.
        pitch: factor of the fundamental frequency.
        formant: factor of the envelope's frequencies.

    Raises:
        ValueError: for a factor outside of 0.5 to 2.
    """

    def __init__(self, config: MelConfig, *, pitch: float = 1.0, formant: float = 1.0) -> None:
        self.pitch, self.formant = (
            require_factor("pitch", pitch),
            require_factor("formant", formant),
        )
        self._floor = torch.tensor(config.floor, dtype=torch.float64)
        self._floor = self._floor.log() if config.log == "ln" else self._floor.log10()
        centres_hz = _centres_hz(config)
        near = torch.exp(-0.5 * ((centres_hz[:, None] - centres_hz) / ENVELOPE_HZ) ** 2)
        smooth = near / near.sum(1, keepdim=True)
        ripple = torch.eye(len(centres_hz), dtype=torch.float64) - smooth
        self._matrix = _stretch(centres_hz, formant) @ smooth + _stretch(centres_hz, pitch) @ ripple

    def __call__(self, mel: Tensor) -> Tensor:
        """``[M, F]`` to ``[M, F]``; the mel itself where both factors are 1."""
        if self.pitch == self.formant == 1:
            return mel
        return (self._matrix @ mel.double()).clamp(min=float(self._floor)).to(mel.dtype)


def change_speed(mel: Tensor, speed: float) -> Tensor:
    """Return ``[M, F / speed]`` of ``[M, F]``, linearly interpolated in time.

    Raises:
        ValueError: for a speed outside of 0.5 to 2.
    """
    if require_factor("speed", speed) == 1:
        return mel
    n_frames = max(1, round(mel.shape[1] / speed))
    return F.interpolate(mel[None], size=n_frames, mode="linear", align_corners=False)[0]


def require_factor(name: str, value: float) -> float:
    """Return the value; raise ValueError unless it is from 0.5 to 2."""
    if not LOWEST_FACTOR <= value <= HIGHEST_FACTOR:
        raise ValueError(f"{name}={value} must be from {LOWEST_FACTOR:g} to {HIGHEST_FACTOR:g}")
    return float(value)


def _centres_hz(config: MelConfig) -> Tensor:
    """Centre of each band, ``[M]``."""
    filterbank = mel_filterbank(config, dtype=torch.float64)
    bins_hz = torch.arange(filterbank.shape[1], dtype=torch.float64)
    bins_hz *= config.sample_rate / config.n_fft
    return (filterbank @ bins_hz) / filterbank.sum(1).clamp(min=1e-12)


def _stretch(centres_hz: Tensor, factor: float) -> Tensor:
    """``[M, M]``: values of bands at f to values at factor f, linearly interpolated."""
    wanted = (centres_hz / factor).clamp(float(centres_hz[0]), float(centres_hz[-1]))
    above = torch.searchsorted(centres_hz, wanted).clamp(1, len(centres_hz) - 1)
    low, high = centres_hz[above - 1], centres_hz[above]
    share = ((wanted - low) / (high - low)).clamp(0, 1)
    matrix = torch.zeros(len(centres_hz), len(centres_hz), dtype=torch.float64)
    rows = torch.arange(len(centres_hz))
    matrix[rows, above - 1] = 1 - share
    matrix[rows, above] += share
    return matrix
