"""Bases of the models in a ``.nam`` file: of all, and of ``Linear``, ``ConvNet`` and so on."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavenet.nam.simple_config import SimpleConfig
from wavenet.nn import Causal, State
from wavenet.nn.causal import stream_child
from wavenet.storage.settings import to_dict


class FromSilence(Causal):
    """Base of all models of a file: a recording begins behind silence, as NAM itself begins."""

    def forward(  # type: ignore[override]  # a model, which takes no conditioning
        self,
        x: Tensor,
        start: State | None = None,
        *,
        cond: Tensor | None = None,
        state: State | None = None,
    ) -> Any:
        """Process a whole recording: ``[B, in_channels, T]`` to ``[B, out_channels, T]``.

        Args:
            x: the audio.
            start: the state before it; default silence, ``warm_state``.
            cond: None; the model takes no conditioning.
            state: as ``start``; the call is then ``stream``, and returns the next state as well.
        """
        if state is not None:
            return self._defined_stream(x, state, cond)
        self._check_rows(x)
        if start is None:
            start = self.warm_state(x.shape[0], device=x.device, dtype=x.dtype)
        return self._defined_stream(x, start, cond)[0]


class NamModel(FromSilence):
    """A model of one causal block, ``[B, in_channels, T]`` to ``[B, 1, T]``.

    >>> model = NamLinear(LinearConfig(receptive_field=3), metadata={"name": "cabinet"})
    >>> isinstance(model, NamModel), model.architecture, model.metadata
    (True, 'Linear', {'name': 'cabinet'})

    Attributes:
        config: the frozen configuration.
        metadata: of the file: the gear, its loudness and so on.
        architecture: its name in the file.
    """

    architecture: str
    body: Causal
    config: SimpleConfig

    def __init__(self, config: SimpleConfig, metadata: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.config, self.metadata = config, dict(metadata or {})
        self.in_channels, self.out_channels = config.in_channels, 1

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio, in Hz."""
        return self.config.sample_rate

    @property
    @abstractmethod
    def multiply_adds(self) -> int:
        """Multiply-adds per sample of the audio."""

    @abstractmethod
    def file_config(self) -> dict[str, Any]:
        """Return ``config`` of the file as JSON values."""

    @abstractmethod
    def flat(self) -> Tensor:
        """Return the weights in the order of the file, float32 ``[N]``."""

    @abstractmethod
    def fill(self, weights: Tensor) -> None:
        """Set the weights from those of the file, float32 ``[N]``."""

    @property
    def past(self) -> int:
        """Reach of the body."""
        return self.body.past

    def layers(self) -> list[tuple[str, Causal]]:
        """The layers of the body, or else the body itself."""
        inner = [(f"body.{name}", block) for name, block in self.body.layers()]
        return inner or [("body", self.body)]

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """Return the state of the body."""
        return self.body.init_state(batch_size, device=device, dtype=dtype)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Settle the body."""
        return self.body.settle(x)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, in_channels, T]`` to ``[B, 1, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        return stream_child(self.body, x, state)

    def save(self, folder: str | Path, *, provenance: dict[str, Any] | None = None) -> None:
        """Refuse: the model is kept in its ``.nam`` file, which ``write_nam`` writes.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"{folder}: a NAM {self.architecture} has no checkpoint folder; keep it as a .nam "
            "file, which loads as it is (wavenet.nam.write_nam writes one)"
        )

    def description(self) -> dict[str, Any]:
        """Return architecture, configuration and origin, as ``config.json`` has them."""
        return {
            "architecture": f"nam-{self.architecture.lower()}",
            "config": to_dict(self.config),
            "provenance": {"nam_metadata": self.metadata},
        }
