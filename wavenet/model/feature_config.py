"""The configuration of local features that condition a WaveNet, and of their upsampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from wavenet.nn.causal import check_positive
from wavenet.values.integers import as_integer
from wavenet.values.size_limits import (
    MAX_CHANNELS,
    MAX_CONTEXT_FRAMES,
    MAX_HOP_SAMPLES,
    MAX_UPSAMPLING_STEPS,
    check_at_most,
)


@dataclass(frozen=True, kw_only=True)
class UpsamplingConfig:
    """Settings of learnt upsampling from frames to samples; see ``UpsamplingEncoder``.

    >>> learnt = UpsamplingConfig(scales=(4, 4, 5))
    >>> features = FeatureConfig(channels=60, hop_samples=80, upsampling=learnt)
    >>> WaveNetConfig(features=features).features.upsampling.scales
    (4, 4, 5)

    Attributes:
        scales: columns that each step makes of one; their product is the hop.
        context_frames: frames on each side that are mixed before the first step.
        band_kernel_size: neighbouring channels that are mixed in each step, an odd number.
        transposed: steps are transposed convolutions and ReLUs, without context; see
            ``TransposedUpsamplingEncoder``.
    """

    scales: tuple[int, ...] = ()
    context_frames: int = 0
    band_kernel_size: int = 1
    transposed: bool = False

    def __post_init__(self) -> None:
        check_at_most("the number of scales", len(self.scales), MAX_UPSAMPLING_STEPS)
        scales = tuple(check_positive("scales", scale) for scale in self.scales)
        object.__setattr__(self, "scales", scales)
        for scale in scales:
            check_at_most("scales", scale, MAX_HOP_SAMPLES)
        set_integer(self, "band_kernel_size", most=MAX_CHANNELS)
        set_integer(self, "context_frames", least=0, most=MAX_CONTEXT_FRAMES)
        if self.band_kernel_size % 2 == 0:
            raise ValueError(f"band_kernel_size={self.band_kernel_size} must be odd")
        if self.transposed and self.context_frames:
            raise ValueError(
                f"context_frames={self.context_frames} does not go with transposed=True, whose "
                "samples depend on one frame; set it to 0"
            )


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Local features other than a mel spectrogram: F0, linguistic features, anything in frames.

    >>> features = FeatureConfig(channels=3, hop_samples=80)  # log F0, voicing and loudness
    >>> model = WaveNet(WaveNetConfig(stacks=1, features=features))
    >>> tuple(model(torch.zeros(1, 1, 400), mel=torch.zeros(1, 3, 5)).shape)
    (1, 256, 400)

    Attributes:
        channels: values per frame.
        hop_samples: audio samples per frame.
        upsampling: how they come to the rate of the audio; default, through a nonlinear encoder of
            frames and linear interpolation.
    """

    channels: int
    hop_samples: int
    upsampling: UpsamplingConfig | None = None

    def __post_init__(self) -> None:
        set_integer(self, "channels", most=MAX_CHANNELS)
        set_integer(self, "hop_samples", most=MAX_HOP_SAMPLES)
        made = None if self.upsampling is None else math.prod(self.upsampling.scales)
        if made is not None and made != self.hop_samples:
            raise ValueError(
                f"hop_samples={self.hop_samples} is not the product of the upsampling's scales, "
                f"{made}; set one to fit the other"
            )

    @property
    def centre_samples(self) -> int:
        """A frame describes its own hop: it is centred on the middle."""
        return self.hop_samples // 2


def set_integer(config: Any, name: str, *, least: int = 1, most: int) -> None:
    """Make a size of a frozen configuration Python's int, within its bounds."""
    value = as_integer(name, getattr(config, name), least=least)
    check_at_most(name, value, most)
    object.__setattr__(config, name, value)
