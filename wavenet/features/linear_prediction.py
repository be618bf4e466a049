"""A linear predictor and a pitch lag from each frame of a log-mel spectrogram, in closed form.

Predictor: the bands are spread over the bins of a power spectrum, whose inverse transform is the
autocorrelation r, and the Levinson-Durbin recursion solves sum_k a_k r[|j - k|] = r[j] (Makhoul
1975, equations 9 and 38; from a mel: Valin and Skoglund 2019, LPCNet, section 2.1, there from
bands of the Bark scale). The residual of r[0] is the power of the excitation, the gain squared.

Lag: harmonics of f0 cause a ripple of period f0 in the bands below 1 kHz. The lag is that of the
cosine with the largest correlation with the bands, their envelope subtracted (a cepstral pitch
estimate; Noll 1967).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.features import mel_filterbank
from wavenet.features.mel_config import MelConfig
from wavenet.values.autocast import without_autocast
from wavenet.values.computed_buffers import ComputedBuffers

WHITE_NOISE = 1e-4
"""Share of r[0] added to it, -40 dB: bounds the coefficients (Valin and Skoglund 2019, 3.2)."""
QUIETEST_RMS = 1 / 65536
"""Half a 16-bit step: the gain never falls below that of rounding, even if a mel is silent."""
RAYLEIGH = 4 / math.pi
"""E|X|^2 over (E|X|)^2 for complex normal X: power from a mean of magnitudes."""
PITCH_RANGE_HZ = (75.0, 500.0)
"""Range of pitch: bands that are 37 Hz apart do not resolve a ripple finer than 75 Hz."""
RIPPLE_TO_HZ = 1000.0
"""Limit above which the bands of the usual scales are wider than the distance of harmonics."""
ENVELOPE_HZ = 120.0
"""Standard deviation of the Gaussian that smooths the bands to their envelope."""
NEUTRAL_COEFFICIENT, NEUTRAL_RMS = 0.9, 0.01
"""Predictor without a mel: the tilt of speech, and a typical excitation (-40 dB)."""


class MelPredictor(ComputedBuffers):
    """Log-mel ``[B, M, F]`` to the conditioning of a ``LinearPrediction`` ``[B, order + 2, F]``.

    Rows: the coefficients a_1 .. a_order, log g, and the lag from -1 to 1 (``lag_range_samples``).
    A frame's lag depends on its neighbours too; the other rows on one frame. It has no parameters.

    >>> predictor = MelPredictor(MelConfig(), order=16)
    >>> tuple(predictor(torch.zeros(1, 80, 10)).shape)
    (1, 18, 10)

    Args:
        mel: the settings of the mel.
        order: coefficients of the predictor.
    """

    to_power: Tensor
    to_lags: Tensor

    context = 1
    """Frames on each side that an output depends on."""

    def __init__(self, mel: MelConfig, order: int) -> None:
        super().__init__()
        self.mel, self.order = mel, order
        self.register_computed()

    def compute_buffers(self) -> dict[str, Tensor]:
        """``to_power [bins, M]`` and ``to_lags [lags, M]``."""
        filterbank = mel_filterbank(self.mel, dtype=torch.float64)
        return {
            "to_power": _spread(filterbank, self.mel),
            "to_lags": _ripples(filterbank, self.mel),
        }

    @staticmethod
    def lag_range_samples(sample_rate: int) -> tuple[int, int]:
        """Shortest and longest pitch period."""
        low_hz, high_hz = PITCH_RANGE_HZ
        return round(sample_rate / high_hz), round(sample_rate / low_hz)

    def forward(self, log_mel: Tensor) -> Tensor:
        """``[B, M, F]`` to ``[B, order + 2, F]``, no gradient through the lag."""
        with without_autocast(log_mel.device):
            # Solved in float64: the spectrum of speech spans 60 dB and more.
            magnitude = self._magnitude(log_mel.double())
            power = torch.einsum("km,bmf->bfk", self.to_power.double(), magnitude.square())
            r = torch.fft.irfft(power, n=self.mel.n_fft)[..., : self.order + 1]
            floor = torch.zeros_like(r)
            floor[..., 0] = WHITE_NOISE * r[..., 0] + QUIETEST_RMS**2
            coefficients, error = levinson(r + floor)
            rows = torch.cat([coefficients, 0.5 * error.log()[..., None]], dim=-1)
            lag = self._lag(magnitude.detach())
        return torch.cat([rows.transpose(1, 2), lag], dim=1).to(log_mel.dtype)

    def neutral(self) -> Tensor:
        """Return the column for an unknown mel, ``[order + 2]``."""
        column = torch.zeros(self.order + 2)
        column[0], column[self.order] = NEUTRAL_COEFFICIENT, math.log(NEUTRAL_RMS)
        return column

    def _magnitude(self, log_mel: Tensor) -> Tensor:
        """Root mean square or mean magnitude of each band, up to the band's own factor."""
        bands = log_mel.exp() if self.mel.log == "ln" else 10**log_mel
        return bands if self.mel.power == 1.0 else bands.sqrt()

    def _lag(self, magnitude: Tensor) -> Tensor:
        """``[B, 1, F]``, from -1 to 1."""
        n_lags = self.to_lags.shape[0]
        scores = self.to_lags.double() @ magnitude.sqrt()  # [B, lags, F]
        scores = F.pad(scores, (1, 1), mode="replicate")
        scores = scores[..., :-2] + scores[..., 1:-1] + scores[..., 2:]
        best = scores.argmax(1, keepdim=True)
        # The vertex of the parabola through the best score and its neighbours.
        inner = best.clamp(1, n_lags - 2)
        left, middle, right = (scores.gather(1, inner + i) for i in (-1, 0, 1))
        curve = (left - 2 * middle + right).clamp(max=-1e-12)
        vertex = inner + (0.5 * (left - right) / curve).clamp(-1, 1)
        return torch.where(inner == best, vertex, best.double()) * 2 / (n_lags - 1) - 1


def levinson(r: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for the predictor of autocorrelation r (Levinson-Durbin; Makhoul 1975, eq. 38).

    Args:
        r: ``[..., order + 1]``, r[0] positive.

    Returns:
        Coefficients ``[..., order]``, a_1 first, and the power of the residual, ``[...]``.
    """
    a, error = r[..., :0], r[..., 0]
    for i in range(1, r.shape[-1]):
        reflection = (r[..., i] - (a * r[..., 1:i].flip(-1)).sum(-1)) / error
        k = reflection[..., None]
        a = torch.cat([a - k * a.flip(-1), k], dim=-1)
        error = error * (1 - reflection.square())
    return a, error


def _spread(filterbank: Tensor, mel: MelConfig) -> Tensor:
    """``[bins, M]``: squared bands to the power spectrum of the signal, per sample.

    Each bin takes the mean of the bands over it, weighted by their filters; a bin outside of all
    bands takes the nearest one inside.
    """
    shape = filterbank / filterbank.amax(1, keepdim=True).clamp(min=1e-12)
    weights = shape / shape.sum(0).clamp(min=1e-12)
    inside = (shape.sum(0) > 0).nonzero().flatten()
    bins = torch.arange(shape.shape[1]).clamp(int(inside[0]), int(inside[-1]))
    area = filterbank.sum(1).clamp(min=1e-12)
    per_band = RAYLEIGH / area.square() if mel.power == 1.0 else 1 / area
    window = torch.hann_window(mel.win_samples, dtype=torch.float64)
    return weights.T[bins] * per_band / window.square().sum()


def _ripples(filterbank: Tensor, mel: MelConfig) -> Tensor:
    """``[lags, M]``: correlation of a ripple of each lag with the bands, envelope subtracted."""
    area = filterbank.sum(1).clamp(min=1e-12)
    bins_hz = torch.arange(filterbank.shape[1], dtype=torch.float64) * mel.sample_rate / mel.n_fft
    centres_hz = (filterbank @ bins_hz) / area
    used = (centres_hz > 0) & (centres_hz < RIPPLE_TO_HZ)
    centres_hz = torch.where(used, centres_hz, 0)
    near = torch.exp(-0.5 * ((centres_hz[:, None] - centres_hz) / ENVELOPE_HZ) ** 2) * used
    smooth = near / near.sum(1, keepdim=True).clamp(min=1e-12)
    shortest, longest = MelPredictor.lag_range_samples(mel.sample_rate)
    lags = torch.arange(shortest, longest + 1, dtype=torch.float64)
    cosines = torch.cos(2 * math.pi * lags[:, None] * centres_hz / mel.sample_rate) * used
    cosines = cosines / cosines.square().sum(1, keepdim=True).sqrt().clamp(min=1e-12)
    less_course = torch.eye(len(area), dtype=torch.float64) - smooth
    # For the square root of a magnitude of any scale: the factor of a band's area is removed.
    return cosines @ less_course / area.sqrt()
