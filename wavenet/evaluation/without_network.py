"""Audio from a mel without any network: an excitation through the predictor that the mel gives.

What a refinement can do by itself shows when it is applied to these. ``noise`` is white noise
through the all-pole filter 1 / (1 - sum_k a_k z^-k) of each frame, scaled by its gain; ``pulses``
has in the place of most of the noise one pulse a pitch period at the lag that the mel gives. Both
know only the mel, as a vocoder does (``features.linear_prediction``).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wavenet.features.linear_prediction import MelPredictor
from wavenet.features.mel_config import MelConfig

ORDER = 20
"""Coefficients of the predictor."""
PULSE_SHARE = 0.7
"""Share of the excitation's power that is pulses; the rest is noise, in every frame."""


def synthesize_without_network(
    mel: Tensor, config: MelConfig, *, pulses: bool, n_samples: int, seed: int = 0
) -> Tensor:
    """Return audio ``[n_samples]`` in [-1, 1] with the envelope (and pitch) of a mel.

    Args:
        mel: ``[M, F]`` as ``log_mel`` makes it.
        config: its settings.
        pulses: whether the excitation has pulses at the mel's lag, or is white noise.
        n_samples: length, at most F hops.
        seed: of the noise.
    """
    columns = MelPredictor(config, ORDER)(mel[None].double())[0]  # [order + 2, F]
    shift = config.centre_samples - config.hop_samples // 2
    at = (torch.arange(n_samples) - shift).div(config.hop_samples, rounding_mode="floor")
    frame_of_sample = at.clamp(0, columns.shape[1] - 1).numpy()
    excitation = np.random.default_rng(seed).standard_normal(n_samples)
    if pulses:
        lags = _lags_samples(columns[-1].numpy(), config.sample_rate)[frame_of_sample]
        train = _pulse_train(lags)
        excitation = np.sqrt(PULSE_SHARE) * train + np.sqrt(1 - PULSE_SHARE) * excitation
    excitation *= columns[ORDER].exp().numpy()[frame_of_sample]
    filtered = _all_pole(excitation, columns[:ORDER].numpy(), frame_of_sample)
    return torch.from_numpy(filtered).float().clamp(-1, 1)


def _lags_samples(lags: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return pitch periods in samples of the predictor's lags from -1 to 1."""
    low, high = MelPredictor.lag_range_samples(sample_rate)
    periods: np.ndarray = (low + high) / 2 + (high - low) / 2 * np.clip(lags, -1, 1)
    return periods


def _pulse_train(periods: np.ndarray) -> np.ndarray:
    """Return pulses of unit power: one whenever the phase passes a whole number of periods."""
    turns = np.floor(np.cumsum(1 / periods))
    train: np.ndarray = np.diff(turns, prepend=0.0) * np.sqrt(periods)
    return train


def _all_pole(excitation: np.ndarray, a: np.ndarray, frame_of_sample: np.ndarray) -> np.ndarray:
    """Filter ``[T]`` by the coefficients ``[order, F]`` of the frame of each sample."""
    from scipy.signal import lfilter, lfiltic

    output = np.zeros(len(excitation))
    edges = np.flatnonzero(np.diff(frame_of_sample)) + 1
    for begin, stop in zip([0, *edges], [*edges, len(excitation)], strict=True):
        denominator = np.concatenate([[1.0], -a[:, frame_of_sample[begin]]])
        past = output[max(0, begin - len(a)) : begin][::-1]
        state = lfiltic([1.0], denominator, past)
        output[begin:stop], _ = lfilter([1.0], denominator, excitation[begin:stop], zi=state)
    return output
