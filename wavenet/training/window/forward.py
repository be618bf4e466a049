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
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from wavenet.nn.conditioning import LiftedFrames
from wavenet.nn.residual import DilatedStack, GatedResidualBlock, stack_difference
from wavenet.training.window.elementwise import Piece
from wavenet.training.window.plan import Plan, Tile
from wavenet.training.window.tiles import Rows, Sums, Weights


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
        stack: a ``DilatedStack`` of ``GatedResidualBlock``, none of them a subclass.
        x: ``[B, R, T]``.
        cond: frames and their lift to T samples; None for a stack without conditioning.
        length: of the T samples, those whose skip sum is wanted.
        recompute: keep only what each layer hears, and compute the gates again on the way back:
            less memory, more time.
        compiled: False for torch's operations alone; else compiled code where it can be had.

    Returns:
        ``[B, S, length]``, in the type of x.

    Raises:
        ValueError: for a stack with other blocks.
    """
    found = stack_difference(stack)
    if found is not None:
        raise ValueError(f"the training window cannot compute this stack: {found}; use stream")
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
    residual, skip = _with_bias(block.residual_projection), _with_bias(block.skip_projection)
    return torch.cat([torch.zeros_like(residual) if last else residual, skip])


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
        projections: Tensor,
    ) -> Tensor:
        """``[B, S, length]``; the arguments as ``Plan`` and ``Weights`` say."""
        x, lift = _side_by_side(x), _side_by_side(lift)
        weights = Weights(plan, terms, taps, projections)
        heard, kept = _memory(plan, x, terms.shape[2])
        skip_sum = x.new_zeros(len(x), projections.shape[1] - x.shape[1], plan.length)

        def work(parts: list[slice]) -> None:
            rows = Rows(plan, weights, lift, parts[0].stop - parts[0].start)
            for part in parts:
                stored = _part(heard, part), _part(kept, part)
                _run(rows, stored, x[part], weights.terms[:, part], skip_sum[part])

        _in_threads(work, plan.parts(len(x)))
        ctx.plan, ctx.n_heard = plan, len(heard)
        ctx.save_for_backward(terms, lift, taps, projections, *heard, *kept)
        return skip_sum

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        """Of x, terms, taps and projections."""
        with torch.no_grad():
            slopes = _Window.slopes(ctx, slope)
        if not torch.is_grad_enabled():  # as without create_graph=True
            return None, *slopes
        sources = [slope, *(ctx.saved_tensors[i] for i in (0, 2, 3))]
        x_slope, terms_slope, _, *others = _NoSecondDerivative.apply(slopes, *sources)
        return None, x_slope, terms_slope, None, *others

    @staticmethod
    def slopes(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        """What ``backward`` gives, but for the plan."""
        terms, lift, taps, projections, *stored = ctx.saved_tensors
        plan, heard, kept = ctx.plan, stored[: ctx.n_heard], stored[ctx.n_heard :]
        weights = Weights(plan, terms, taps, projections)
        narrow = _side_by_side(slope.to(plan.dtype))
        x_slope = slope.new_zeros(len(slope), heard[0].shape[1], plan.n_samples)
        terms_slope = torch.zeros_like(terms, memory_format=torch.contiguous_format)

        def work(parts: list[slice]) -> tuple[Tensor, Tensor]:
            rows = Rows(plan, weights, lift, parts[0].stop - parts[0].start)
            sums = torch.zeros_like(taps), torch.zeros_like(projections)
            for part in parts:
                stored = _part(heard, part), _part(kept, part)
                slopes = narrow[part], x_slope[part], terms_slope[:, part]
                _run_back(rows, stored, weights.terms[:, part], slopes, Sums(*sums))
            return sums

        sums = _in_threads(work, plan.parts(len(slope)))
        totals = [sum(parts[1:], start=parts[0]) for parts in zip(*sums, strict=True)]
        return x_slope, terms_slope, None, *totals


class _NoSecondDerivative(torch.autograd.Function):
    """Gradients as they are; who differentiates them again is told that it cannot be done."""

    @staticmethod
    def forward(ctx: Any, slopes: tuple[Tensor | None, ...], *sources: Tensor) -> Any:
        """The slopes, as functions of the sources."""
        return slopes

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """Raise RuntimeError."""
        raise RuntimeError(
            "the training window (skip_sum_of, WaveNet.hidden_of_window) has no second "
            "derivative; for gradients of gradients call the stack or model.stream instead"
        )


def _side_by_side(tensor: Tensor) -> Tensor:
    """With the samples of a channel side by side, as ``Piece`` wants them; mostly it is so.

    A transposed tensor is not, nor is the gradient of a sum, which is one number everywhere.
    """
    return tensor if tensor.stride(-1) == 1 else tensor.clone(memory_format=torch.contiguous_format)


def _memory(plan: Plan, x: Tensor, gate_channels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Room for what each layer hears, and for its gates where they are kept."""
    batch, channels, n_samples = x.shape

    def room(channels: int, first: int) -> Tensor:
        return x.new_empty(batch, channels, n_samples - first, dtype=plan.dtype)

    heard = [room(channels, first) for first in plan.firsts]
    kept = [] if plan.recompute else [room(gate_channels, start) for start in plan.starts]
    return heard, kept


Stored: TypeAlias = tuple[list[Tensor], list[Tensor]]
"""What each layer of some rows hears, and its gates where they are kept."""


def _part(tensors: list[Tensor], part: slice) -> list[Tensor]:
    return [tensor[part] for tensor in tensors]


def _gates_of(rows: Rows, kept: list[Tensor], layer: int, tile: Tile) -> Piece | None:
    """Where a tile's gates are kept, if they are."""
    begin, end = tile
    if not kept:
        return None
    return Piece(kept[layer], 0, 2 * rows.half, begin - rows.plan.starts[layer], end - begin)


def _run(rows: Rows, stored: Stored, x: Tensor, terms: Tensor, skip_sum: Tensor) -> None:
    """Forward: fill what is stored and the skip sum of these rows."""
    plan, (heard, kept), terms_of = rows.plan, stored, terms.unbind()
    residual, skip = rows.residual, skip_sum.shape[1]
    heard[0].copy_(x[..., plan.firsts[0] :])
    for whole in plan.tiles():
        n_whole = whole[1] - whole[0]
        rows.elementwise.copy(
            Piece(rows.stream, 0, residual, 0, n_whole), Piece(x, 0, residual, whole[0], n_whole)
        )
        for layer, hears in enumerate(heard):
            tile = plan.heard_tile(layer, whole)
            if tile is None:
                continue
            begin, n = tile[0], tile[1] - tile[0]
            channels = rows.hear(layer, tile, hears)
            rows.gate(layer, tile, terms_of[layer], channels, _gates_of(rows, kept, layer, tile))
            outputs = rows.outputs(layer, tile)
            product = rows.project(layer, outputs, n)
            if outputs.start == 0:
                rows.elementwise.add(
                    Piece(rows.stream, 0, residual, begin - whole[0], n),
                    Piece(product, 0, residual, 0, n),
                    Piece(heard[layer + 1], 0, residual, begin - plan.firsts[layer + 1], n),
                )
            if outputs.stop is None:
                rows.elementwise.add(
                    Piece(skip_sum, 0, skip, begin - rows.window, n),
                    Piece(product, residual - outputs.start, skip, 0, n),
                )


def _run_back(
    rows: Rows,
    stored: Stored,
    terms: Tensor,
    slopes: tuple[Tensor, Tensor, Tensor],
    sums: Sums,
) -> None:
    """Backward: from the skip sum's slope, add to those of x, of terms and of the weights."""
    plan, (heard, kept), (skip, x_slope, terms_slope) = rows.plan, stored, slopes
    slopes_of, terms_of = terms_slope.unbind(), terms.unbind()
    for layer in reversed(range(len(heard))):
        # In the order of time: what a tap adds to the past is then no longer read.
        for tile in plan.tiles(layer):
            channels = rows.hear(layer, tile, heard[layer])
            gates = _gates_of(rows, kept, layer, tile)
            if gates is None:
                gates = rows.gate(layer, tile, terms_of[layer], channels, None)
            rows.back_project(layer, tile, gates, x_slope, skip, sums.projections[layer])
            rows.back_gate(layer, tile, channels, sums.taps[layer], slopes_of[layer], x_slope)


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
