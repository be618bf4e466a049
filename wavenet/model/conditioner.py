"""Named conditions: what is given under a name, encoded, left out, and learnt.

A model adds the frames of all its conditions. ``mel`` (or other local features) has a column for
each frame of the audio; every other condition is constant in time. A condition of your own is a
subclass of ``Condition`` with ``register_condition``, named in ``WaveNetConfig.conditions``. A
model takes its value as ``model(x, conditions={name: value})``, ``wavenet.generate`` likewise, and
training asks it for the value of each recording.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import torch
from torch import Tensor, nn

from wavenet.nn import (
    FrameEncoder,
    FrameLift,
    SpeakerEmbedding,
    TransposedUpsamplingEncoder,
    UpsamplingEncoder,
)
from wavenet.values.text import short

if TYPE_CHECKING:
    from wavenet.features.mel_config import MelConfig
    from wavenet.model.config import FeatureConfig, WaveNetConfig
    from wavenet.model.wavenet import WaveNet

Draw = Callable[[nn.Module, float], None]
"""Draws weights of a gain and sets the bias to zero; see ``initialise``."""


class Recording(Protocol):
    """Facts of a recording that a condition may use: its speaker, its length and its samples."""

    @property
    def speaker(self) -> str: ...
    @property
    def n_samples(self) -> int: ...
    def audio(self, first: int, stop: int) -> Tensor: ...


class Condition(ABC):
    """One condition of a model; its values are tensors ``[B, ...]``.

    >>> class Level(Condition):
    ...     name, encoder = "level", "level_encoder"
    ...
    ...     def make_encoder(self, channels):
    ...         return nn.Sequential(nn.Linear(1, channels), nn.Unflatten(1, (channels, 1)))
    ...
    ...     def example(self, rows, n_frames):
    ...         return torch.zeros(rows, 1)
    >>> Level(WaveNetConfig()).expected
    '[B, 1]'

    Args:
        config: of the model.

    Attributes:
        name: under which values are given.
        encoder: attribute of the model that holds the encoder, and so in the names of its weights.
    """

    name: ClassVar[str]
    encoder: ClassVar[str]

    def __init__(self, config: WaveNetConfig) -> None:
        self.config = config

    @property
    def used(self) -> bool:
        """Return whether the model has this condition: those that ``config.conditions`` names."""
        return True

    @abstractmethod
    def make_encoder(self, channels: int) -> nn.Module:
        """Return the module that makes frames ``[B, channels, 1]`` of values."""

    @abstractmethod
    def example(self, rows: int, n_frames: int) -> Tensor:
        """Return valid values of some rows, and of so many frames where there are frames."""

    def parts(self, channels: int) -> dict[str, nn.Module | nn.Parameter]:
        """Return what the model holds for this condition, by attribute."""
        return {self.encoder: self.make_encoder(channels)}

    def initialise(self, model: WaveNet, draw: Draw) -> None:
        """Draw the encoder's weights; here they stay as the encoder made them."""
        return

    def check(self, value: Tensor | None) -> None:
        """Raise ValueError if a value is missing or unexpected, or does not fit the model."""
        if value is None and (not self.used or self.config.unconditional):
            return
        if value is None or not self.used:
            raise self._refusal(value)
        self.check_value(value)

    def _refusal(self, value: Tensor | None) -> ValueError:
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        expected = self.expected if self.used else f"no {self.name}"
        return ValueError(f"{self.name} is {found}, but this model takes {expected}")

    @property
    def expected(self) -> str:
        """Description of a value, for messages."""
        return f"[{', '.join(['B', *map(str, self.example(1, 1).shape[1:])])}]"

    def check_value(self, value: Tensor) -> None:
        """Raise ValueError unless the value fits; here, unless it is of the example's shape."""
        if not isinstance(value, Tensor) or value.shape[1:] != self.example(1, 1).shape[1:]:
            raise self._refusal(value)

    def rows(self, value: Any) -> list[Tensor]:
        """Return what a user gave for one row or for each, ``[1, ...]`` for each row."""
        if not isinstance(value, Tensor) or not value.ndim:
            raise ValueError(f"{self.name} is a {type(value).__name__}, expected a tensor of rows")
        return list(value.split(1))

    def of_recording(self, recording: Recording) -> Tensor:
        """Return the value of a recording, without the dimension of rows, for training."""
        raise ValueError(f"the condition {self.name!r} has no value for a recording")

    def encode(self, model: WaveNet, value: Tensor) -> Tensor:
        """Return the frames ``[B, C, F]`` of values."""
        frames: Tensor = getattr(model, self.encoder)(value)
        return frames

    def null(self, model: WaveNet) -> Tensor:
        """Return the frames ``[1, C, 1]`` of an absent value: zeros."""
        assert self.config.conditioning_channels is not None
        return next(model.parameters()).new_zeros(1, self.config.conditioning_channels, 1)

    def frames(self, model: WaveNet, value: Tensor | None, kept: Tensor | None) -> Tensor:
        """Return the frames of values, or of no value in rows that are not ``kept`` ``[B]``."""
        if value is None:
            return self.null(model)
        frames = self.encode(model, value)
        if kept is None:
            return frames
        return torch.where(kept[:, None, None], frames, self.null(model).to(frames.dtype))


class LocalFeatures(Condition):
    """The condition ``mel``: a log-mel spectrogram or other features, ``[B, M, F]``."""

    name = "mel"
    encoder = "frame_encoder"

    @property
    def used(self) -> bool:
        """Return whether the model has local features."""
        return self.config.local is not None

    @property
    def _local(self) -> MelConfig | FeatureConfig:
        assert self.config.local is not None
        return self.config.local

    def make_encoder(
        self, channels: int
    ) -> FrameEncoder | UpsamplingEncoder | TransposedUpsamplingEncoder:
        """Return the encoder of frames, or of frames in learnt steps to samples."""
        steps = getattr(self._local, "upsampling", None)
        if steps is None:
            return FrameEncoder(self._local.channels, channels)
        if steps.transposed:
            return TransposedUpsamplingEncoder(
                self._local.channels,
                channels,
                steps.scales,
                band_kernel_size=steps.band_kernel_size,
            )
        return UpsamplingEncoder(
            self._local.channels,
            channels,
            steps.scales,
            context=steps.context_frames,
            band_kernel_size=steps.band_kernel_size,
        )

    def parts(self, channels: int) -> dict[str, nn.Module | nn.Parameter]:
        """Return the encoder, the lift to samples, and the null embedding of absent features."""
        hop, centre = self._local.hop_samples, self._local.centre_samples
        if getattr(self._local, "upsampling", None) is not None:  # it comes to samples by itself
            hop, centre = 1, 0
        parts = super().parts(channels) | {"frame_lift": FrameLift(hop, centre_samples=centre)}
        if self.config.unconditional:
            parts["no_features"] = nn.Parameter(torch.empty(channels))
        return parts

    def initialise(self, model: WaveNet, draw: Draw) -> None:
        """Draw convolutions; smoothing and transposed kernels begin as a mean."""
        encoder = model.frame_encoder
        if isinstance(encoder, TransposedUpsamplingEncoder):
            for step in cast(list[nn.ConvTranspose2d], list(encoder.steps)):
                nn.init.constant_(step.weight, 1 / step.kernel_size[0])
                assert step.bias is not None
                nn.init.zeros_(step.bias)
            return
        draw(encoder.conv, 1.0)
        if isinstance(encoder, FrameEncoder):
            draw(encoder.projection, 1.0)
            return
        for smoothing in cast(list[nn.Conv2d], list(encoder.smoothings)):
            nn.init.constant_(smoothing.weight, 1 / smoothing.weight.numel())

    @property
    def expected(self) -> str:
        """Description of a value, for messages."""
        return f"mel [B, {self._local.channels}, F]"

    def check_value(self, value: Tensor) -> None:
        """Raise ValueError unless there are frames of the model's channels."""
        local = self._local
        if value.ndim != 3 or value.shape[-1] == 0:
            raise ValueError(
                f"mel has shape {tuple(value.shape)}, expected [B, {local.channels}, F] with at "
                "least one frame"
            )
        if value.shape[1] != local.channels:
            raise ValueError(
                f"mel has {value.shape[1]} channels, but this model was built for "
                f"{local.channels}; make it with the model's own settings, "
                "log_mel(x, model.config.mel)"
            )

    def rows(self, value: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """Return one ``[1, M, F]`` per row, of ``[M, F]``, ``[B, M, F]`` or a list of the first."""
        mel = value
        if isinstance(mel, Tensor):
            mel = list(mel) if mel.ndim == 3 else [mel]
        if not isinstance(mel, Sequence) or not all(isinstance(row, Tensor) for row in mel):
            raise ValueError(
                f"mel is a {type(mel).__name__}, expected a tensor or a list of tensors"
            )
        if not mel or any(row.ndim != 2 or row.shape[-1] == 0 for row in mel):
            shapes = [tuple(row.shape) for row in mel]
            raise ValueError(
                f"mel has rows of shape {shapes}, expected [M, F] with at least one frame"
            )
        if not all(bool(row.isfinite().all()) for row in mel):
            raise ValueError("mel has values that are not finite; was it made from a damaged file?")
        return [row[None] for row in mel]

    def example(self, rows: int, n_frames: int) -> Tensor:
        """Return zeros ``[rows, M, n_frames]``."""
        return torch.zeros(rows, self._local.channels, n_frames)

    def encode(self, model: WaveNet, value: Tensor) -> Tensor:
        """Return the encoded features; a mel is normalised first."""
        mel = self.config.mel
        return super().encode(model, value if mel is None else mel.normalised(value))

    def null(self, model: WaveNet) -> Tensor:
        """Return the null embedding of absent features."""
        return model.no_features[None, :, None]


class Speaker(Condition):
    """The condition ``speaker``: one of the configuration's, by index ``[B]``."""

    name = "speaker"
    encoder = "speaker_embedding"

    @property
    def used(self) -> bool:
        """Return whether the model has speakers."""
        return self.config.speakers > 0

    def make_encoder(self, channels: int) -> SpeakerEmbedding:
        """Return the table of the speakers."""
        return SpeakerEmbedding(self.config.speakers, channels)

    def initialise(self, model: WaveNet, draw: Draw) -> None:
        """Draw the table."""
        nn.init.normal_(model.speaker_embedding.table.weight, std=0.1)

    @property
    def expected(self) -> str:
        """Description of a value, for messages."""
        return f"speaker indices [B] from 0 to {self.config.speakers - 1}"

    def check_value(self, value: Tensor) -> None:
        """Raise ValueError unless these are indices."""
        if not isinstance(value, Tensor) or value.ndim != 1 or value.is_floating_point():
            raise ValueError(f"speaker is {value}, expected a tensor of indices [B]")

    def rows(self, value: int | str | Sequence[int | str] | Tensor) -> list[Tensor]:
        """Return an index ``[1]`` for each index or name."""
        if not self.used:
            raise ValueError(f"speaker={value!r}, but this model takes no speaker; leave it out")
        names, n = self.config.speaker_names, self.config.speakers
        given: Any = value.tolist() if isinstance(value, Tensor) else value
        if isinstance(given, str) or not isinstance(given, Sequence):
            given = [given]
        if not given or not all(isinstance(one, Integral | str) for one in given):
            raise ValueError(f"speaker={value} must be an index or a name, or one for each row")
        indices = []
        for one in given:
            if isinstance(one, str) and one not in names:
                known = (
                    f"one of {', '.join(names)}" if names else "an index, the model has no names"
                )
                raise ValueError(f"speaker={one!r} is unknown; give {known}")
            indices.append(names.index(one) if isinstance(one, str) else int(one))
            if not 0 <= indices[-1] < n:
                raise ValueError(f"speaker={one} must lie within 0 to {n - 1}")
        return [torch.tensor([index]) for index in indices]

    def of_recording(self, recording: Recording) -> Tensor:
        """Return the index of the speaker."""
        return torch.tensor(self.config.speaker_names.index(recording.speaker))

    def example(self, rows: int, n_frames: int) -> Tensor:
        """Return the first speaker for every row."""
        return torch.zeros(rows, dtype=torch.int64)


_BUILT_IN: tuple[type[Condition], ...] = (LocalFeatures, Speaker)
_REGISTRY: dict[str, type[Condition]] = {}
_BATCH_KEYS = ("x", "mask", "frame", "samples", "feedback_noise")
"""Names of the other tensors in a batch of training windows."""


def register_condition(kind: type[Condition]) -> type[Condition]:
    """Make a condition of your own known by its ``name``; usable as a class decorator.

    A configuration may then name it in ``conditions``, and its checkpoints load wherever it is
    registered. It is made with the configuration alone, so its sizes are those of the class.

    >>> from wavenet.model.conditioner import Speaker
    >>> @register_condition
    ... class Accent(Speaker):
    ...     name, encoder = "accent", "accent_encoder"
    >>> model = WaveNet(WaveNetConfig(stacks=1, speakers=2, conditions=("accent",)))
    >>> given = {"accent": torch.tensor([1])}
    >>> tuple(model(torch.zeros(1, 1, 9), speaker=torch.tensor([0]), conditions=given).shape)
    (1, 256, 9)

    Raises:
        ValueError: for a name that another condition or another tensor of a batch has.
    """
    if kind.name in _BATCH_KEYS:
        raise ValueError(f"name={kind.name!r} is taken by a tensor of each batch; choose another")
    taken = kind.name in (one.name for one in _BUILT_IN)
    if taken or _REGISTRY.setdefault(kind.name, kind) is not kind:
        raise ValueError(f"name={kind.name!r} is taken by another condition")
    return kind


def check_registered(names: Sequence[str]) -> None:
    """Raise ValueError unless each name is that of a registered condition, once."""
    for name in names:
        if name not in _REGISTRY or names.count(name) > 1:
            known = ", ".join(_REGISTRY) or "none"
            raise ValueError(
                f"conditions={short(list(names))}: {short(name)} is unknown or named twice; "
                f"registered by wavenet.model.conditioner.register_condition: {known}"
            )


def make_conditions(config: WaveNetConfig) -> dict[str, Condition]:
    """Return the conditions by name, in the order in which their frames are added.

    ``mel`` and ``speaker`` are always there, and state whether the model takes them.
    """
    kinds = (*_BUILT_IN, *(_REGISTRY[name] for name in config.conditions))
    return {kind.name: kind(config) for kind in kinds}


def named_conditions(
    mel: Any = None, speaker: Any = None, others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return one mapping of all that is given, by name."""
    given = {"mel": mel, "speaker": speaker, **(others or {})}
    return {name: value for name, value in given.items() if value is not None}


def require_known(conditions: Mapping[str, Condition], given: Mapping[str, Any]) -> None:
    """Raise ValueError for a name that is none of the model's."""
    for name in given:
        if name not in conditions:
            raise ValueError(f"conditions has {name!r}, but this model takes {list(conditions)}")


def encode_conditions(
    model: WaveNet, given: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> Tensor | None:
    """Return the frames of all conditions, see ``WaveNet.condition_frames``."""
    require_known(model.conditions, given)
    for name, condition in model.conditions.items():
        condition.check(given.get(name))
    # Not `len`: a trace shall leave the number of rows open.
    rows = {name: given[name].shape[0] for name in model.conditions if name in given}
    for (a, n), (b, m) in combinations(rows.items(), 2):
        if n != m and n != 1 and m != 1:
            raise ValueError(f"{b} has {m} rows and {a} {n}; give one for each row")
    frames: Tensor | None = None
    for name, condition in model.conditions.items():
        if condition.used:
            own = condition.frames(model, given.get(name), kept.get(name))
            frames = own if frames is None else frames + own
    if frames is None or model.predictor is None:
        return frames
    columns = _predictor_frames(model, given.get("mel"), kept.get("mel"))
    # Neither the larger of two lengths, which an export would fix, nor broadcast_shapes, which
    # imports torch's compiler.
    n_rows = torch.broadcast_tensors(frames[:, :1], columns[:, :1])[0].shape[0]
    return torch.cat([frames.expand(n_rows, -1, -1), columns.expand(n_rows, -1, -1)], dim=1)


def _predictor_frames(model: WaveNet, mel: Tensor | None, kept: Tensor | None) -> Tensor:
    """Return the predictor's conditioning at frame rate, a neutral one where there is no mel."""
    assert model.predictor is not None
    # The modules that make the conditioning are exported without the rest of the model.
    neutral = model.mel_predictor.neutral()[None, :, None].to(
        next(model.frame_encoder.parameters())
    )
    columns = neutral if mel is None else model.mel_predictor(mel)
    if mel is not None and kept is not None:
        columns = torch.where(kept[:, None, None], columns, neutral)
    return columns[:, : model.predictor.cond_channels]
