"""The equations of a gated residual block on a tile of time, forward and backward.

A tile is so short that what stands between two products stays in the cache. All products of a tile
are written into buffers that are made once. See ``window`` for the derivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from wavenet.nn.elementwise import Elementwise, TorchElementwise, can_compile
from wavenet.nn.residual import GatedResidualBlock

CPU_TILE = 1536
"""Samples of a tile on a CPU: 128 channels of bfloat16 take 0.4 MB of a 1 MB cache."""
GPU_TILE = 8192

Tile: TypeAlias = tuple[int, int]
"""First sample, and the one behind the last."""


@dataclass(frozen=True)
class Plan:
    """What is computed, of which samples, in which pieces.

    Attributes:
        n_samples: T.
        length: columns of the skip sum.
        lags: of each layer's taps, in samples.
        starts: first sample of each layer's gate that is heard.
        firsts: first sample of each layer's input that is heard.
        dtype: of what products take.
        tile: samples.
        workers: threads.
        recompute: whether gates are computed again instead of kept.
        compiled: whether ``compiled_tiles`` does what happens between products.
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
    ) -> Plan:
        """For an input ``[B, R, T]``; compiled where that is possible, unless it says otherwise."""
        kind, starts, firsts = x.device.type, [], []
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else x.dtype
        begin = x.shape[-1] - length
        for block in reversed(blocks):
            starts.append(begin)
            begin = max(0, begin - block.past)
            firsts.append(begin)
        return cls(
            n_samples=x.shape[-1],
            length=length,
            lags=tuple(
                tuple(back * block.conv.dilation for back in range(block.conv.kernel_size))[::-1]
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
        """From the layer's start to the end, in order; one begins where the skip sum does."""
        start = self.starts[layer]
        grid = range(self.n_samples, start, -self.tile)
        return list(pairwise(sorted({self.n_samples - self.length, start, *grid})))

    def heard_tile(self, layer: int, tile: Tile) -> Tile | None:
        """What of a tile is heard of a layer: its end, all of it, or nothing."""
        begin, end = max(tile[0], self.starts[layer]), tile[1]
        return (begin, end) if begin < end else None

    def parts(self, batch: int) -> list[list[slice]]:
        """For each worker, rows that are computed together, one such part after another."""
        if self.workers == 0:
            return [[slice(0, batch)]]
        return [
            [slice(row, row + 1) for row in range(worker, batch, self.workers)]
            for worker in range(self.workers)
        ]


class Weights:
    """All weights as products take them, forward and back.

    The forward ones give twice the argument of tanh, as ``Elementwise`` wants it.

    Args:
        plan: see ``Plan``.
        terms: of the frames, with the bias: ``[L, B, G, F]``.
        taps: ``[L, G, k R]``, the oldest tap first.
        projections: ``[L, R + S, G / 2 + 1]``, to the residual stream above the skip sum, the bias
            last.
    """

    def __init__(self, plan: Plan, terms: Tensor, taps: Tensor, projections: Tensor) -> None:
        self.terms, self.taps = (_doubled(part).to(plan.dtype) for part in (terms, taps))
        self.projections = projections.to(plan.dtype)
        self.back_taps = taps.to(plan.dtype).transpose(-1, -2)
        self.back_projections = self.projections[..., :-1].transpose(-1, -2)


def _doubled(tensor: Tensor) -> Tensor:
    """With the first half of the gate's channels, of the last dimension but one, doubled."""
    first, second = tensor.chunk(2, dim=-2)
    return torch.cat([2 * first, second], dim=-2)


class Rows:
    """The equations of a tile, for some rows of the batch, and the buffers they work in."""

    def __init__(self, plan: Plan, weights: Weights, lift: Tensor, rows: int) -> None:
        self.plan, self.weights, self.lift = plan, weights, lift.to(plan.dtype)
        n_gates, self.n_taps = weights.taps.shape[-2:]
        n_out = weights.projections.shape[1]
        self.residual = self.n_taps // len(plan.lags[0])
        self._frames: dict[Tile, slice] = {}
        self.elementwise = _elementwise(plan, lift, (rows, n_gates, plan.tile))

        def room(channels: int) -> Tensor:
            return lift.new_empty(rows, channels, plan.tile, dtype=plan.dtype)

        self._inputs = room(self.n_taps + len(lift))
        self._gates, self._z_slope = room(n_gates), room(n_gates)
        self._gated = room(n_gates // 2 + 1).fill_(1)  # the last channel stays so, for the biases
        self._gate_slope, self._slopes = room(n_gates // 2), room(n_out)
        self._product = room(max(n_out, self.n_taps))
        self._stream = lift.new_empty(rows, self.residual, plan.tile)

    def outputs(self, layer: int, tile: Tile) -> slice:
        """Of the projections' channels those that are heard: stream, skip sum, or both."""
        last = layer + 1 == len(self.plan.starts)
        before = tile[0] < self.plan.n_samples - self.plan.length
        return slice(self.residual if last else 0, self.residual if before else None)

    def stream(self, x: Tensor, tile: Tile) -> Tensor:
        """A tile of the residual stream, to be added to: ``[rows, R, t]``."""
        begin, end = tile
        return self._stream[..., : end - begin].copy_(x[..., begin:end])

    def inputs(self, layer: int, tile: Tile, x: Tensor) -> Tensor:
        """All that a tile of z hears, stacked: ``[rows, k R + frames, t]``."""
        begin, end = tile
        frames, origin = self.frames(tile), self.plan.firsts[layer]
        inputs = self._inputs[:, : self.n_taps + frames.stop - frames.start, : end - begin]
        for tap, lag in enumerate(self.plan.lags[layer]):
            part = inputs[:, tap * x.shape[1] : (tap + 1) * x.shape[1]]
            first = max(begin, min(lag, end))  # before the window there are zeros
            if first > begin:
                part[..., : first - begin] = 0
            part[..., first - begin :] = x[..., first - lag - origin : end - lag - origin]
        inputs[:, self.n_taps :] = self.lift[frames, begin:end]
        return inputs

    def gates(
        self, layer: int, part: slice, tile: Tile, inputs: Tensor, out: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """tanh above sigmoid, ``[rows, G, t]``, and their product above ones.

        Args:
            layer: its number.
            part: rows of the batch.
            tile: of time.
            inputs: see there.
            out: for the gates, where they are kept.
        """
        terms = self.weights.terms[layer, part, :, self.frames(tile)]
        taps = self.weights.taps[layer].expand(len(terms), -1, -1)
        z, gated = self._gates[..., : inputs.shape[-1]], self._gated[..., : inputs.shape[-1]]
        multiply(z, torch.cat([taps, terms], dim=-1), inputs)
        gates = z if out is None else out
        self.elementwise.gate(z, gates, gated[:, :-1])
        return gates, gated

    def projected(self, layer: int, outputs: slice, gated: Tensor) -> Tensor:
        """What the gated tile adds to these outputs: ``[rows, channels, t]``."""
        weight = self.weights.projections[layer, outputs]
        return multiply(self._product[:, : len(weight), : gated.shape[-1]], weight, gated)

    def output_slopes(self, outputs: slice, tile: Tile, x_slope: Tensor, skip: Tensor) -> Tensor:
        """The gradient of these outputs, as products take it: ``[rows, channels, t]``.

        Args:
            outputs: see there.
            tile: of time.
            x_slope: of the residual stream, ``[rows, R, T]``.
            skip: of the skip sum, narrow, ``[rows, S, length]``.
        """
        begin, end = tile
        slopes = self._slopes[..., : end - begin]
        if outputs.start == 0:
            slopes[:, : self.residual].copy_(x_slope[..., begin:end])
        if outputs.stop is None:
            window = self.plan.n_samples - self.plan.length
            slopes[:, self.residual :].copy_(skip[..., begin - window : end - window])
        return slopes[:, outputs]

    def gate_slopes(
        self, layer: int, outputs: slice, gates: Tensor, slopes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The gradient of z, ``[rows, G, t]``; and the gated tile above ones once more."""
        n = gates.shape[-1]
        slope, z_slope, gated = (
            room[..., :n] for room in (self._gate_slope, self._z_slope, self._gated)
        )
        multiply(slope, self.weights.back_projections[layer][:, outputs], slopes)
        self.elementwise.slopes(gates, slope, z_slope, gated[:, :-1])
        return z_slope, gated

    def frames(self, tile: Tile) -> slice:
        """The frames that a tile hears: the rows of the lift that are not zero there."""
        if tile not in self._frames:
            heard = slice(0, len(self.lift))
            if self.lift.device.type == "cpu":
                rows = self.lift[:, tile[0] : tile[1]].any(dim=1).nonzero()
                heard = slice(int(rows[0]), int(rows[-1]) + 1)
            self._frames[tile] = heard
        return self._frames[tile]

    def add_taps(self, layer: int, tile: Tile, z_slope: Tensor, x_slope: Tensor) -> None:
        """Add what a tile's gradient says about the samples that its taps heard."""
        begin, end = tile
        channels = x_slope.shape[1]
        product = self._product[:, : self.n_taps, : end - begin]
        multiply(product, self.weights.back_taps[layer], z_slope)
        for tap, lag in enumerate(self.plan.lags[layer]):
            first = max(begin, min(lag, end))
            part = product[:, tap * channels : (tap + 1) * channels, first - begin :]
            self.elementwise.add(x_slope[..., first - lag : end - lag], part)


def _elementwise(plan: Plan, like: Tensor, shape: tuple[int, int, int]) -> Elementwise:
    if plan.compiled:
        from wavenet.nn.compiled_tiles import CompiledElementwise  # imports numba

        return CompiledElementwise()
    return TorchElementwise(like, shape)


def multiply(out: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """out = weight x; the weight may be one for each row, or for all."""
    if len(x) == 1:  # the library's product of two matrices is faster than that of two stacks
        torch.mm(weight[0] if weight.ndim == 3 else weight, x[0], out=out[0])
    else:
        torch.bmm(weight.expand(len(x), -1, -1), x, out=out)
    return out


def outer(slope: Tensor, x: Tensor) -> Tensor:
    """slope x^T, a weight's gradient ``[rows, M, K]``, for ``[rows, M, t]``, ``[rows, K, t]``."""
    if len(x) == 1:
        return torch.mm(slope[0], x[0].T)[None]
    return torch.bmm(slope, x.transpose(1, 2))


def summed(tensor: Tensor) -> Tensor:
    """The sum over rows."""
    return tensor[0] if len(tensor) == 1 else tensor.sum(0)
