"""The configuration of a WaveNet, and the named presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from wavenet.features.linear_prediction import MelPredictor
from wavenet.features.mel_config import MelConfig
from wavenet.model.conditioner import check_registered
from wavenet.model.config_checks import check_config
from wavenet.model.feature_config import FeatureConfig, UpsamplingConfig
from wavenet.nn import LinearPrediction
from wavenet.nn.refinement import DEFAULT_PASSES
from wavenet.storage import settings as config_io
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
        check_config(self)

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
