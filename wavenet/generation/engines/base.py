"""The contract of engines: a fast way to run one model, for one request, sample after sample.

``stream`` of the model defines what is right; an engine only has to be quick. It keeps its own
layout, loads and dumps the canonical state, and takes its randomness as given uniforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from wavenet.model import WaveNet
from wavenet.nn import State, flatten_state, select_rows, unflatten_state


class GenerationState(NamedTuple):
    """State of generation: all that the samples to come depend on, beside seed and settings.

    ``params`` and ``model`` are what ``model.stream`` returns, so a prompt processed in parallel
    can be continued: ``GenerationState.after(*model.stream(x, model.warm_state(1)))``.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")).eval()
    >>> speech = torch.zeros(1, 1, 300)
    >>> state = GenerationState.after(*model.stream(speech, model.warm_state(1)))
    >>> tuple(generate(model, n_samples=5, state=state, engine="eager").shape)
    (1, 5)

    Attributes:
        params: ``[B, P, 1]``, of the next sample.
        model: the model's canonical state, after all samples so far.
        time: ``[B]`` int64, samples generated so far; the uniforms depend on it.
    """

    params: Tensor
    model: State
    time: Tensor

    @classmethod
    def after(cls, params: Tensor, model: State) -> GenerationState:
        """After what ``model.stream`` returned: params ``[B, P, T]`` and the state; time 0."""
        return cls(params[..., -1:].clone(), model, torch.zeros(params.shape[0], dtype=torch.int64))

    @classmethod
    def join(cls, states: Sequence[GenerationState]) -> GenerationState:
        """Concatenate the rows of states."""
        parts = zip(*(flatten_state((one.params, one.model)) for one in states), strict=True)
        joined = iter([torch.cat(part) for part in parts])
        params, model = unflatten_state((states[0].params, states[0].model), joined)
        return cls(params, model, torch.cat([one.time for one in states]))

    def select(self, rows: list[int]) -> GenerationState:
        """Return some of the rows."""
        return GenerationState(self.params[rows], select_rows(self.model, rows), self.time[rows])


Frames = list[Tensor] | None
"""Of each row the conditioning at frame rate, ``[C, F]`` as ``model.condition_frames`` gives it;
None for a model without any."""


@dataclass(frozen=True)
class Request:
    """Settings and conditioning that stay the same while an engine runs.

    Attributes:
        frames: of each row.
        first_sample: sample of the frames' time at which the engine begins.
        temperature: see ``Distribution.sample``.
        top_p: see ``Distribution.sample``.
        weights: type that the weights are rounded to: float32, float16 or bfloat16.
    """

    frames: Frames
    first_sample: int
    temperature: float
    top_p: float | None
    weights: torch.dtype


class Engine(Protocol):
    """Runs a model for a request, from a state on; built as ``Engine(model, request, start)``.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")).eval()
    >>> from wavenet.generation.options import engine_class
    >>> engine_class("eager", model).name
    'eager'

    Attributes:
        name: what ``generate(..., engine=name)`` calls it.
    """

    name: ClassVar[str]

    def __init__(self, model: WaveNet, request: Request, start: GenerationState) -> None: ...

    def run(self, uniforms: Tensor) -> Tensor:
        """The next samples.

        Args:
            uniforms: ``[B, U, T]`` in (0, 1), on the CPU.

        Returns:
            ``[B, T]`` float32 in [-1, 1], on the CPU.
        """

    def force(self, x: Tensor) -> Tensor:
        """Teacher forcing: feed the given samples instead of drawing them.

        Args:
            x: ``[B, T]``.

        Returns:
            params ``[B, P, T]``; ``params[..., t]`` are those of the sample after ``x[:, t]``.
        """

    def dump(self) -> GenerationState:
        """The canonical state after the samples so far."""

    def resized(self, frames: Frames, start: GenerationState, first_sample: int) -> Engine:
        """Return an engine of other rows, with the same model and settings.

        Args:
            frames: as in the request, one for each row.
            start: of these rows.
            first_sample: as in the request.
        """

    def replace(
        self, rows: list[int], frames: Frames, start: GenerationState | None, first_frame: int = 0
    ) -> None:
        """Give some rows other frames, and let them begin other sequences; the others go on.

        Args:
            rows: which.
            frames: as in the request, one for each of these rows.
            start: of so many rows; None where they go on from their own state.
            first_frame: the frame that begins at the next sample.

        Raises:
            ValueError: where the next sample does not begin a frame of the rows that go on.
        """
