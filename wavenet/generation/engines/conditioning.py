"""The conditioning on its way into an engine: a few projected frames around the samples at hand.

The lift from frames to samples is linear and the same for every channel, so each layer's share of
the gate is projected once a frame, and two neighbouring frames are weighed for every sample. Only
the frames that the next block of samples needs are kept: memory does not grow with the length.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.generation.engines.base import Request
from wavenet.model import WaveNet
from wavenet.nn import GatedResidualBlock

ALIGNED = "rows can be replaced only where a frame begins; run multiples of the hop in between"


class Lift(NamedTuple):
    """Interpolation of a block's samples: two places of the window, and the weight of each."""

    places: Tensor  # [n, 2] int64
    shares: Tensor  # [n, 2]


class ConditioningWindow:
    """Precomputed conditioning: each layer's bias and projected frames, whatever the signal.

    Frame f is at place f mod W. Without features in frames there is one place, for all time.

    Args:
        model: any ``WaveNet``.
        request: the rows' frames, and where in their time the engine begins.
        gate_bias: ``[L, G]``, added to the terms.
        gate_scale: ``[G]``, what the projected conditioning is multiplied by.
        rows: B.
        block_samples: most samples for which ``prepare`` is asked at once.

    Attributes:
        terms: ``[W, L, B, G]``, changed in place; B is 1 for an unconditional model.
        columns: ``[W, B, C]`` of the linear predictor, C = 0 without one.
        hop: samples per frame, or 0 where nothing changes in time.
        first_sample: of the request.
        begins, shares: ``[hop]`` int64 and ``[hop, 2]``: the first of the two frames, -1 or 0 from
            the sample's own, and the weights of both.
    """

    def __init__(
        self,
        model: WaveNet,
        request: Request,
        gate_bias: Tensor,
        gate_scale: Tensor,
        rows: int,
        block_samples: int,
    ) -> None:
        self._bias = gate_bias[:, None]
        self.hop, self.first_sample = 0, request.first_sample
        self._position, self._held = request.first_sample, 0  # frames below are in the window
        n_columns = 0 if model.predictor is None else model.predictor.columns
        self.columns = gate_bias.new_zeros(1, rows, n_columns)
        self.begins = torch.zeros(0, dtype=torch.int64, device=gate_bias.device)
        self.shares = gate_bias.new_zeros(0, 2)
        self.terms = self._bias[None].clone()
        if request.frames is None:
            return
        blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
        weights = [block.cond_projection.weight.detach().squeeze(-1).T for block in blocks]
        self._projections = torch.stack(weights).to(gate_bias) * gate_scale  # [L, C, G]
        if model.config.local is not None:
            self._set_lift(model.frame_lift.hop_samples, model.frame_lift.weights.to(gate_bias))
        places = 1 if not self.hop else (block_samples - 1) // self.hop + 4
        self.terms = gate_bias.new_zeros(places, len(blocks), rows, gate_bias.shape[1])
        self.columns = gate_bias.new_zeros(places, rows, n_columns)
        self._frames = gate_bias.new_zeros(rows, request.frames[0].shape[0], 1)
        self._last = torch.zeros(rows, dtype=torch.int64, device=gate_bias.device)
        self._origin = torch.zeros_like(self._last)  # the engine's frame that is a row's frame 0
        self._put(list(range(rows)), request.frames, 0)

    def prepare(self, n_samples: int) -> None:
        """Project what the next samples need; at most ``block_samples`` of them."""
        begin, self._position = self._position, self._position + n_samples
        if self.hop:
            first, last = begin // self.hop - 1, (self._position - 1) // self.hop + 1
            for frame in range(max(first, self._held), last + 1):
                self._project(frame)
            self._held = last + 1

    def lift(self, now: Tensor, n_samples: int) -> Lift | None:
        """Return the places of the samples ``now .. now + n - 1``; None for one place.

        Nothing here asks the device for a value, so that it can be part of a captured graph.
        """
        if not self.hop:
            return None
        position = now + torch.arange(
            self.first_sample, self.first_sample + n_samples, device=now.device
        )
        phase = position % self.hop
        first = position // self.hop + self.begins[phase]
        places = torch.stack([first, first + 1], dim=1) % len(self.terms)
        return Lift(places, self.shares[phase])

    def terms_at(self, lift: Lift | None, i: int) -> Tensor:
        """``[L, B, G]`` of sample i of the block."""
        if lift is None:
            return self.terms[0]
        around = self.terms.index_select(0, lift.places[i])
        return (lift.shares[i] @ around.flatten(1)).view(around.shape[1:])

    def columns_of(self, lift: Lift | None) -> Tensor:
        """``[n, B, C]`` of all samples of the block, or ``[1, B, C]``."""
        if lift is None:
            return self.columns
        around = self.columns[lift.places]  # [n, 2, B, C]
        return (lift.shares[:, :, None, None] * around).sum(1)

    def replace(self, rows: list[int], frames: list[Tensor] | None, first_frame: int) -> None:
        """Other frames for some rows; ``first_frame`` of them begins at the next sample.

        Raises:
            ValueError: unless that is where a frame begins.
        """
        if frames is None:
            return
        if self.hop and self._position % self.hop:
            raise ValueError(f"position {self._position} is within a frame: {ALIGNED}")
        self._put(rows, frames, self._position // self.hop - first_frame if self.hop else 0)

    def _put(self, rows: list[int], frames: list[Tensor], origin: int) -> None:
        index = torch.tensor(rows, device=self._last.device)
        last = [row.shape[-1] - 1 for row in frames]
        more = max(last) + 1 - self._frames.shape[-1]
        self._frames = F.pad(self._frames, (0, max(0, more)))
        for row, given in zip(rows, frames, strict=True):
            self._frames[row, :, : given.shape[-1]] = given.to(self._frames)
        self._last[index] = torch.tensor(last, device=index.device)
        self._origin[index] = origin
        self._held = self._position // self.hop - 1 if self.hop else 0
        if not self.hop:
            self._project(0)

    def _set_lift(self, hop: int, weights: Tensor) -> None:
        """Store the two frames around each sample: of three, one always has no weight."""
        self.hop = hop
        self.begins = torch.where(weights[2] == 0, -1, 0)
        pairs = torch.stack([weights[:2], weights[1:]])  # [begin, 2, hop]
        self.shares = pairs[self.begins + 1, :, torch.arange(hop, device=weights.device)]

    def _project(self, frame: int) -> None:
        """Project a frame of all rows into its place; a row's first and last frame are held."""
        own = (frame - self._origin).clamp(min=0).minimum(self._last)
        index = own[:, None, None].expand(-1, self._frames.shape[1], 1)
        here = self._frames.gather(2, index)[..., 0]
        place, width = frame % len(self.terms), self._projections.shape[1]
        inputs = here[:, :width].expand(len(self._projections), -1, -1)
        torch.baddbmm(self._bias, inputs, self._projections, out=self.terms[place])
        self.columns[place] = here[:, width:]
