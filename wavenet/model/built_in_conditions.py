"""Conditions that every model knows: local features, such as a mel, and the speaker."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from wavenet.model.condition import Condition, Draw, Recording
from wavenet.nn import (
    FrameEncoder,
    FrameLift,
    SpeakerEmbedding,
    TransposedUpsamplingEncoder,
    UpsamplingEncoder,
)
from wavenet.values.integers import is_integer

if TYPE_CHECKING:
    from wavenet.features.mel_config import MelConfig
    from wavenet.model.config import FeatureConfig
    from wavenet.model.wavenet import WaveNet


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
        if not isinstance(value, Tensor):
            raise self._refusal(value)
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
        for row in mel:
            self.check_finite(row)
        return [row[None] for row in mel]

    @staticmethod
    def check_finite(mel: Tensor) -> None:
        """Raise ValueError for NaN and infinity."""
        if not bool(mel.isfinite().all()):
            raise ValueError("mel has values that are not finite; was it made from a damaged file?")

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
        is_index = isinstance(value, Tensor) and value.dtype in (torch.int64, torch.int32)
        if not is_index or value.ndim != 1:
            raise ValueError(f"speaker is {value}, expected a tensor of indices [B], int64")

    def rows(self, value: int | str | Sequence[int | str] | Tensor) -> list[Tensor]:
        """Return an index ``[1]`` for each index or name."""
        if not self.used:
            raise ValueError(f"speaker={value!r}, but this model takes no speaker; leave it out")
        names, n = self.config.speaker_names, self.config.speakers
        given: Any = value.tolist() if isinstance(value, Tensor) else value
        if isinstance(given, str | bytes) or not isinstance(given, Sequence):
            given = [given]
        if not given or not all(isinstance(one, str) or is_integer(one) for one in given):
            raise ValueError(f"speaker={value} must be an index or a name, or one for each row")
        indices = []
        for one in given:
            if isinstance(one, str) and one not in names:  # macOS decomposes accents in file names
                one = next((name for name in names if _composed(name) == _composed(one)), one)
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


def _composed(text: str) -> str:
    """Return text with each accent and its letter as one character, where Unicode has it."""
    return unicodedata.normalize("NFC", text)
