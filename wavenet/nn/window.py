"""A whole window through a dilated stack, forward and backward, in pieces that fit a cache.

``skip_sum_of`` gives the same numbers as ``DilatedStack.stream`` from a fresh state, to rounding,
and the same gradients. It is what training runs; ``stream`` defines it, and tests compare the two.
What makes it faster than automatic differentiation of ``stream``:

- The window is cut into tiles of time, so that what stands between two products never leaves the
  cache. Forward, all layers run over a tile before the next one.
- Conditioning stays at frame rate: with frames c, the lift L (a matrix ``[F, T]``) and bias b

      V (c L) + b = (V c + b) L,    as the columns of L sum to one.

- A tile of the gate's input is one product, of all taps and the few frames that it hears,

      z = [W_0 .. W_k-1, V c + b] [x shifted; ..; x; L],

  and one product with the transpose gives the gradients of all these weights.
- One product makes what a layer adds to the residual stream and to the skip sum; a row of ones
  below the gate carries the biases through it.
- On a CPU, what happens between two products is one pass of compiled code, where numba is there.
- Layers compute only what the end of the window hears: layer i from its own start on.
- Rows of the batch are shared out among threads, each of which works alone.

Under autocast products take bfloat16 (or float16), and all sums stay float32: the residual stream,
the skip sum, the gate's input and the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wavenet.nn.conditioning import LiftedFrames
from wavenet.nn.residual import DilatedStack, GatedResidualBlock
from wavenet.nn.tiles import Plan, Rows, Tile, Weights, outer, summed


def skip_sum_of(
    stack: DilatedStack,
    x: Tensor,
    cond: LiftedFrames | None,
    length: int,
    *,
    recompute: bool = False,
    compiled: bool | None = None,
) -> Tensor:
    """The last ``length`` columns of the skip sum that ``stack.stream`` gives from ``init_state``.

    Args:
        stack: any.
        x: ``[B, R, T]``.
        cond: frames and their lift to T samples; None for a stack without conditioning.
        length: of the T samples, those whose skip sum is wanted.
        recompute: keep only what each layer hears, and compute the gates again on the way back:
            less memory, more time.
        compiled: False for torch's operations alone; else compiled code where it can be had.

    Returns:
        ``[B, S, length]``, in the type of x.
    """
    blocks = cast("list[GatedResidualBlock]", list(stack.blocks))
    plan = Plan.of(blocks, x, length, recompute=recompute, compiled=compiled)
    with torch.autocast(x.device.type, enabled=False):
        terms, lift = _gate_terms(blocks, x, cond)
        taps = torch.stack([block.conv.weight.transpose(1, 2).flatten(1) for block in blocks])
        projections = torch.stack(
            [_projections(block, last=block is blocks[-1]) for block in blocks]
        )
        skip_sum: Tensor = _Window.apply(plan, x, terms, lift, taps, projections)
    return skip_sum


def _gate_terms(
    blocks: list[GatedResidualBlock], x: Tensor, cond: LiftedFrames | None
) -> tuple[Tensor, Tensor]:
    """What does not depend on x in the gates' input: ``[L, B, G, F]``, and its lift ``[F, T]``."""
    biases = torch.stack([cast(Tensor, block.conv.bias) for block in blocks])[:, None, :, None]
    if cond is None:
        return biases.expand(-1, len(x), -1, 1), x.new_ones(1, x.shape[-1])
    weights = torch.stack([block.cond_projection.weight.squeeze(-1) for block in blocks])
    return weights[:, None] @ cond.frames.to(x.dtype) + biases, cond.lift.to(x.dtype)


def _projections(block: GatedResidualBlock, *, last: bool) -> Tensor:
    """To the residual stream above the skip sum, ``[R + S, I + 1]``; the bias is the last column.

    What the last block adds to the stream is heard by nobody: zeros, and no gradient.
    """
    residual, skip = (
        torch.cat([projection.weight.squeeze(-1), projection.bias[:, None]], dim=1)
        for projection in (block.residual_projection, block.skip_projection)
    )
    return torch.cat([torch.zeros_like(residual) if last else residual, skip])


class _Window(torch.autograd.Function):
    """The skip sum of a window, and its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        x: Tensor,
        terms: Tensor,
        lift: Tensor,
        taps: Tensor,
        projections: Tensor,
    ) -> Tensor:
        """``[B, S, length]``; the arguments as ``Plan`` and ``Weights`` say."""
        weights = Weights(plan, terms, taps, projections)
        heard, kept = _memory(plan, x, terms.shape[2])
        skip_sum = x.new_zeros(len(x), projections.shape[1] - x.shape[1], plan.length)

        def work(parts: list[slice]) -> None:
            rows = Rows(plan, weights, lift, parts[0].stop - parts[0].start)
            for part in parts:
                _run(rows, part, x[part], heard, kept, skip_sum[part])

        _in_threads(work, plan.parts(len(x)))
        ctx.plan, ctx.n_heard = plan, len(heard)
        ctx.save_for_backward(terms, lift, taps, projections, *heard, *kept)
        return skip_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:
        """Of x, terms, taps and projections."""
        terms, lift, taps, projections, *stored = ctx.saved_tensors
        plan, heard, kept = ctx.plan, stored[: ctx.n_heard], stored[ctx.n_heard :]
        weights, narrow = Weights(plan, terms, taps, projections), slope.to(plan.dtype)
        x_slope = slope.new_zeros(len(slope), heard[0].shape[1], plan.n_samples)
        terms_slope = torch.zeros_like(terms, memory_format=torch.contiguous_format)

        def work(parts: list[slice]) -> tuple[Tensor, Tensor]:
            rows = Rows(plan, weights, lift, parts[0].stop - parts[0].start)
            sums = torch.zeros_like(taps), torch.zeros_like(projections)
            for part in parts:
                slopes = x_slope[part], terms_slope[:, part]
                _run_back(rows, part, heard, kept, narrow[part], slopes, sums)
            return sums

        sums = _in_threads(work, plan.parts(len(slope)))
        totals = [sum(parts[1:], start=parts[0]) for parts in zip(*sums, strict=True)]
        return None, x_slope, terms_slope, None, *totals


def _memory(plan: Plan, x: Tensor, gate_channels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Room for what each layer hears, and for its gates where they are kept."""
    batch, channels, n_samples = x.shape

    def room(channels: int, first: int) -> Tensor:
        return x.new_empty(batch, channels, n_samples - first, dtype=plan.dtype)

    heard = [room(channels, first) for first in plan.firsts]
    kept = [] if plan.recompute else [room(gate_channels, start) for start in plan.starts]
    return heard, kept


def _gates_of(plan: Plan, kept: list[Tensor], layer: int, part: slice, tile: Tile) -> Tensor | None:
    """Where a tile's gates are kept, if they are."""
    start = plan.starts[layer]
    return kept[layer][part, :, tile[0] - start : tile[1] - start] if kept else None


def _run(
    rows: Rows,
    part: slice,
    x: Tensor,
    heard: list[Tensor],
    kept: list[Tensor],
    skip_sum: Tensor,
) -> None:
    """Forward: fill heard, kept and the skip sum of these rows."""
    plan, window = rows.plan, rows.plan.n_samples - rows.plan.length
    heard[0][part] = x[..., plan.firsts[0] :]
    for whole in plan.tiles():
        stream = rows.stream(x, whole)
        for layer, hears in enumerate(heard):
            tile = plan.heard_tile(layer, whole)
            if tile is None:
                continue
            begin, end = tile
            room = _gates_of(plan, kept, layer, part, tile)
            inputs = rows.inputs(layer, tile, hears[part])
            _, gated = rows.gates(layer, part, tile, inputs, room)
            outputs = rows.outputs(layer, tile)
            product = rows.projected(layer, outputs, gated)
            if outputs.start == 0:
                first = plan.firsts[layer + 1]
                y, product = product[:, : rows.residual], product[:, rows.residual :]
                copy = heard[layer + 1][part, :, begin - first : end - first]
                rows.elementwise.add(stream[..., begin - whole[0] :], y, copy)
            if outputs.stop is None:
                sums = skip_sum[..., begin - window : end - window]
                rows.elementwise.add(sums, product)


def _run_back(
    rows: Rows,
    part: slice,
    heard: list[Tensor],
    kept: list[Tensor],
    slope: Tensor,
    slopes: tuple[Tensor, Tensor],
    sums: tuple[Tensor, Tensor],
) -> None:
    """Backward: add to the gradients of x, terms and weights what comes from these rows."""
    plan, (x_slope, terms_slope), (taps_sum, projections_sum) = rows.plan, slopes, sums
    for layer in reversed(range(len(heard))):
        # In the order of time: what a tap adds to the past is then no longer read.
        for tile in plan.tiles(layer):
            inputs = rows.inputs(layer, tile, heard[layer][part])
            gates = _gates_of(plan, kept, layer, part, tile)
            if gates is None:
                gates, _ = rows.gates(layer, part, tile, inputs, None)
            outputs = rows.outputs(layer, tile)
            y_slope = rows.output_slopes(outputs, tile, x_slope, slope)
            z_slope, gated = rows.gate_slopes(layer, outputs, gates, y_slope)
            projections_sum[layer, outputs] += summed(outer(y_slope, gated))
            both = outer(z_slope, inputs)
            taps_sum[layer] += summed(both[..., : rows.n_taps])
            terms_slope[layer, ..., rows.frames(tile)] += both[..., rows.n_taps :]
            rows.add_taps(layer, tile, z_slope, x_slope)


def _in_threads(work: Callable[[list[slice]], Any], parts: list[list[slice]]) -> list[Any]:
    """The results of work on each list of parts, each in a thread that uses one core."""
    if len(parts) == 1:
        with torch.no_grad():
            return [work(parts[0])]

    inference = torch.is_inference_mode_enabled()  # of this thread; others begin without

    def alone(own: list[slice]) -> Any:
        torch.set_num_threads(1)  # of this thread
        with torch.inference_mode(inference), torch.no_grad():
            return work(own)

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(len(parts)) as pool:
            return list(pool.map(alone, parts))
    finally:
        torch.set_num_threads(threads)  # for threads that are still to come
