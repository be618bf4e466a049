"""Plan of training windows: their lengths, and the conditioning that a model takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wavenet.features.mel_config import MelConfig
from wavenet.model import WaveNet
from wavenet.model.conditioner import Condition
from wavenet.model.config import FeatureConfig


@dataclass(frozen=True)
class WindowPlan:
    """Lengths of windows and their conditioning.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny", mel="wavenet-16k"))
    >>> WindowPlan.of(model, window_s=0.5).length
    8000

    Attributes:
        length: samples to predict, a multiple of ``hop``.
        warm_up: samples before them, a multiple of ``hop`` and more than the model's ``past``.
        hop: windows start at multiples of it.
        context_frames: frames on each side of the window that its conditioning depends on.
        mel: settings, or None for a model without a mel.
        speakers: names in the order of their indices; empty for a model without speakers.
        unconditional: whether the conditioning of some windows may be dropped.
        conditions: those of the model that have one value for a whole recording.
        features: of a model that takes other features than a mel in frames.
    """

    length: int
    warm_up: int
    hop: int
    context_frames: int
    mel: MelConfig | None
    speakers: tuple[str, ...]
    unconditional: bool = False
    conditions: tuple[Condition, ...] = ()
    features: FeatureConfig | None = None

    @property
    def frame_channels(self) -> int:
        """Channels of the conditioning in frames; 0 for none."""
        if self.mel is not None:
            return self.mel.n_mels
        return 0 if self.features is None else self.features.channels

    @classmethod
    def of(cls, model: WaveNet, window_s: float) -> WindowPlan:
        """Make a plan for a model and a window length in seconds, rounded up to whole hops.

        Raises:
            ValueError: if window_s is not positive, or the model needs speakers without names, or
                upsamples its features, which windows do not support.
        """
        config = model.config
        if config.speakers and not config.speaker_names:
            raise ValueError(
                f"model.speakers={config.speakers} without speaker_names: files cannot be assigned "
                "to speakers; set speakers_by_folder"
            )
        if config.features is not None and config.features.upsampling is not None:
            raise ValueError(
                "model.features.upsampling is for imported models; train without it: frames are "
                "interpolated"
            )
        if not 0 < window_s < math.inf:
            raise ValueError(f"window_s={window_s} must be positive and finite")
        # Of a model without frames, windows begin where a step of its stack does.
        hop = config.samples_per_step if config.local is None else config.local.hop_samples
        return cls(
            length=math.ceil(max(1, round(window_s * config.sample_rate)) / hop) * hop,
            warm_up=math.ceil((model.past + 1) / hop) * hop,
            hop=hop,
            context_frames=model.context_frames,
            mel=config.mel,
            speakers=config.speaker_names,
            unconditional=config.unconditional,
            conditions=tuple(
                one for name, one in model.conditions.items() if one.used and name != "mel"
            ),
            features=config.features,
        )
