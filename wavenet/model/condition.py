"""One condition of a model: what it makes of its values, and where a recording has one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from wavenet.values.text import short

if TYPE_CHECKING:
    from wavenet.model.config import WaveNetConfig
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
        found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else short(value)
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
