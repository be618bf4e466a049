"""Every option of a WaveNet's configuration, in tiny models: whatever works has to work for all.

Engines, the training window, checkpoints, exports and resuming are tested with each (see
``test_every_configuration.py``). What one of them rightly refuses is listed there.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet import FeatureConfig, MelConfig, WaveNet, WaveNetConfig
from wavenet.model.config import UpsamplingConfig

RATE = 2000
"""In Hz: pitch periods are then short, and so is what a predictor with pitch taps remembers."""

MEL = MelConfig(
    sample_rate=RATE, n_fft=64, win_samples=32, hop_samples=8, n_mels=5, f_max_hz=RATE / 2
)
CENTRED_MEL = MelConfig(
    sample_rate=RATE,
    n_fft=64,
    win_samples=32,
    hop_samples=7,
    n_mels=4,
    f_max_hz=RATE / 2,
    padding="center",
)
SMALL: dict[str, Any] = {
    "sample_rate": RATE,
    "layers_per_stack": 2,
    "stacks": 1,
    "residual_channels": 6,
    "skip_channels": 8,
}

CONFIGURATIONS: dict[str, WaveNetConfig] = {
    "classes": WaveNetConfig(**SMALL, distribution_size=32),
    "one-hot classes of speakers": WaveNetConfig(
        **SMALL, distribution_size=16, one_hot_input=True, speakers=3
    ),
    "logistics": WaveNetConfig(**SMALL, distribution="logistic_mixture", distribution_size=3),
    "one tap": WaveNetConfig(**SMALL, kernel_size=1, distribution="gaussian"),
    "one of everything": WaveNetConfig(
        sample_rate=RATE,
        layers_per_stack=1,
        stacks=1,
        residual_channels=1,
        skip_channels=1,
        distribution="gaussian_mixture",
        distribution_size=1,
        mel=MelConfig(
            sample_rate=RATE,
            n_fft=64,
            win_samples=32,
            hop_samples=1,
            n_mels=1,
            f_max_hz=900,
            padding="center",
        ),
        cond_channels=1,
    ),
    "odd sizes": WaveNetConfig(
        sample_rate=RATE,
        layers_per_stack=3,
        stacks=2,
        kernel_size=4,
        residual_channels=17,
        gate_channels=10,
        skip_channels=33,
        distribution_size=300,
        mel=CENTRED_MEL,
        cond_channels=5,
        speakers=2,
    ),
    "features": WaveNetConfig(
        **SMALL,
        kernel_size=3,
        distribution="logistic_mixture",
        distribution_size=2,
        features=FeatureConfig(channels=3, hop_samples=3),
    ),
    "features or none": WaveNetConfig(
        **SMALL,
        distribution="gaussian_mixture",
        distribution_size=2,
        features=FeatureConfig(channels=3, hop_samples=5),
        unconditional=True,
    ),
    "upsampled features of speakers": WaveNetConfig(
        **SMALL,
        distribution="gaussian",
        features=FeatureConfig(
            channels=3,
            hop_samples=8,
            upsampling=UpsamplingConfig(scales=(2, 4), context_frames=1, band_kernel_size=3),
        ),
        cond_channels=7,
        speakers=2,
    ),
    "features upsampled by transposed convolutions": WaveNetConfig(
        **SMALL,
        distribution="gaussian",
        features=FeatureConfig(
            channels=3,
            hop_samples=6,
            upsampling=UpsamplingConfig(scales=(2, 3), band_kernel_size=3, transposed=True),
        ),
        cond_channels=4,
    ),
    "one-hot classes, mel and speakers or none": WaveNetConfig(
        **SMALL, distribution_size=16, one_hot_input=True, mel=MEL, speakers=3, unconditional=True
    ),
    "predictor": WaveNetConfig(
        **SMALL, mel=MEL, distribution="gaussian", linear_prediction=4, refinement_passes=0
    ),
    "predictor of order 1 and speakers": WaveNetConfig(
        **SMALL,
        mel=CENTRED_MEL,
        distribution="logistic_mixture",
        distribution_size=2,
        linear_prediction=1,
        speakers=2,
        speaker_names=("anna", "bert"),
        cond_channels=3,
        temperature=0.9,
        noise_shaping=0.5,
    ),
    "predictor with pitch taps": WaveNetConfig(
        **SMALL,
        kernel_size=3,
        mel=MEL,
        distribution="gaussian_mixture",
        distribution_size=2,
        linear_prediction=5,
        pitch_taps=3,
    ),
    "predictor with a pitch tap, speakers or none": WaveNetConfig(
        **SMALL,
        mel=MEL,
        distribution="logistic_mixture",
        distribution_size=3,
        linear_prediction=3,
        pitch_taps=1,
        speakers=2,
        unconditional=True,
    ),
    "two samples a step": WaveNetConfig(
        **SMALL, kernel_size=3, distribution="gaussian", samples_per_step=2
    ),
    "two classes a step of speakers' features": WaveNetConfig(
        **SMALL,
        distribution_size=32,
        features=FeatureConfig(channels=3, hop_samples=4),
        speakers=2,
        samples_per_step=2,
    ),
    "predictor, two samples a step, speakers or none": WaveNetConfig(
        **SMALL,
        mel=MEL,
        distribution="logistic_mixture",
        distribution_size=2,
        linear_prediction=4,
        pitch_taps=3,
        speakers=2,
        unconditional=True,
        samples_per_step=2,
    ),
}

QUICK = ("odd sizes", "predictor with a pitch tap, speakers or none")
"""Those that stand for all where a test of each takes seconds."""

each_configuration = pytest.mark.parametrize("name", CONFIGURATIONS)
each_but_most_are_slow = pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in CONFIGURATIONS
    ],
)


def make_model(name: str, *, seed: int = 0) -> WaveNet:
    """The model of a configuration with weights of like sizes, so that params are of size 1."""
    torch.manual_seed(seed)
    model = WaveNet(CONFIGURATIONS[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.normal_(std=fan_in**-0.5)
    return model


Conditioning = tuple[Tensor | None, Tensor | None]
"""Features or a mel ``[B, M, F]``, and speakers ``[B]``."""


def some_conditioning(config: WaveNetConfig, rows: int, n_frames: int) -> list[Conditioning]:
    """What a model takes for some rows: all of it, and where it may do without, each part less."""
    local = None
    if config.mel is not None:  # log magnitudes as speech has them
        local = torch.randn(rows, config.mel.n_mels, n_frames) - 4
    elif config.features is not None:
        local = torch.randn(rows, config.features.channels, n_frames)
    speaker = torch.arange(rows) % config.speakers if config.speakers else None
    every = [(local, speaker)]
    if config.unconditional:
        every += [(None, speaker), (local, None), (None, None)]
    return list(dict.fromkeys(every))
