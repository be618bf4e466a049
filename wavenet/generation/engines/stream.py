"""The general engine: ``stream`` itself, one sample a call.

It runs every model, also one with blocks, a conditioning or a distribution that are defined
elsewhere. The other engines are tested against it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from wavenet.generation.engines.base import Frames, GenerationState, Request
from wavenet.generation.engines.conditioning import ALIGNED
from wavenet.model import WaveNet
from wavenet.nn import State, flatten_state, unflatten_state


class StreamEngine:
    """Runs any model on any device, slowly.

    Args:
        model: any ``WaveNet``.
        request: conditioning and how to draw; ``weights`` float32, the model's own.
        start: where to begin; its tensors are copied.

    Raises:
        ValueError: for other weights.
    """

    name: ClassVar[str] = "stream"

    @torch.inference_mode()
    def __init__(self, model: WaveNet, request: Request, start: GenerationState) -> None:
        if request.weights != torch.float32:
            raise ValueError(
                f"engine='stream' cannot round the weights to {request.weights}; leave weights out"
            )
        self.model, self.request = model, request
        weight = model.input_projection.weight
        self._device, self._dtype = weight.device, weight.dtype
        rows = len(start.time)
        self._conditioning = _Conditioning(model, request, rows)
        self._time, self._n_samples = start.time.clone(), 0
        self._params = start.params.to(self._device, self._dtype, copy=True)
        self._state = self._copied(start.model)

    def run(self, uniforms: Tensor) -> Tensor:
        """``[B, U, T]`` to samples ``[B, T]``; see ``Engine.run``."""
        given = uniforms.to(self._device)
        samples = torch.empty(given.shape[0], given.shape[2], dtype=torch.float32)
        with torch.inference_mode():
            cond = self._conditioning.take(given.shape[2])
            for i in range(given.shape[2]):
                x = self.model.distribution.sample(
                    self._params,
                    given[..., i : i + 1],
                    temperature=self.request.temperature,
                    top_p=self.request.top_p,
                )
                samples[:, i] = x[:, 0].float().cpu()
                self._step(x, None if cond is None else cond[..., i : i + 1])
        return samples

    def force(self, x: Tensor) -> Tensor:
        """``[B, T]`` to params ``[B, P, T]``; see ``Engine.force``."""
        with torch.inference_mode():
            cond = self._conditioning.take(x.shape[1])
            return self._step(x.to(self._device), cond).cpu()

    def resized(self, frames: Frames, start: GenerationState, first_sample: int) -> StreamEngine:
        """Return an engine of other rows; ``Engine.resized``."""
        request = replace(self.request, frames=frames, first_sample=first_sample)
        return type(self)(self.model, request, start)

    def dump(self) -> GenerationState:
        """Return a copy of the state; ``Engine.dump``."""
        return GenerationState(
            self._params.clone(), self._copied(self._state), self._time + self._n_samples
        )

    @torch.inference_mode()
    def replace(
        self, rows: list[int], frames: Frames, start: GenerationState | None, first_frame: int = 0
    ) -> None:
        """Give rows other frames and states; ``Engine.replace``."""
        self._conditioning.replace(rows, frames, first_frame)
        if start is None:
            return
        self._time[rows] = start.time - self._n_samples
        before = self._copied((self._params, self._state))
        for kept, new in zip(
            flatten_state(before), flatten_state((start.params, start.model)), strict=True
        ):
            kept[rows] = new.to(kept)
        self._params, self._state = before

    def _step(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Feed samples ``[B, T]`` to the model; returns params ``[B, P, T]``."""
        params, self._state = self.model.stream(x[:, None].to(self._dtype), self._state, cond)
        self._params = params[..., -1:]
        self._n_samples += x.shape[1]
        return params

    def _copied(self, state: State) -> State:
        copies = iter([part.to(self._device, copy=True) for part in flatten_state(state)])
        copied: State = unflatten_state(state, copies)
        return copied


class _Conditioning:
    """The rows' frames, lifted to the samples at hand."""

    def __init__(self, model: WaveNet, request: Request, rows: int) -> None:
        self._model = model
        self._hop = model.frame_lift.hop_samples if model.config.local is not None else 0
        self._position = request.first_sample
        self._frames = None if request.frames is None else list(request.frames)
        self._origins = [0] * rows  # the frame of the engine's time that is a row's frame 0

    def take(self, n: int) -> Tensor | None:
        """``[B, C, n]`` of the next n samples; None for an unconditional model."""
        begin, self._position = self._position, self._position + n
        if self._frames is None:
            return None
        rows = [
            self._lifted(frames, begin - origin * self._hop, n)
            for frames, origin in zip(self._frames, self._origins, strict=True)
        ]
        return torch.stack(rows)

    def _lifted(self, frames: Tensor, begin: int, n: int) -> Tensor:
        """Columns ``[C, n]`` of a row; its first and last frame are held outside of it."""
        if not self._hop or frames.shape[-1] == 1:
            return frames[:, :1].expand(-1, n)
        first, last = begin // self._hop - 1, (begin + n - 1) // self._hop + 1
        wanted = torch.arange(first, last + 1, device=frames.device)
        around = frames[:, wanted.clamp(0, frames.shape[-1] - 1)]
        offset = begin - first * self._hop
        lifted = self._model.frame_lift(around[None])[0]
        return lifted[:, offset : offset + n]

    def replace(self, rows: list[int], frames: list[Tensor] | None, first_frame: int) -> None:
        """Give rows other frames; ``Engine.replace``."""
        if frames is None or self._frames is None:
            return
        if self._hop and self._position % self._hop:
            raise ValueError(f"position {self._position} is within a frame: {ALIGNED}")
        for row, given in zip(rows, frames, strict=True):
            self._frames[row] = given
            self._origins[row] = self._position // self._hop - first_frame if self._hop else 0
