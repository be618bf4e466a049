"""The settings of a log-mel spectrogram, which `wavenet.features` defines and computes."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, Literal

from torch import Tensor

from wavenet.values.integers import fits_float, is_integer
from wavenet.values.size_limits import (
    MAX_FFT_SAMPLES,
    MAX_MEL_BANDS,
    MAX_SAMPLE_RATE_HZ,
    check_at_most,
)
from wavenet.values.text import short

MEL_VERSION = 1  # of the meaning of MelConfig; a change of any formula here is a new version

LARGEST_FILTERBANK = 1 << 24
"""Largest n_mels x n_fft: settings come from files, and they size the filterbank."""


@dataclass(frozen=True)
class MelConfig:
    """The settings of a log-mel spectrogram; the defaults are the preset "wavenet-16k".

    >>> config = MelConfig.preset("hifigan")
    >>> config.sample_rate, config.hop_samples, config.n_mels
    (22050, 256, 80)
    >>> MelConfig.from_dict({**config.to_dict(), "n_mels": 100}).n_mels
    100

    Attributes:
        sample_rate: Hz.
        n_fft: length of the Fourier transform in samples, even.
        win_samples: length of the Hann window, at most `n_fft`.
        hop_samples: distance of two frames, at most `win_samples`; even with padding "hop".
        n_mels: number of bands, M.
        f_min_hz, f_max_hz: lower edge of the first band and upper edge of the last.
        mel_scale: "slaney" (Auditory Toolbox: linear to 1 kHz, logarithmic above) or "htk"
            (2595 log10(1 + f / 700), O'Shaughnessy 1987).
        mel_norm: "slaney" gives every band the area 1 Hz, None the height 1.
        power: 1.0 sums magnitudes, 2.0 powers.
        power_epsilon: added to the power spectrum (HiFi-GAN: 1e-9).
        log: "ln" or "log10".
        floor: lower bound of the logarithm's argument.
        padding: position of the frames: "hop" or "center" (see ``wavenet.features.log_mel``).
        version: of these definitions.

    Raises:
        ValueError, TypeError: from the constructor, for an invalid value.
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
        if type(self.version) is not int or self.version != MEL_VERSION:
            raise ValueError(
                f"mel version is {short(self.version)}, this package knows version {MEL_VERSION}; "
                "install the version of wavenet that wrote it"
            )
        for name, most in _LARGEST.items():
            object.__setattr__(self, name, _positive_integer(name, getattr(self, name), most))
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
        if self.n_mels * self.n_fft > LARGEST_FILTERBANK:
            raise ValueError(
                f"n_mels {self.n_mels} x n_fft {self.n_fft} is more than {LARGEST_FILTERBANK}; "
                "lower one of them"
            )
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
        """Samples by which frame 0 starts before the signal."""
        return self.n_fft // 2 - self.centre_samples

    def normalised(self, rows: Tensor) -> Tensor:
        """Normalise a mel for a network: the floor becomes -2, a band of magnitude 1 becomes 2.

        The mel itself has a mean far below 0, which would saturate a network's gates at the start
        of training.

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
        """Return all settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> MelConfig:
        """Make a config from the result of `to_dict`.

        Raises:
            ValueError: another version, an unknown key or a missing one (named), or a bad value.
            TypeError: no mapping at all, or a value of another type.
        """
        if not isinstance(settings, Mapping):
            raise TypeError(f"mel settings are a {type(settings).__name__}; give a mapping")
        names = [field.name for field in fields(cls)]
        version = settings.get("version", MEL_VERSION)
        if version == MEL_VERSION:  # another version may have other keys: the constructor tells
            unknown = [str(key) for key in settings if key not in names]
            if unknown:
                raise ValueError(
                    f"unknown mel setting {', '.join(unknown)[:200]}; known are {', '.join(names)}"
                )
            missing = [name for name in names if name not in settings]
            if missing:
                raise ValueError(f"mel setting {', '.join(missing)} is missing; add it")
            return cls(**settings)
        return cls(version=version)

    @classmethod
    def from_json(cls, text: str) -> MelConfig:
        """Make a config from the result of `to_dict` as JSON.

        Raises:
            ValueError, TypeError: as `from_dict`, or for text that is no JSON.
        """
        if len(text) > _LONGEST_JSON:
            raise ValueError(
                f"{len(text)} characters are too many for mel settings; check the file"
            )
        try:
            return cls.from_dict(json.loads(text))
        except RecursionError:
            raise ValueError("the JSON is nested too deeply; give an object of settings") from None

    @classmethod
    def preset(cls, name: str) -> MelConfig:
        """Return the settings of a preset.

        "wavenet-16k": for vocoding speech at 16 kHz. Window 50 ms and hop 12.5 ms as in Tacotron 2
            (Shen et al. 2018, section 2.1), so that one second is 80 frames; all frequencies
            up to 8 kHz; magnitude, scale, logarithm and floor as the two below.
        "tacotron2": NVIDIA's Tacotron 2 and WaveGlow at 22.05 kHz.
        "hifigan": HiFi-GAN V1 to V3 (Kong et al. 2020) at 22.05 kHz. Differs in the position of the
            frames and the epsilon. When T is no multiple of the hop, there is one frame more than
            in HiFi-GAN, for the remaining samples. Matcha-TTS at 22.05 kHz takes the same (VITS
            adds 1e-6 and has bands up to half of the sample rate; see ``acoustic_configs``).
        "bigvgan-24k": BigVGAN (Lee et al. 2023) at 24 kHz: as "hifigan", 100 bands up to 12 kHz.

        Raises:
            ValueError: an unknown name.
        """
        if not isinstance(name, str) or name not in _PRESETS:
            raise ValueError(f"unknown mel preset {short(name)}; known are {', '.join(_PRESETS)}")
        return cls(**_PRESETS[name])


_LARGEST = {
    "sample_rate": MAX_SAMPLE_RATE_HZ,
    "n_fft": MAX_FFT_SAMPLES,
    "win_samples": MAX_FFT_SAMPLES,
    "hop_samples": MAX_FFT_SAMPLES,
    "n_mels": MAX_MEL_BANDS,
}
_LJSPEECH = {"sample_rate": 22050, "n_fft": 1024, "win_samples": 1024, "hop_samples": 256}
_PRESETS: dict[str, dict[str, Any]] = {
    "wavenet-16k": {},
    "tacotron2": {**_LJSPEECH, "padding": "center"},
    "hifigan": {**_LJSPEECH, "padding": "hop", "power_epsilon": 1e-9},
    "bigvgan-24k": {
        **_LJSPEECH,
        "sample_rate": 24000,
        "n_mels": 100,
        "f_max_hz": 12000.0,
        "padding": "hop",
        "power_epsilon": 1e-9,
    },
}


_LONGEST_JSON = 1 << 16


def _positive_integer(name: str, value: object, most: int) -> int:
    if not is_integer(value):
        raise TypeError(f"{name} is {short(value)}; give an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}; use at least 1")
    check_at_most(name, value, most)
    return operator.index(value)


def _finite_float(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {short(value)}; give a number")
    if not fits_float(value):
        raise ValueError(f"{name} is {short(value)}; give a finite number")
    return float(value)


def _require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} is {short(value)}; use one of {known}")
