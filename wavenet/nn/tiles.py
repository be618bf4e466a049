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

from wavenet.nn.residual import GatedResidualBlock

CPU_TILE = 1024
"""Samples of a tile on a CPU: 128 channels of float32 take half of a 1 MB cache."""
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

    @classmethod
    def of(cls, blocks: list[GatedResidualBlock], x: Tensor, length: int, recompute: bool) -> Plan:
        """For an input ``[B, R, T]``."""
        kind, starts, firsts = x.device.type, [], []
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
            dtype=(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype),
            tile=min(x.shape[-1], CPU_TILE if kind == "cpu" else GPU_TILE),
            workers=min(len(x), torch.get_num_threads()) if kind == "cpu" else 0,
            recompute=recompute,
        )

    def tiles(self, layer: int) -> list[Tile]:
        """From the layer's start to the end, in order; one begins where the skip sum does."""
        edges = {self.n_samples - self.length, self.starts[layer]}
        edges |= set(range(self.n_samples, self.starts[layer], -self.tile))
        ordered = sorted(edges)
        return list(pairwise(ordered))

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

    The forward ones give twice the argument of tanh: tanh(z) = 2 sigmoid(2 z) - 1.

    Args:
        plan: see ``Plan``.
        terms: of the frames, with the bias: ``[L, B, G, F]``.
        taps: ``[L, G, k R]``, the oldest tap first.
        residuals: ``[L - 1, R, G / 2 + 1]``, the bias last.
        skips: ``[L, S, G / 2 + 1]``, the bias last.
    """

    def __init__(
        self, plan: Plan, terms: Tensor, taps: Tensor, residuals: Tensor, skips: Tensor
    ) -> None:
        self.terms, self.taps = (_doubled(part).to(plan.dtype) for part in (terms, taps))
        self.residuals, self.skips = residuals.to(plan.dtype), skips.to(plan.dtype)
        self.back_taps = taps.to(plan.dtype).transpose(-1, -2)
        self.back_residuals = self.residuals[..., :-1].transpose(-1, -2)
        self.back_skips = self.skips[..., :-1].transpose(-1, -2)


def _doubled(tensor: Tensor) -> Tensor:
    """With the first half of the gate's channels, of the last dimension but one, doubled."""
    first, second = tensor.chunk(2, dim=-2)
    return torch.cat([2 * first, second], dim=-2)


class Rows:
    """The equations of a tile, for some rows of the batch, and the buffers they work in."""

    def __init__(self, plan: Plan, weights: Weights, lift: Tensor, rows: int) -> None:
        self.plan, self.weights, self.lift = plan, weights, lift.to(plan.dtype)
        n_gates, self.n_taps = weights.taps.shape[-2:]
        self.half = n_gates // 2
        self._frames: dict[Tile, slice] = {}

        def room(channels: int, dtype: torch.dtype) -> Tensor:
            return lift.new_empty(rows, channels, plan.tile, dtype=dtype)

        self._inputs = room(self.n_taps + len(lift), plan.dtype)
        self._gates, self._slopes = room(n_gates, lift.dtype), room(n_gates, lift.dtype)
        self._gate_slope = room(self.half, lift.dtype)
        self._gated = room(self.half + 1, plan.dtype).fill_(1)
        self._narrow = room(max(n_gates, self.n_taps), plan.dtype)
        self._product = room(max(n_gates, self.n_taps, weights.skips.shape[1]), plan.dtype)
        self._minus_one = lift.new_tensor(-1.0)

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

    def gates(self, layer: int, part: slice, tile: Tile, inputs: Tensor) -> Tensor:
        """tanh and sigmoid of a tile, one above the other: ``[rows, G, t]``."""
        terms = self.weights.terms[layer, part, :, self.frames(tile)]
        taps = self.weights.taps[layer].expand(len(terms), -1, -1)
        stacked = torch.cat([taps, terms], dim=-1)
        z = self._gates[..., : inputs.shape[-1]]
        if z.dtype == inputs.dtype:
            multiply(z, stacked, inputs)
        else:
            z.copy_(multiply(self._narrow[:, : z.shape[1], : inputs.shape[-1]], stacked, inputs))
        z.sigmoid_()
        first = z[:, : self.half]
        torch.add(self._minus_one, first, alpha=2, out=first)
        return z

    def kept(self, gates: Tensor) -> Tensor:
        """Gates that were kept, as ``gates`` gives them."""
        if gates.dtype == self._gates.dtype:
            return gates
        return self._gates[..., : gates.shape[-1]].copy_(gates)

    def gated(self, gates: Tensor) -> Tensor:
        """Their product above a row of ones: ``[rows, G / 2 + 1, t]``."""
        gated = self._gated[..., : gates.shape[-1]]
        first, second = gates[:, : self.half], gates[:, self.half :]
        if gated.dtype == gates.dtype:
            torch.mul(first, second, out=gated[:, :-1])
        else:
            gated[:, :-1].copy_(
                torch.mul(first, second, out=self._gate_slope[..., : first.shape[-1]])
            )
        return gated

    def no_slope(self, n_samples: int) -> Tensor:
        """Zeros, to which the gradient of the gate's product is added: ``[rows, G / 2, t]``."""
        return self._gate_slope[..., :n_samples].zero_()

    def slopes(self, gates: Tensor, slope: Tensor) -> Tensor:
        """From the gradient of the gate's product to that of z: ``[rows, G, t]``."""
        first, second = gates[:, : self.half], gates[:, self.half :]
        slopes = self._slopes[..., : gates.shape[-1]]
        upper, lower = slopes[:, : self.half], slopes[:, self.half :]
        torch.mul(slope, second, out=upper)
        torch.mul(slope, first, out=lower)
        torch.ops.aten.tanh_backward.grad_input(upper, first, grad_input=upper)
        torch.ops.aten.sigmoid_backward.grad_input(lower, second, grad_input=lower)
        return self.narrow(slopes)

    def narrow(self, tensor: Tensor) -> Tensor:
        """The tensor as products take it; in a buffer that the next call overwrites."""
        if tensor.dtype == self.plan.dtype:
            return tensor
        return self._narrow[:, : tensor.shape[1], : tensor.shape[2]].copy_(tensor)

    def frames(self, tile: Tile) -> slice:
        """The frames that a tile hears: the rows of the lift that are not zero there."""
        if tile not in self._frames:
            heard = slice(0, len(self.lift))
            if self.lift.device.type == "cpu":
                rows = self.lift[:, tile[0] : tile[1]].any(dim=1).nonzero()
                heard = slice(int(rows[0]), int(rows[-1]) + 1)
            self._frames[tile] = heard
        return self._frames[tile]

    def add_taps(self, layer: int, tile: Tile, slopes: Tensor, x_slope: Tensor) -> None:
        """Add what a tile's gradient says about the samples that its taps heard."""
        begin, end = tile
        channels = x_slope.shape[1]
        product = self._product[:, : self.n_taps, : end - begin]
        multiply(product, self.weights.back_taps[layer], slopes)
        for tap, lag in enumerate(self.plan.lags[layer]):
            first = max(begin, min(lag, end))
            part = product[:, tap * channels : (tap + 1) * channels, first - begin :]
            x_slope[..., first - lag : end - lag].add_(part)

    def add_product(self, total: Tensor, weight: Tensor, x: Tensor) -> None:
        """total += weight x, for ``[rows, M, t]``, ``[M, K]`` and ``[rows, K, t]``."""
        if total.dtype == x.dtype:
            multiply(total, weight, x, beta=1)
        else:
            total.add_(multiply(self._product[:, : total.shape[1], : x.shape[-1]], weight, x))


def multiply(out: Tensor, weight: Tensor, x: Tensor, beta: int = 0) -> Tensor:
    """out = beta out + weight x; the weight may be one for each row, or for all."""
    if len(x) == 1:  # the library's product of two matrices is faster than that of two stacks
        matrix = weight[0] if weight.ndim == 3 else weight
        torch.addmm(out[0], matrix, x[0], beta=beta, out=out[0])
    else:
        torch.baddbmm(out, weight.expand(len(x), -1, -1), x, beta=beta, out=out)
    return out


def outer(slope: Tensor, x: Tensor) -> Tensor:
    """slope x^T, a weight's gradient ``[rows, M, K]``, for ``[rows, M, t]``, ``[rows, K, t]``."""
    if len(x) == 1:
        return torch.mm(slope[0], x[0].T)[None]
    return torch.bmm(slope, x.transpose(1, 2))


def summed(tensor: Tensor) -> Tensor:
    """The sum over rows."""
    return tensor[0] if len(tensor) == 1 else tensor.sum(0)
