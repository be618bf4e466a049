r"""Log-mel spectrograms, with every setting that their values depend on in one versioned record.

For a frame f, a window w of `win_samples` (Hann, periodic) in the middle of `n_fft` samples:

    X[k, f] = sum_n w[n] x[start(f) + n] exp(-2 pi i k n / n_fft)
    mel[m, f] = sum_k filterbank[m, k] (|X[k, f]|^2 + power_epsilon)^(power / 2)
    row[m, f] = log(max(mel[m, f], floor))

Frames are `hop_samples` apart. Two conventions are in use for where they lie (`padding`):

    "hop"     start(f) = hop f - (n_fft - hop) / 2: frame f is centred on sample hop f + hop / 2,
              the middle of the hop that is its own; F = ceil(T / hop), every sample has a frame
    "center"  start(f) = hop f - n_fft / 2: frame f is centred on sample hop f;
              F = floor(T / hop) + 1

Beyond its ends the signal goes on as its mirror image, x[-n] = x[n], again and again if the signal
is shorter than the mirror (as numpy's "reflect" does; a single sample repeats).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

MEL_VERSION = 1  # of the meaning of MelConfig; a change of any formula here is a new version


@dataclass(frozen=True)
class MelConfig:
    """The settings of a log-mel spectrogram; the defaults are the preset "wavenet-16k".

    Attributes:
        sample_rate: Hz.
        n_fft: length of the Fourier transform in samples, even.
        win_samples: length of the Hann window, at most `n_fft`.
        hop_samples: distance of two frames, at most `win_samples`; even with padding "hop".
        n_mels: bands, M.
        f_min_hz, f_max_hz: lower edge of the first band and upper edge of the last.
        mel_scale: "slaney" (Auditory Toolbox: linear to 1 kHz, logarithmic above) or "htk"
            (2595 log10(1 + f / 700), O'Shaughnessy 1987).
        mel_norm: "slaney" gives every band the area 1 Hz, None the height 1.
        power: 1.0 sums magnitudes, 2.0 powers.
        power_epsilon: added to the power spectrum (HiFi-GAN: 1e-9).
        log: "ln" or "log10".
        floor: smallest value that goes into the logarithm.
        padding: where the frames lie: "hop" or "center" (see the head of this module).
        version: of these definitions.

    Raises:
        ValueError, TypeError: from the constructor, for a value that makes no spectrogram.
    """

    sample_rate: int = 16000
    n_fft: int = 1024
    win_samples: int = 800
    hop_samples: int = 200
    n_mels: int = 80
    f_min_hz: float = 0.0
    f_max_hz: float = 8000.0
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney"] | None = "slaney"
    power: float = 1.0
    power_epsilon: float = 0.0
    log: Literal["ln", "log10"] = "ln"
    floor: float = 1e-5
    padding: Literal["hop", "center"] = "hop"
    version: int = MEL_VERSION

    def __post_init__(self) -> None:
        if self.version != MEL_VERSION:
            raise ValueError(
                f"mel version is {self.version!r}, this package knows version {MEL_VERSION}; "
                "install the version of wavenet that wrote it"
            )
        for name in ("sample_rate", "n_fft", "win_samples", "hop_samples", "n_mels"):
            _require_positive_integer(name, getattr(self, name))
        for name in ("f_min_hz", "f_max_hz", "power", "power_epsilon", "floor"):
            object.__setattr__(self, name, _finite_float(name, getattr(self, name)))
        _require_choice("mel_scale", self.mel_scale, ("slaney", "htk"))
        _require_choice("mel_norm", self.mel_norm, ("slaney", None))
        _require_choice("power", self.power, (1.0, 2.0))
        _require_choice("log", self.log, ("ln", "log10"))
        _require_choice("padding", self.padding, ("hop", "center"))
        self._require_lengths()
        self._require_bands()

    def _require_lengths(self) -> None:
        if self.n_fft % 2:
            raise ValueError(f"n_fft is {self.n_fft}; make it even")
        if self.win_samples > self.n_fft:
            raise ValueError(
                f"win_samples is {self.win_samples}, more than n_fft {self.n_fft}; "
                "shorten the window or raise n_fft"
            )
        if self.hop_samples > self.win_samples:
            raise ValueError(
                f"hop_samples is {self.hop_samples}, more than win_samples {self.win_samples}: "
                "samples between the frames would be lost; lower the hop"
            )
        if self.padding == "hop" and self.hop_samples % 2:
            raise ValueError(
                f"hop_samples is {self.hop_samples}; make it even, or use padding 'center'"
            )

    def _require_bands(self) -> None:
        nyquist_hz = self.sample_rate / 2
        if self.f_max_hz > nyquist_hz:
            raise ValueError(
                f"f_max_hz is {self.f_max_hz}, above half of sample_rate {self.sample_rate}; "
                f"use at most {nyquist_hz}"
            )
        if not 0 <= self.f_min_hz < self.f_max_hz:
            raise ValueError(
                f"f_min_hz is {self.f_min_hz}; choose from 0 to below f_max_hz {self.f_max_hz}"
            )
        if self.floor <= 0:
            raise ValueError(f"floor is {self.floor}; use a positive value, such as 1e-5")
        if self.power_epsilon < 0:
            raise ValueError(f"power_epsilon is {self.power_epsilon}; use 0 or more")

    @property
    def channels(self) -> int:
        """Rows of the spectrogram, M = n_mels."""
        return self.n_mels

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_samples

    @property
    def centre_samples(self) -> int:
        """The sample on which frame 0 is centred; frame f is `hop_samples * f` later."""
        return self.hop_samples // 2 if self.padding == "hop" else 0

    @property
    def pad_samples(self) -> int:
        """How many samples frame 0 starts before the signal."""
        return self.n_fft // 2 - self.centre_samples

    def normalised(self, rows: Tensor) -> Tensor:
        """Rows as a network likes them: the floor becomes -2, a band of magnitude 1 becomes 2.

        The rows themselves have a mean far below 0, which would drive a network's gates into
        saturation before it has learnt anything.

        Args:
            rows: ``[..., M, F]`` of ``log_mel`` with these settings.
        """
        lowest = math.log(self.floor) if self.log == "ln" else math.log10(self.floor)
        return (rows - lowest / 2) / max(abs(lowest) / 4, 1.0)

    def frames(self, n_samples: int) -> int:
        """F, the number of frames of `n_samples` samples.

        Raises:
            ValueError: n_samples is less than 1.
        """
        if n_samples < 1:
            raise ValueError(f"n_samples is {n_samples}; a mel needs at least one sample")
        if self.padding == "hop":
            return -(-n_samples // self.hop_samples)
        return n_samples // self.hop_samples + 1

    def to_dict(self) -> dict[str, Any]:
        """All settings, as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> MelConfig:
        """The config of what `to_dict` gave.

        Raises:
            ValueError: another version, an unknown key or a missing one (named), or a bad value.
        """
        names = [field.name for field in fields(cls)]
        version = settings.get("version", MEL_VERSION)
        if version == MEL_VERSION:  # another version may have other keys: the constructor tells
            unknown = [str(key) for key in settings if key not in names]
            if unknown:
                raise ValueError(
                    f"unknown mel setting {', '.join(unknown)}; known are {', '.join(names)}"
                )
            missing = [name for name in names if name not in settings]
            if missing:
                raise ValueError(f"mel setting {', '.join(missing)} is missing; add it")
            return cls(**settings)
        return cls(version=version)

    @classmethod
    def preset(cls, name: str) -> MelConfig:
        """Settings by name.

        "wavenet-16k": for vocoding speech at 16 kHz. Window 50 ms and hop 12.5 ms as in Tacotron 2
            (Shen et al. 2018, section 2.1), so that one second is 80 frames; all frequencies
            up to 8 kHz; magnitude, scale, logarithm and floor as the two below.
        "tacotron2": NVIDIA's Tacotron 2 and WaveGlow at 22.05 kHz.
        "hifigan": HiFi-GAN V1 to V3 (Kong et al. 2020) at 22.05 kHz. Differs in where the frames
            lie and in the epsilon. When T is no multiple of the hop, the rows are HiFi-GAN's and
            one more for the samples left over.

        Raises:
            ValueError: an unknown name.
        """
        if name not in _PRESETS:
            raise ValueError(f"unknown mel preset {name!r}; known are {', '.join(_PRESETS)}")
        return cls(**_PRESETS[name])


_LJSPEECH = {"sample_rate": 22050, "n_fft": 1024, "win_samples": 1024, "hop_samples": 256}
_PRESETS: dict[str, dict[str, Any]] = {
    "wavenet-16k": {},
    "tacotron2": {**_LJSPEECH, "padding": "center"},
    "hifigan": {**_LJSPEECH, "padding": "hop", "power_epsilon": 1e-9},
}


def mel_filterbank(
    config: MelConfig,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Triangular band filters, `[n_mels, n_fft // 2 + 1]`.

    M + 2 edges e[0] ... e[M + 1] lie equally spaced on the mel scale from `f_min_hz` to `f_max_hz`.
    Band m rises from 0 at e[m] to 1 at e[m + 1] and falls to 0 at e[m + 2]; `mel_norm` "slaney"
    multiplies it by 2 / (e[m + 2] - e[m]). Computed in float64 (Slaney 1998, Auditory Toolbox,
    `mfcc`), then rounded to `dtype`.

    Warns when a band is narrower than the bins of the transform and hears none of them.
    """
    low = _to_mel(config.f_min_hz, config.mel_scale)
    high = _to_mel(config.f_max_hz, config.mel_scale)
    edges = torch.linspace(low, high, config.n_mels + 2, dtype=torch.float64)
    edges_hz = _to_hz(edges, config.mel_scale)
    bins = torch.arange(config.n_fft // 2 + 1, dtype=torch.float64)
    bins_hz = bins * (config.sample_rate / config.n_fft)
    widths_hz = edges_hz.diff()[:, None]
    rise = (bins_hz - edges_hz[:-2, None]) / widths_hz[:-1]
    fall = (edges_hz[2:, None] - bins_hz) / widths_hz[1:]
    filters = torch.minimum(rise, fall).clamp(min=0.0)
    deaf = int((filters.amax(dim=1) == 0).sum())
    if deaf:
        warnings.warn(
            f"{deaf} of {config.n_mels} mel bands hear nothing; lower n_mels or raise n_fft",
            stacklevel=2,
        )
    if config.mel_norm == "slaney":
        filters = filters * (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return filters.to(device=device, dtype=dtype)


def log_mel(x: Tensor, config: MelConfig, filterbank: Tensor | None = None) -> Tensor:
    """The log-mel spectrogram of whole signals; on any device, differentiable.

    Args:
        x: `[..., T]` in [-1, 1], floating point, at `config.sample_rate`.
        config: the settings.
        filterbank: `[n_mels, n_fft // 2 + 1]`, such as a checkpoint keeps; None computes it anew.

    Returns:
        `[..., n_mels, F]`, F = `config.frames(T)`, float64 for float64 and otherwise float32, also
        under autocast.

    Raises:
        TypeError: x is not floating point.
        ValueError: no samples, or a filterbank of another shape.
    """
    _require_signal(x)
    return log_mel_rows(x, config, 0, config.frames(x.shape[-1]), filterbank)


def log_mel_rows(
    x: Tensor, config: MelConfig, first: int, count: int, filterbank: Tensor | None = None
) -> Tensor:
    """Frames `first` to `first + count` of `log_mel(x)`, from the samples they hear alone.

    A frame before the first or after the last is that frame again.

    Args:
        x: the whole signals, `[..., T]`; its ends are where it is mirrored.
        config: the settings.
        first: the first frame; may be negative.
        count: how many frames.
        filterbank: as for `log_mel`.

    Returns:
        `[..., n_mels, count]`.

    Raises:
        TypeError, ValueError: as `log_mel`, and for a count below 1.
    """
    _require_signal(x)
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least one frame")
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
    """Rows `[..., M, F]` of the frames that lie wholly in `x [..., n_fft + (F - 1) hop]`."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        if filterbank is None:
            filterbank = mel_filterbank(config, dtype=dtype)
        _require_filterbank(filterbank, config)
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
    """(|X|^2 + power_epsilon)^(power / 2).

    Without epsilon the magnitude is `abs`: its gradient at X = 0 is 0, the square root's infinite.
    """
    if config.power == 1.0 and config.power_epsilon == 0.0:
        return spectrum.abs()
    squares = spectrum.real.square() + spectrum.imag.square() + config.power_epsilon
    return squares if config.power == 2.0 else squares.sqrt()


def _mirrored(x: Tensor, start: int, stop: int) -> Tensor:
    """Samples `start` to `stop` of `x [..., T]` continued by its mirror images on both sides.

    Some of the samples lie within the signal: 0 < stop and start < T.
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


def _require_signal(x: Tensor) -> None:
    if not x.is_floating_point():
        raise TypeError(f"x is {x.dtype}; give floats in [-1, 1], such as int16 / 32768")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"x has shape {list(x.shape)}; give [..., T] with at least one sample")


def _require_filterbank(filterbank: Tensor, config: MelConfig) -> None:
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


def _require_positive_integer(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}; give an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}; use at least 1")


def _finite_float(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}; give a number")
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}; give a finite number")
    return float(value)


def _require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} is {value!r}; use one of {known}")
