"""Checks of a WaveNet's configuration; those of numbers also bring them to Python's own types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from wavenet.distributions import make_distribution
from wavenet.features.mel_config import MelConfig
from wavenet.model.feature_config import FeatureConfig, set_integer
from wavenet.nn.steps import SAMPLES_PER_STEP
from wavenet.values.integers import is_integer
from wavenet.values.size_limits import (
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_PAST_SAMPLES,
    MAX_PREDICTION_ORDER,
    MAX_REFINEMENT_PASSES,
    MAX_SAMPLE_RATE_HZ,
    MAX_SPEAKERS,
    MAX_STATE_VALUES,
)
from wavenet.values.text import short

if TYPE_CHECKING:
    from wavenet.model.config import WaveNetConfig


def check_config(config: WaveNetConfig) -> None:
    """Raise ValueError, in one line, for the first setting that makes no model."""
    _check_network(config)
    _check_memory(config)
    _check_features(config)
    _check_speakers(config)
    _check_prediction(config)
    _check_steps(config)
    _check_sampling(config)
    _check_conditioning(config)


def _check_network(config: WaveNetConfig) -> None:
    """Raise ValueError unless the sizes make a network that its distribution can read."""
    set_integer(config, "samples_per_step", most=SAMPLES_PER_STEP)
    set_integer(config, "sample_rate", most=MAX_SAMPLE_RATE_HZ)
    set_integer(config, "layers_per_stack", most=MAX_LAYERS)
    set_integer(config, "stacks", most=MAX_LAYERS)
    set_integer(config, "kernel_size", most=MAX_PAST_SAMPLES)
    for name in ("residual_channels", "skip_channels", "gate_channels", "cond_channels"):
        if getattr(config, name) is not None:
            set_integer(config, name, most=MAX_CHANNELS)
    if config.distribution_size is not None:
        set_integer(config, "distribution_size", most=MAX_CHANNELS)
    if config.gate_channels is not None and config.gate_channels % 2:
        raise ValueError(
            f"gate_channels={config.gate_channels} must be even: it counts both halves"
        )
    has_classes = make_distribution(config.distribution, config.distribution_size).has_classes
    if config.one_hot_input and not has_classes:
        raise ValueError(
            f"one_hot_input=True needs classes and distribution={short(config.distribution)} has "
            "none; use mu_law or leave it out"
        )


def _check_memory(config: WaveNetConfig) -> None:
    """Raise ValueError if the layers, or what they remember, are beyond all bounds."""
    layers = config.layers_per_stack * config.stacks
    if layers > MAX_LAYERS:
        raise ValueError(
            f"layers_per_stack={config.layers_per_stack} and stacks={config.stacks} make {layers} "
            f"layers; at most {MAX_LAYERS} are built"
        )
    past = (config.kernel_size - 1) * (2**config.layers_per_stack - 1) * config.stacks
    past *= config.samples_per_step
    state = past * config.residual_channels
    if past > MAX_PAST_SAMPLES or state > MAX_STATE_VALUES:
        raise ValueError(
            f"layers_per_stack={config.layers_per_stack}, stacks={config.stacks} and kernel_size="
            f"{config.kernel_size} reach back more than {MAX_PAST_SAMPLES} samples, or remember "
            f"more than {MAX_STATE_VALUES} values in {config.residual_channels} channels; use "
            "fewer layers_per_stack"
        )


def _check_features(config: WaveNetConfig) -> None:
    """Raise ValueError unless there is one kind of features at most, at the model's rate."""
    kinds = (("mel", config.mel, MelConfig), ("features", config.features, FeatureConfig))
    for name, value, kind in kinds:
        if not isinstance(value, kind | None):
            raise ValueError(
                f"{name}={short(value)} must be a {kind.__name__}; names and plain values are for "
                "WaveNetConfig.from_dict"
            )
    if config.mel is not None and config.features is not None:
        raise ValueError("mel and features are both set; a model takes one of them")
    if config.mel is not None and config.mel.sample_rate != config.sample_rate:
        raise ValueError(
            f"mel.sample_rate={config.mel.sample_rate} Hz differs from the model's "
            f"sample_rate={config.sample_rate} Hz; set both to the rate of the audio"
        )


def _check_speakers(config: WaveNetConfig) -> None:
    """Raise ValueError unless every speaker has a name, or none has."""
    if not is_integer(config.speakers):
        raise ValueError(f"speakers={short(config.speakers)} must be an integer, 0 for none")
    set_integer(config, "speakers", least=-1, most=MAX_SPEAKERS)
    n_names = len(set(config.speaker_names))
    if config.speakers < 0 or (config.speaker_names and n_names != config.speakers):
        raise ValueError(
            f"speakers={config.speakers} does not fit the {n_names} different speaker_names; "
            "give one name for each speaker"
        )


def _check_conditioning(config: WaveNetConfig) -> None:
    """Raise ValueError unless something conditions where that is asked for, and has room."""
    nothing = config.conditioning_channels is None
    if config.cond_channels is not None and nothing:
        raise ValueError(
            f"cond_channels={config.cond_channels} without mel, features or speakers conditions "
            "on nothing; leave it out or name what conditions the model"
        )
    if config.unconditional and nothing:
        raise ValueError(
            "unconditional=True, but the model has no mel, features or speakers to leave out; "
            "drop the key"
        )
    if (
        config.features is None
        or config.features.upsampling is None
        or config.cond_channels is None
    ):
        return
    if config.cond_channels < config.features.channels:
        raise ValueError(
            f"cond_channels={config.cond_channels} is less than the "
            f"{config.features.channels} channels of the features, which upsampling keeps"
        )


def _check_prediction(config: WaveNetConfig) -> None:
    """Raise ValueError unless a linear predictor has what it needs."""
    for name in ("linear_prediction", "pitch_taps"):
        value = getattr(config, name)
        if not is_integer(value) or value < 0:
            raise ValueError(f"{name}={short(value)} must be an integer, 0 for none")
        set_integer(config, name, least=0, most=MAX_PREDICTION_ORDER)
    if config.pitch_taps and (not config.linear_prediction or config.pitch_taps % 2 == 0):
        raise ValueError(
            f"pitch_taps={config.pitch_taps} must be odd, beside a linear_prediction, or 0"
        )
    if not config.linear_prediction:
        return
    if config.mel is None:
        raise ValueError(
            f"linear_prediction={config.linear_prediction} needs a mel to predict from; set mel"
        )
    if config.linear_prediction >= config.mel.n_fft // 2:
        raise ValueError(
            f"linear_prediction={config.linear_prediction} must be less than half of "
            f"n_fft={config.mel.n_fft}; 16 to 32 are usual"
        )
    if config.distribution == "mu_law":
        raise ValueError(
            f"linear_prediction={config.linear_prediction} moves and scales a density, and "
            "mu_law has none; choose distribution logistic_mixture, gaussian or "
            "gaussian_mixture"
        )


def _check_steps(config: WaveNetConfig) -> None:
    """Raise ValueError unless the input and the frames fit steps of so many samples."""
    if config.samples_per_step == 1:
        return
    if config.one_hot_input:
        raise ValueError(
            f"one_hot_input=True with samples_per_step={config.samples_per_step} is not "
            "supported; leave one of them out"
        )
    if config.local is not None and config.local.hop_samples % config.samples_per_step:
        raise ValueError(
            f"hop_samples={config.local.hop_samples} must be a multiple of samples_per_step="
            f"{config.samples_per_step}, so that every frame begins with a step"
        )


def _check_sampling(config: WaveNetConfig) -> None:
    """Raise ValueError unless samples can be drawn and refined by these defaults."""
    if not 0 < config.temperature < math.inf:
        raise ValueError(f"temperature={config.temperature} must be above 0, such as 0.9 or 1.0")
    object.__setattr__(config, "temperature", float(config.temperature))
    set_integer(config, "refinement_passes", least=0, most=MAX_REFINEMENT_PASSES)
    if not -1 <= config.noise_shaping <= 1:
        raise ValueError(f"noise_shaping={config.noise_shaping} must be from -1 to 1, such as 0.5")
    object.__setattr__(config, "noise_shaping", float(config.noise_shaping))
