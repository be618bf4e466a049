"""The configuration of a WaveNet, and the named presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from wavenet.distributions import make_distribution
from wavenet.features.linear_prediction import MelPredictor
from wavenet.features.mel_config import MelConfig
from wavenet.model.conditioner import check_registered
from wavenet.model.feature_config import FeatureConfig, UpsamplingConfig, set_integer
from wavenet.nn import LinearPrediction
from wavenet.nn.refinement import DEFAULT_PASSES
from wavenet.nn.steps import SAMPLES_PER_STEP
from wavenet.storage import settings as config_io
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

__all__ = ["ADDED_KEYS", "PRESETS", "FeatureConfig", "UpsamplingConfig", "WaveNetConfig"]

ADDED_KEYS = (
    "one_hot_input",
    "linear_prediction",
    "pitch_taps",
    "unconditional",
    "temperature",
    "refinement_passes",
    "noise_shaping",
    "conditions",
    "samples_per_step",
)
"""Settings that older checkpoints do not name; their defaults are what was before."""

DEFAULT_SPEAKER_CHANNELS = 32
"""Width of the conditioning of a model that has no local features."""


@dataclass(frozen=True, kw_only=True)
class WaveNetConfig:
    """Everything that makes one WaveNet differ from another.

    >>> config = WaveNetConfig.preset("small", distribution="gaussian_mixture")
    >>> config.stacks, config.layers_per_stack, config.kernel_size
    (2, 10, 2)
    >>> config.replace(stacks=1) == WaveNetConfig.from_dict({**config.to_dict(), "stacks": 1})
    True

    Attributes:
        sample_rate: sample rate of the audio, in Hz.
        layers_per_stack: layers of a stack, of dilations 1, 2, 4 .. 2 ** (layers_per_stack - 1)
            steps.
        stacks: number of stacks, each with these dilations.
        kernel_size: taps of the dilated convolutions.
        residual_channels: width of the signal between layers.
        gate_channels: width of both halves of the gate together; default, twice the residual
            channels.
        skip_channels: width of the skip sum and of the head.
        distribution: distribution of a sample: ``mu_law``, ``logistic_mixture``, ``gaussian`` or
            ``gaussian_mixture``.
        distribution_size: classes of mu_law (default 256), components of a mixture (default 10).
        one_hot_input: the network takes a mu-law class as a one-hot vector, not as a number.
        mel: the log-mel spectrogram that conditions the model, if one does.
        features: other local features, instead of a mel.
        cond_channels: width of the conditioning inside the model; default, that of the features.
        speakers: number of speakers that the model distinguishes; 0 for none.
        speaker_names: names of the speakers, in the order of their indices; empty, or one for each.
        linear_prediction: order of a linear predictor that each mel frame gives (LPCNet, Valin and
            Skoglund 2019): the network takes what it predicts, and models the residual; 0 for
            none. It needs a mel and one of the mixtures or the gaussian.
        pitch_taps: past values of the predictor's excitation that the network takes from one pitch
            period before the next sample, an odd number; 0 for none.
        unconditional: the model also generates without a mel and without a speaker: it has learnt
            to where training left them out.
        temperature: temperature of sampling where none is given, chosen by ear or score on
            validation sentences; it changes neither training nor likelihoods.
        refinement_passes: passes of ``MelRefinement`` that bring what is generated from a mel
            nearer to it, unless another number is asked for; 0 for none. Without a mel unused.
        noise_shaping: coefficient b, from -1 to 1, of the filter of the sampling noise unless
            another is asked for (``wavenet.generation.randomness.shaped_uniforms``); 0 for white
            noise.
        conditions: names of further conditions; see ``model.conditioner.register_condition``.
        samples_per_step: 2 for a model that runs its stack once for two samples (Bunched LPCNet;
            Vipperla et al. 2020), which halves the cost of training and sampling: dilations are
            then 2, 4, 8 .. samples. The second of two samples is predicted from the same output
            of the stack and from the first one. 1: the stack runs for every sample.
    """

    sample_rate: int = 16000
    layers_per_stack: int = 10
    stacks: int = 3
    kernel_size: int = 2
    residual_channels: int = 64
    gate_channels: int | None = None
    skip_channels: int = 128
    distribution: str = "mu_law"
    distribution_size: int | None = None
    one_hot_input: bool = False
    mel: MelConfig | None = None
    features: FeatureConfig | None = None
    cond_channels: int | None = None
    speakers: int = 0
    speaker_names: tuple[str, ...] = ()
    linear_prediction: int = 0
    pitch_taps: int = 0
    unconditional: bool = False
    temperature: float = 1.0
    refinement_passes: int = DEFAULT_PASSES
    noise_shaping: float = 0.0
    conditions: tuple[str, ...] = ()
    samples_per_step: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "speaker_names", tuple(self.speaker_names))
        object.__setattr__(self, "conditions", tuple(self.conditions))
        check_registered(self.conditions)
        set_integer(self, "samples_per_step", most=SAMPLES_PER_STEP)
        self._check_network()
        self._check_memory()
        self._check_features()
        self._check_speakers()
        self._check_prediction()
        self._check_steps()
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature} must be above 0, such as 0.9 or 1.0")
        object.__setattr__(self, "temperature", float(self.temperature))
        set_integer(self, "refinement_passes", least=0, most=MAX_REFINEMENT_PASSES)
        if not -1 <= self.noise_shaping <= 1:
            raise ValueError(
                f"noise_shaping={self.noise_shaping} must be from -1 to 1, such as 0.5"
            )
        object.__setattr__(self, "noise_shaping", float(self.noise_shaping))
        self._check_conditioning()

    def _check_network(self) -> None:
        """Raise ValueError unless the sizes make a network that its distribution can read."""
        set_integer(self, "sample_rate", most=MAX_SAMPLE_RATE_HZ)
        set_integer(self, "layers_per_stack", most=MAX_LAYERS)
        set_integer(self, "stacks", most=MAX_LAYERS)
        set_integer(self, "kernel_size", most=MAX_PAST_SAMPLES)
        for name in ("residual_channels", "skip_channels", "gate_channels", "cond_channels"):
            if getattr(self, name) is not None:
                set_integer(self, name, most=MAX_CHANNELS)
        if self.distribution_size is not None:
            set_integer(self, "distribution_size", most=MAX_CHANNELS)
        if self.gate_channels is not None and self.gate_channels % 2:
            raise ValueError(
                f"gate_channels={self.gate_channels} must be even: it counts both halves"
            )
        has_classes = make_distribution(self.distribution, self.distribution_size).has_classes
        if self.one_hot_input and not has_classes:
            raise ValueError(
                f"one_hot_input=True needs classes and distribution={short(self.distribution)} has "
                "none; use mu_law or leave it out"
            )

    def _check_memory(self) -> None:
        """Raise ValueError if the layers, or what they remember, are beyond all bounds."""
        layers = self.layers_per_stack * self.stacks
        if layers > MAX_LAYERS:
            raise ValueError(
                f"layers_per_stack={self.layers_per_stack} and stacks={self.stacks} make {layers} "
                f"layers; at most {MAX_LAYERS} are built"
            )
        past = (self.kernel_size - 1) * (2**self.layers_per_stack - 1) * self.stacks
        past *= self.samples_per_step
        state = past * self.residual_channels
        if past > MAX_PAST_SAMPLES or state > MAX_STATE_VALUES:
            raise ValueError(
                f"layers_per_stack={self.layers_per_stack}, stacks={self.stacks} and kernel_size="
                f"{self.kernel_size} reach back more than {MAX_PAST_SAMPLES} samples, or remember "
                f"more than {MAX_STATE_VALUES} values in {self.residual_channels} channels; use "
                "fewer layers_per_stack"
            )

    def _check_features(self) -> None:
        """Raise ValueError unless there is one kind of features at most, at the model's rate."""
        if self.mel is not None and self.features is not None:
            raise ValueError("mel and features are both set; a model takes one of them")
        if self.mel is not None and self.mel.sample_rate != self.sample_rate:
            raise ValueError(
                f"mel.sample_rate={self.mel.sample_rate} Hz differs from the model's "
                f"sample_rate={self.sample_rate} Hz; set both to the rate of the audio"
            )

    def _check_speakers(self) -> None:
        """Raise ValueError unless every speaker has a name, or none has."""
        if not is_integer(self.speakers):
            raise ValueError(f"speakers={short(self.speakers)} must be an integer, 0 for none")
        set_integer(self, "speakers", least=-1, most=MAX_SPEAKERS)
        n_names = len(set(self.speaker_names))
        if self.speakers < 0 or (self.speaker_names and n_names != self.speakers):
            raise ValueError(
                f"speakers={self.speakers} does not fit the {n_names} different speaker_names; "
                "give one name for each speaker"
            )

    def _check_conditioning(self) -> None:
        """Raise ValueError unless something conditions where that is asked for, and has room."""
        nothing = self.conditioning_channels is None
        if self.cond_channels is not None and nothing:
            raise ValueError(
                f"cond_channels={self.cond_channels} without mel, features or speakers conditions "
                "on nothing; leave it out or name what conditions the model"
            )
        if self.unconditional and nothing:
            raise ValueError(
                "unconditional=True, but the model has no mel, features or speakers to leave out; "
                "drop the key"
            )
        if self.features is None or self.features.upsampling is None or self.cond_channels is None:
            return
        if self.cond_channels < self.features.channels:
            raise ValueError(
                f"cond_channels={self.cond_channels} is less than the "
                f"{self.features.channels} channels of the features, which upsampling keeps"
            )

    def _check_prediction(self) -> None:
        """Raise ValueError unless a linear predictor has what it needs."""
        for name in ("linear_prediction", "pitch_taps"):
            value = getattr(self, name)
            if not is_integer(value) or value < 0:
                raise ValueError(f"{name}={short(value)} must be an integer, 0 for none")
            set_integer(self, name, least=0, most=MAX_PREDICTION_ORDER)
        if self.pitch_taps and (not self.linear_prediction or self.pitch_taps % 2 == 0):
            raise ValueError(
                f"pitch_taps={self.pitch_taps} must be odd, beside a linear_prediction, or 0"
            )
        if not self.linear_prediction:
            return
        if self.mel is None:
            raise ValueError(
                f"linear_prediction={self.linear_prediction} needs a mel to predict from; set mel"
            )
        if self.linear_prediction >= self.mel.n_fft // 2:
            raise ValueError(
                f"linear_prediction={self.linear_prediction} must be less than half of "
                f"n_fft={self.mel.n_fft}; 16 to 32 are usual"
            )
        if self.distribution == "mu_law":
            raise ValueError(
                f"linear_prediction={self.linear_prediction} moves and scales a density, and "
                "mu_law has none; choose distribution logistic_mixture, gaussian or "
                "gaussian_mixture"
            )

    def _check_steps(self) -> None:
        """Raise ValueError unless the input and the frames fit steps of so many samples."""
        if self.samples_per_step == 1:
            return
        if self.one_hot_input:
            raise ValueError(
                f"one_hot_input=True with samples_per_step={self.samples_per_step} is not "
                "supported; leave one of them out"
            )
        if self.local is not None and self.local.hop_samples % self.samples_per_step:
            raise ValueError(
                f"hop_samples={self.local.hop_samples} must be a multiple of samples_per_step="
                f"{self.samples_per_step}, so that every frame begins with a step"
            )

    @property
    def dilations(self) -> tuple[int, ...]:
        """One per layer, in samples."""
        one_stack = tuple(self.samples_per_step * 2**i for i in range(self.layers_per_stack))
        return one_stack * self.stacks

    @property
    def local(self) -> MelConfig | FeatureConfig | None:
        """The features in frames that condition the model, or None."""
        return self.mel if self.mel is not None else self.features

    @property
    def conditioning_channels(self) -> int | None:
        """Width of ``cond`` as the blocks take it, or None for an unconditional model."""
        if self.local is None and not self.speakers and not self.conditions:
            return None
        if self.cond_channels is not None:
            return self.cond_channels
        return DEFAULT_SPEAKER_CHANNELS if self.local is None else self.local.channels

    def predictor(self) -> LinearPrediction | None:
        """The linear predictor before the stack, if there is one."""
        if not self.linear_prediction:
            return None
        shortest, longest = MelPredictor.lag_range_samples(self.sample_rate)
        return LinearPrediction(
            self.linear_prediction,
            pitch_taps=self.pitch_taps,
            min_lag_samples=shortest,
            max_lag_samples=longest,
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> WaveNetConfig:
        """One of the named configurations, with single settings changed.

        Args:
            name: ``tiny`` (trains in minutes on a CPU), ``small``, ``medium`` (80-channel mel) or
                ``nv`` (the sizes of nv-wavenet).
            **changes: any attribute of this class.

        Raises:
            ValueError: for an unknown preset or setting.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"preset={short(name)} is unknown; choose one of {', '.join(PRESETS)}")
        return cls.from_dict({**PRESETS[name], **changes})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> WaveNetConfig:
        """Make a configuration from plain values, strictly; a key ``preset`` names its base.

        Raises:
            ValueError: for an unknown key, a wrong type or a value that makes no model.
        """
        values = dict(values)
        if "preset" in values:
            return cls.preset(values.pop("preset"), **values)
        if isinstance(values.get("mel"), str):
            values["mel"] = MelConfig.preset(values["mel"])
        return config_io.from_dict(cls, values, where="model")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as ``config.json`` holds them."""
        return config_io.to_dict(self)

    def replace(self, **changes: Any) -> WaveNetConfig:
        """A copy with some settings changed."""
        return replace(self, **changes)


PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "layers_per_stack": 9,
        "stacks": 2,
        "residual_channels": 32,
        "skip_channels": 64,
    },
    "small": {"layers_per_stack": 10, "stacks": 2, "residual_channels": 32, "skip_channels": 128},
    "medium": {
        "layers_per_stack": 10,
        "stacks": 3,
        "residual_channels": 64,
        "skip_channels": 128,
        "mel": "wavenet-16k",
    },
    # Sizes of nv-wavenet's reference model (NVIDIA 2018, README): R 64, S 256, A 256.
    "nv": {"layers_per_stack": 10, "stacks": 2, "residual_channels": 64, "skip_channels": 256},
}
