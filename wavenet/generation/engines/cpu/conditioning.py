"""The conditioning on its way into the CPU engine: three projected frames around the next sample.

As in ``window``, projected once a frame and lifted by the loop; here row by row and in place, in
the layout that the loop reads.
"""

from __future__ import annotations

import sys
from typing import cast

import numpy as np
import torch
from torch import Tensor

from wavenet.generation.engines.base import Request
from wavenet.generation.engines.conditioning import ALIGNED
from wavenet.generation.engines.cpu.kernels.packing import LANES, registers
from wavenet.model import WaveNet
from wavenet.nn import GatedResidualBlock


class CpuConditioning:
    """Precomputed conditioning: each layer's bias and projected frames, whatever the signal.

    Attributes:
        terms: ``[B, frames, L * G]``, G whole registers; the frames before, at and after the
            sample, or one where nothing changes in time.
        columns: ``[B, frames, C]``, C whole registers, of the linear predictor; empty without one.
        lift: ``[hop * 3]``, the frames' weights; empty where there is one frame.
        position: of the next sample in the time of the frames.
    """

    def __init__(self, model: WaveNet, request: Request, n_rows: int) -> None:
        blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
        extra = -blocks[0].gate_channels % LANES
        biases = [block.conv.bias.detach() for block in blocks]  # type: ignore[union-attr]
        self._bias = torch.nn.functional.pad(torch.stack(biases), (0, extra)).flatten()
        self.position, self._frame, self._hop = request.first_sample, -2, 0
        self.lift = np.empty(0, np.float32)
        n_frames = 1
        if request.frames is not None and model.config.local is not None:
            n_frames, self._hop = 3, model.frame_lift.hop_samples
            self.lift = model.frame_lift.weights.T.float().contiguous().view(-1).numpy()
        self.terms = np.empty((n_rows, n_frames, self._bias.numel()), np.float32)
        n_columns = 0 if model.predictor is None else model.predictor.columns
        self._n_columns = n_columns
        self.columns = np.zeros((n_rows, n_frames, registers(n_columns) * LANES), np.float32)
        if request.frames is None:
            self.terms[:] = self._bias.numpy()
            return
        self._frames = [_columns(row) for row in request.frames]
        self._origins = [0] * n_rows  # the engine's frame that is a row's frame 0
        weights = [block.cond_projection.weight.detach().squeeze(-1) for block in blocks]
        padded = torch.nn.functional.pad(torch.stack(weights), (0, 0, 0, extra))
        self._projections = padded.flatten(0, 1).contiguous()
        # Always the same memory: the order of a product's sums may depend on its factors' address.
        self._column = self._bias.new_empty(self._projections.shape[1])
        self._projected = torch.empty_like(self._bias)
        if not self._hop:
            self._project(0, 0)

    def approach(self) -> tuple[int, int]:
        """Prepare for the next sample: its phase within its frame, and the samples up to the next.

        The first is 0 and the second without bound where nothing changes in time.
        """
        if not self._hop:
            return 0, sys.maxsize
        frame, phase = divmod(self.position, self._hop)
        if frame == self._frame + 1:
            self.terms[:, :2] = self.terms[:, 1:]
            self.columns[:, :2] = self.columns[:, 1:]
            self._project(frame + 1, 2)
        elif frame != self._frame:
            for i in range(3):
                self._project(frame - 1 + i, i)
        self._frame = frame
        return phase, self._hop - phase

    def replace(self, rows: list[int], frames: list[Tensor] | None, first_frame: int) -> None:
        """Give rows other frames; ``ConditioningWindow.replace``."""
        if frames is None:
            return
        frame, phase = divmod(self.position, self._hop) if self._hop else (0, 0)
        if phase:
            raise ValueError(f"position {self.position} is within a frame: {ALIGNED}")
        for row, given in zip(rows, frames, strict=True):
            self._frames[row], self._origins[row] = _columns(given), frame - first_frame
        self._frame = -2
        if not self._hop:
            self._project(0, 0)

    def _project(self, frame: int, place: int) -> None:
        """Row by row, so that a row has the same bits in every batch; a row's end is held."""
        with torch.inference_mode():
            width = len(self._column)
            for row, frames in enumerate(self._frames):
                own = frame - self._origins[row]
                here = frames[min(max(own, 0), len(frames) - 1)]
                self._column.copy_(here[:width])
                torch.addmv(self._bias, self._projections, self._column, out=self._projected)
                self.terms[row, place] = self._projected.numpy()
                self.columns[row, place, : self._n_columns] = here[width:].numpy()


def _columns(frames: Tensor) -> Tensor:
    """``[C, F]`` as ``[F, C]``, float32 on the CPU."""
    return frames.T.to("cpu", torch.float32).contiguous()
