"""A whole window through a dilated stack, forward and backward, in pieces that fit a cache.

``skip_sum_of`` gives the same numbers as ``DilatedStack.stream`` from a fresh state, to rounding,
and the same gradients. It is what training runs; ``stream`` defines it, and tests compare the two.
What makes it faster than automatic differentiation of ``stream``:

- Layers run over tiles of time, so that what stands between two products never leaves the cache.
- Conditioning stays at frame rate: with frames c, the lift L (a matrix ``[F, T]``) and bias b

      V (c L) + b = (V c + b) L,    as the columns of L sum to one.

- A tile of the gate's input is one product, of all taps and the few frames that it hears,

      z = [W_0 .. W_k-1, V c + b] [x shifted; ..; x; L],

  and one product with the transpose gives the gradients of all these weights.
- A row of ones below the gate carries the biases of both projections through the products.
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
from wavenet.nn.tiles import Plan, Rows, Weights, outer, summed


def skip_sum_of(
    stack: DilatedStack,
    x: Tensor,
    cond: LiftedFrames | None,
    length: int,
    *,
    recompute: bool = False,
) -> Tensor:
    """The last ``length`` columns of the skip sum that ``stack.stream`` gives from ``init_state``.

    Args:
        stack: any.
        x: ``[B, R, T]``.
        cond: frames and their lift to T samples; None for a stack without conditioning.
        length: of the T samples, those whose skip sum is wanted.
        recompute: keep only what each layer hears, and compute the gates again on the way back:
            less memory, more time.

    Returns:
        ``[B, S, length]``, in the type of x.
    """
    blocks = cast("list[GatedResidualBlock]", list(stack.blocks))
    plan = Plan.of(blocks, x, length, recompute)
    with torch.autocast(x.device.type, enabled=False):
        terms, lift = _gate_terms(blocks, x, cond)
        taps = torch.stack([block.conv.weight.transpose(1, 2).flatten(1) for block in blocks])
        skips = torch.stack([_with_bias(block.skip_projection) for block in blocks])
        heard = [_with_bias(block.residual_projection) for block in blocks[:-1]]
        residuals = torch.stack(heard) if heard else skips.new_zeros(0, 1, 1)
        skip_sum: Tensor = _Window.apply(plan, x, terms, lift, taps, residuals, skips)
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


def _with_bias(projection: torch.nn.Conv1d) -> Tensor:
    """``[O, I + 1]``: the bias stands in the last column."""
    assert projection.bias is not None
    return torch.cat([projection.weight.squeeze(-1), projection.bias[:, None]], dim=1)


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
        residuals: Tensor,
        skips: Tensor,
    ) -> Tensor:
        """``[B, S, length]``; the arguments as ``Plan`` and ``Weights`` say."""
        weights = Weights(plan, terms, taps, residuals, skips)
        heard, kept = _memory(plan, x, terms.shape[2])
        skip_sum = x.new_zeros(len(x), skips.shape[1], plan.length)

        def work(parts: list[slice]) -> None:
            rows = Rows(plan, weights, lift, parts[0].stop - parts[0].start)
            for part in parts:
                _run(rows, part, x, heard, kept, skip_sum[part])

        _in_threads(work, plan.parts(len(x)))
        ctx.plan, ctx.n_heard = plan, len(heard)
        ctx.save_for_backward(terms, lift, taps, residuals, skips, *heard, *kept)
        return skip_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:
        """Of x, terms, taps, residuals and skips."""
        terms, lift, taps, residuals, skips, *stored = ctx.saved_tensors
        plan, heard, kept = ctx.plan, stored[: ctx.n_heard], stored[ctx.n_heard :]
        weights, narrow = Weights(plan, terms, taps, residuals, skips), slope.to(plan.dtype)
        x_slope = slope.new_zeros(len(slope), taps.shape[-1] // len(plan.lags[0]), plan.n_samples)
        terms_slope = torch.zeros_like(terms, memory_format=torch.contiguous_format)

        def work(parts: list[slice]) -> tuple[Tensor, ...]:
            rows = Rows(plan, weights, lift, parts[0].stop - parts[0].start)
            sums = tuple(torch.zeros_like(weight) for weight in (taps, residuals, skips))
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


def _run(
    rows: Rows,
    part: slice,
    x: Tensor,
    heard: list[Tensor],
    kept: list[Tensor],
    skip_sum: Tensor,
) -> None:
    """Forward: fill heard, kept and the skip sum of these rows."""
    plan, weights = rows.plan, rows.weights
    window = plan.n_samples - plan.length
    heard[0][part] = x[part, :, plan.firsts[0] :]
    stream = x[part].clone()
    for layer, start in enumerate(plan.starts):
        hears = heard[layer][part]
        for tile in plan.tiles(layer):
            begin, end = tile
            gates = rows.gates(layer, part, tile, rows.inputs(layer, tile, hears))
            if kept:
                kept[layer][part, :, begin - start : end - start] = gates
            gated = rows.gated(gates)
            if begin >= window:
                sums = skip_sum[..., begin - window : end - window]
                rows.add_product(sums, weights.skips[layer], gated)
            if layer + 1 < len(heard):
                y, first = stream[..., begin:end], plan.firsts[layer + 1]
                rows.add_product(y, weights.residuals[layer], gated)
                heard[layer + 1][part, :, begin - first : end - first] = y


def _run_back(
    rows: Rows,
    part: slice,
    heard: list[Tensor],
    kept: list[Tensor],
    slope: Tensor,
    slopes: tuple[Tensor, Tensor],
    sums: tuple[Tensor, ...],
) -> None:
    """Backward: add to the gradients of x, terms and weights what comes from these rows."""
    plan, weights, window = rows.plan, rows.weights, rows.plan.n_samples - rows.plan.length
    x_slope, terms_slope = slopes
    taps_sum, residuals_sum, skips_sum = sums
    for layer in reversed(range(len(heard))):
        start, hears = plan.starts[layer], heard[layer][part]
        # In the order of time: what a tap adds to the past is then no longer read.
        for tile in plan.tiles(layer):
            begin, end = tile
            inputs = rows.inputs(layer, tile, hears)
            if kept:
                gates = rows.kept(kept[layer][part, :, begin - start : end - start])
            else:
                gates = rows.gates(layer, part, tile, inputs)
            gated = rows.gated(gates)
            gate_slope = rows.no_slope(end - begin)
            if begin >= window:
                skip_slope = slope[..., begin - window : end - window]
                rows.add_product(gate_slope, weights.back_skips[layer], skip_slope)
                skips_sum[layer] += summed(outer(skip_slope, gated))
            if layer + 1 < len(heard):
                y_slope = rows.narrow(x_slope[..., begin:end])
                rows.add_product(gate_slope, weights.back_residuals[layer], y_slope)
                residuals_sum[layer] += summed(outer(y_slope, gated))
            z_slope = rows.slopes(gates, gate_slope)
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
