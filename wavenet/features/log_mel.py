r"""Log-mel spectrograms; every setting that their values depend on is in a `MelConfig`.

For a frame f, a window w of `win_samples` (Hann, periodic) in the middle of `n_fft` samples:

    X[k, f] = sum_n w[n] x[start(f) + n] exp(-2 pi i k n / n_fft)
    mel[m, f] = sum_k filterbank[m, k] (|X[k, f]|^2 + power_epsilon)^(power / 2)
    row[m, f] = log(max(mel[m, f], floor))

Frames are `hop_samples` apart. There are two conventions for their position (`padding`):

    "hop"     start(f) = hop f - (n_fft - hop) / 2: frame f is centred on sample hop f + hop / 2,
              the middle of its own hop; F = ceil(T / hop), every sample has a frame
    "center"  start(f) = hop f - n_fft / 2: frame f is centred on sample hop f;
              F = floor(T / hop) + 1

Beyond its ends the signal is padded by reflection, x[-n] = x[n], repeatedly if the signal is
shorter than the padding (as numpy's "reflect" does; a single sample repeats).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from wavenet.features.mel_config import MelConfig
from wavenet.values.autocast import without_autocast
from wavenet.values.text import short

__all__ = ["MelConfig", "log_mel", "log_mel_rows", "mel_filterbank"]


def mel_filterbank(
    config: MelConfig,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Triangular band filters, `[n_mels, n_fft // 2 + 1]`.

    M + 2 edges e[0] ... e[M + 1] are equally spaced on the mel scale from `f_min_hz` to `f_max_hz`.
    Band m rises from 0 at e[m] to 1 at e[m + 1] and falls to 0 at e[m + 2]; `mel_norm` "slaney"
    multiplies it by 2 / (e[m + 2] - e[m]). Computed in float64 on the CPU (Slaney 1998, Auditory
    Toolbox, `mfcc`), then rounded to `dtype`.

    Warns if a band is narrower than the bins of the transform and contains none of them.

    >>> tuple(mel_filterbank(MelConfig()).shape)
    (80, 513)
    """
    low = _to_mel(config.f_min_hz, config.mel_scale)
    high = _to_mel(config.f_max_hz, config.mel_scale)
    exact: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
    edges = torch.linspace(low, high, config.n_mels + 2, **exact)
    edges_hz = _to_hz(edges, config.mel_scale)
    bins = torch.arange(config.n_fft // 2 + 1, **exact)
    bins_hz = bins * (config.sample_rate / config.n_fft)
    widths_hz = edges_hz.diff()[:, None]
    rise = (bins_hz - edges_hz[:-2, None]) / widths_hz[:-1]
    fall = (edges_hz[2:, None] - bins_hz) / widths_hz[1:]
    filters = torch.minimum(rise, fall).clamp(min=0.0)
    n_empty = int((filters.amax(dim=1) == 0).sum())
    if n_empty:
        warnings.warn(
            f"{n_empty} of {config.n_mels} mel bands are empty; lower n_mels or raise n_fft",
            stacklevel=2,
        )
    if config.mel_norm == "slaney":
        filters = filters * (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    device = torch.empty(0).device if device is None else device
    return filters.to(device=device, dtype=dtype)


def log_mel(x: Tensor, config: MelConfig, filterbank: Tensor | None = None) -> Tensor:
    """Compute the log-mel spectrogram of whole signals; on any device, differentiable.

    >>> speech = torch.randn(2, 16000) / 10  # two seconds of noise at 16 kHz
    >>> tuple(log_mel(speech, MelConfig()).shape)
    (2, 80, 80)

    Args:
        x: `[..., T]` in [-1, 1], floating point, at `config.sample_rate`.
        config: the settings.
        filterbank: `[n_mels, n_fft // 2 + 1]`, such as a checkpoint keeps; None computes it anew.

    Returns:
        `[..., n_mels, F]`, F = `config.frames(T)`, float64 for float64 and otherwise float32, also
        under autocast.

    Raises:
        TypeError: x is no tensor or not floating point, or config no `MelConfig`.
        ValueError: no samples, or a filterbank of another shape.
    """
    _require_signal(x, config)
    return log_mel_rows(x, config, 0, config.frames(x.shape[-1]), filterbank)


def log_mel_rows(
    x: Tensor, config: MelConfig, first: int, count: int, filterbank: Tensor | None = None
) -> Tensor:
    """Compute frames `first` to `first + count` of `log_mel(x)`, from their own samples alone.

    The first and last frame are repeated outside of the signal.

    >>> config, speech = MelConfig(), torch.randn(1, 16000)
    >>> rows = log_mel_rows(speech, config, first=20, count=3)
    >>> torch.allclose(rows, log_mel(speech, config)[..., 20:23], atol=1e-4)
    True

    Args:
        x: the whole signals, `[..., T]`, which are reflected at their ends.
        config: the settings.
        first: the first frame; may be negative.
        count: number of frames.
        filterbank: as for `log_mel`.

    Returns:
        `[..., n_mels, count]`.

    Raises:
        TypeError, ValueError: as `log_mel`, and for a count below 1.
    """
    _require_signal(x, config)
    if count < 1:
        raise ValueError(f"count is {count}; request at least one frame")
    last = config.frames(x.shape[-1]) - 1
    low, high = (min(max(frame, 0), last) for frame in (first, first + count - 1))
    start = low * config.hop_samples - config.pad_samples
    stop = high * config.hop_samples - config.pad_samples + config.n_fft
    rows = _rows_of_section(_mirrored(x, start, stop), config, filterbank)
    if (first, first + count - 1) == (low, high):
        return rows
    wanted = torch.arange(first, first + count, device=x.device).clamp(low, high) - low
    return rows.index_select(-1, wanted)


def _rows_of_section(x: Tensor, config: MelConfig, filterbank: Tensor | None) -> Tensor:
    """Compute `[..., M, F]` of the frames that fit into `x [..., n_fft + (F - 1) hop]`."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    with without_autocast(x.device):
        if filterbank is None:
            filterbank = mel_filterbank(config, dtype=dtype)
        require_filterbank(filterbank, config)
        if not x.numel():  # no rows, of which the FFT is an error
            n_frames = (x.shape[-1] - config.n_fft) // config.hop_samples + 1
            return x.new_zeros((*x.shape[:-1], config.n_mels, n_frames), dtype=dtype)
        spectrum = torch.stft(
            x.reshape(-1, x.shape[-1]).to(dtype),
            config.n_fft,
            config.hop_samples,
            config.win_samples,
            window=torch.hann_window(config.win_samples, dtype=dtype, device=x.device),
            center=False,
            return_complex=True,
        )
        bands = filterbank.to(x.device, dtype) @ _spectral_power(spectrum, config)
        bands = bands.clamp(min=config.floor)
        rows = bands.log() if config.log == "ln" else bands.log10()
    return rows.reshape(*x.shape[:-1], *rows.shape[-2:])


def _spectral_power(spectrum: Tensor, config: MelConfig) -> Tensor:
    """Compute (|X|^2 + power_epsilon)^(power / 2).

    Without epsilon the magnitude is `abs`: its gradient at X = 0 is 0, the square root's infinite.
    """
    if config.power == 1.0 and config.power_epsilon == 0.0:
        return spectrum.abs()
    squares = spectrum.real.square() + spectrum.imag.square() + config.power_epsilon
    return squares if config.power == 2.0 else squares.sqrt()


def _mirrored(x: Tensor, start: int, stop: int) -> Tensor:
    """Return samples `start` to `stop` of `x [..., T]`, padded by reflection on both sides.

    Some of the samples are within the signal: 0 < stop and start < T.
    """
    length = x.shape[-1]
    if start >= 0 and stop <= length:
        return x[..., start:stop]
    outside = torch.cat((torch.arange(min(start, 0), 0), torch.arange(length, max(stop, length))))
    period = max(2 * (length - 1), 1)  # there and back; a single sample repeats
    index = outside.remainder(period)
    mirror = x.index_select(-1, torch.minimum(index, period - index).to(x.device))
    before = max(-start, 0)
    return torch.cat((mirror[..., :before], x[..., max(start, 0) : stop], mirror[..., before:]), -1)


def _require_signal(x: Tensor, config: MelConfig) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(
            f"x is a {type(x).__name__}; give a tensor, such as torch.from_numpy(array)"
        )
    if not isinstance(config, MelConfig):
        raise TypeError(
            f"config={short(config)} is no MelConfig; give one, such as MelConfig.preset('hifigan')"
        )
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; give floats in [-1, 1], such as int16 / 32768")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x has shape {list(x.shape)}; give [..., T] with at least one sample")


def require_filterbank(filterbank: Tensor, config: MelConfig) -> None:
    """Raise ValueError unless a filterbank has the shape that the settings need."""
    wanted = (config.n_mels, config.n_fft // 2 + 1)
    if filterbank.shape != wanted:
        raise ValueError(
            f"filterbank has shape {list(filterbank.shape)}, the config needs {list(wanted)}; "
            "use mel_filterbank(config)"
        )


# The Slaney scale: 200 / 3 Hz a mel up to 1 kHz (15 mel), then a factor of 6.4 every 27 mel.
_LINEAR_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0
_HTK_MEL, _HTK_HZ = 2595.0, 700.0


def _to_mel(hz: float, scale: str) -> float:
    if scale == "htk":
        return _HTK_MEL * math.log10(1.0 + hz / _HTK_HZ)
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return _BREAK_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _to_hz(mel: Tensor, scale: str) -> Tensor:
    if scale == "htk":
        return _HTK_HZ * (10.0 ** (mel / _HTK_MEL) - 1.0)
    logarithmic = _BREAK_HZ * torch.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return torch.where(mel < _BREAK_MEL, mel * _LINEAR_HZ_PER_MEL, logarithmic)
