"""Partition of the work on a window: tiles of time, and rows of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from wavenet.nn.residual import GatedResidualBlock
from wavenet.training.window.elementwise import can_compile

CPU_TILE = 1536
"""Samples of a tile on a CPU: 128 channels of bfloat16 take 0.4 MB of a 1 MB cache."""
GPU_TILE = 8192

Tile: TypeAlias = tuple[int, int]
"""First sample, and the one after the last."""


@dataclass(frozen=True)
class Plan:
    """Samples that each layer computes, and their partition into tiles and threads.

    Attributes:
        n_samples: T.
        length: columns of the skip sum.
        lags: of each layer's taps, in samples.
        starts: first sample of each layer's gate that the output depends on.
        firsts: first sample of each layer's input that the output depends on.
        dtype: of the operands of products.
        tile: samples.
        workers: threads.
        recompute: whether the backward pass computes the gates again instead of reading them.
        compiled: whether ``elementwise_numba`` does the elementwise work.
    """

    n_samples: int
    length: int
    lags: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    firsts: tuple[int, ...]
    dtype: torch.dtype
    tile: int
    workers: int
    recompute: bool
    compiled: bool

    @classmethod
    def of(
        cls,
        blocks: list[GatedResidualBlock],
        x: Tensor,
        length: int,
        *,
        recompute: bool,
        compiled: bool | None = None,
        samples_per_step: int = 1,
    ) -> Plan:
        """Make a plan for an input ``[B, R, T]``; `compiled=None` compiles where possible.

        With ``samples_per_step`` the input has one column for so many samples, and so have all
        lengths of the plan.
        """
        kind, starts, firsts = x.device.type, [], []
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else x.dtype
        begin = x.shape[-1] - length
        for block in reversed(blocks):
            starts.append(begin)
            begin = max(0, begin - block.past // samples_per_step)
            firsts.append(begin)
        return cls(
            n_samples=x.shape[-1],
            length=length,
            lags=tuple(
                tuple(
                    back * block.conv.dilation // samples_per_step
                    for back in range(block.conv.kernel_size)
                )[::-1]
                for block in blocks
            ),
            starts=tuple(reversed(starts)),
            firsts=tuple(reversed(firsts)),
            dtype=dtype,
            tile=min(x.shape[-1], CPU_TILE if kind == "cpu" else GPU_TILE),
            workers=min(len(x), torch.get_num_threads()) if kind == "cpu" else 0,
            recompute=recompute,
            compiled=can_compile(x, dtype) if compiled is None else compiled,
        )

    def tiles(self, layer: int = 0) -> list[Tile]:
        """Tiles from the layer's start to the end, in order; one begins where the skip sum does."""
        start = self.starts[layer]
        grid = range(self.n_samples, start, -self.tile)
        return list(pairwise(sorted({self.n_samples - self.length, start, *grid})))

    def needed_part(self, layer: int, tile: Tile) -> Tile | None:
        """Part of a tile that a layer has to compute: its end, all of it, or None."""
        begin, end = max(tile[0], self.starts[layer]), tile[1]
        return (begin, end) if begin < end else None

    def parts(self, batch: int) -> list[list[slice]]:
        """Parts of the batch for each worker; the rows of a part are computed together."""
        if self.workers == 0:
            return [[slice(0, batch)]]
        return [
            [slice(row, row + 1) for row in range(worker, batch, self.workers)]
            for worker in range(self.workers)
        ]
