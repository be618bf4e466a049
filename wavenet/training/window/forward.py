"""A whole window through a dilated stack, forward and backward, in tiles that fit a cache.

``skip_sum_of`` equals ``DilatedStack.stream`` from a fresh state up to rounding, gradients
included. Training runs it; ``stream`` defines it, and tests compare the two. It is faster than
automatic differentiation of ``stream`` for these reasons:

- The window is cut into tiles of time, so that intermediate results stay in the cache. Forward, all
  layers run over a tile before the next one.
- Conditioning stays at frame rate: with frames c, the lift L (a matrix ``[F, T]``) and bias b

      V (c L) + b = (V c + b) L,    as the columns of L sum to one.

- A tile of the gate's input is one product, of all taps and the few frames that it depends on,

      z = [W_0 .. W_k-1, V c + b] [x shifted; ..; x; L],

  and one product with the transpose gives the gradients of all these weights.
- One product computes the outputs of a layer to the residual stream and to the skip sum; a row of
  ones below the gate carries the biases through it.
- On a CPU with numba, the elementwise work between two products is one pass of compiled code.
- Layers compute only what the end of the window depends on: layer i from its own start on.
- Rows of the batch are distributed over threads that work independently.

Under autocast products run in bfloat16 (or float16), and all sums stay float32: the residual
stream, the skip sum, the gate's input and the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from wavenet.nn.conditioning import LiftedFrames
from wavenet.nn.residual import DilatedStack, GatedResidualBlock, stack_difference
from wavenet.training.window.elementwise import TensorView
from wavenet.training.window.plan import Plan, Tile
from wavenet.training.window.tiles import Rows, WeightGrads, Weights


def skip_sum_of(
    stack: DilatedStack,
    x: Tensor,
    cond: LiftedFrames | None,
    length: int,
    *,
    recompute: bool = False,
    compiled: bool | None = None,
    samples_per_step: int = 1,
) -> Tensor:
    """Compute the last ``length`` columns of the skip sum of ``stack.stream`` from ``init_state``.

    Args:
        stack: a ``DilatedStack`` of ``GatedResidualBlock``, none of them a subclass.
        x: ``[B, R, T]``.
        cond: frames and their lift to T samples; None for a stack without conditioning.
        length: number of samples, up to the last, whose skip sum is returned.
        recompute: save the inputs of layers alone, and recompute the gates in the backward pass:
            less memory, more time.
        compiled: False for torch's operations alone; else compiled code where possible.
        samples_per_step: for a stack whose dilations are multiples of it and of which every so
            many samples alone are wanted: x, cond and the result have one column for each of them.

    Returns:
        ``[B, S, length]``, in the dtype of x.

    Raises:
        ValueError: for a stack with other blocks.
    """
    found = stack_difference(stack)
    if found is not None:
        raise ValueError(f"the training window cannot compute this stack: {found}; use stream")
    blocks = cast("list[GatedResidualBlock]", list(stack.blocks))
    plan = Plan.of(
        blocks,
        x,
        length,
        recompute=recompute,
        compiled=compiled,
        samples_per_step=samples_per_step,
    )
    with torch.autocast(x.device.type, enabled=False):
        gate_bias, lift = _gate_bias(blocks, x, cond)
        taps = torch.stack([block.conv.weight.transpose(1, 2).flatten(1) for block in blocks])
        projections = torch.stack(
            [_projections(block, last=block is blocks[-1]) for block in blocks]
        )
        skip_sum: Tensor = _Window.apply(plan, x, gate_bias, lift, taps, projections)
    return skip_sum


def _gate_bias(
    blocks: list[GatedResidualBlock], x: Tensor, cond: LiftedFrames | None
) -> tuple[Tensor, Tensor]:
    """Part of the gates' input that is independent of x, ``[L, B, G, F]``; its lift ``[F, T]``."""
    biases = torch.stack([cast(Tensor, block.conv.bias) for block in blocks])[:, None, :, None]
    if cond is None:
        return biases.expand(-1, len(x), -1, 1), x.new_ones(1, x.shape[-1])
    weights = torch.stack([block.cond_projection.weight.squeeze(-1) for block in blocks])
    return weights[:, None] @ cond.frames.to(x.dtype) + biases, cond.lift.to(x.dtype)


def _projections(block: GatedResidualBlock, *, last: bool) -> Tensor:
    """Weights to the residual stream above the skip sum, ``[R + S, I + 1]``; last column: bias.

    Nothing depends on the last block's residual output: it has weights of zero, and no gradient.
    """
    residual, skip = _with_bias(block.residual_projection), _with_bias(block.skip_projection)
    return torch.cat([torch.zeros_like(residual) if last else residual, skip])


def _with_bias(projection: torch.nn.Conv1d) -> Tensor:
    """``[O, I + 1]``, with the bias as the last column."""
    assert projection.bias is not None
    return torch.cat([projection.weight.squeeze(-1), projection.bias[:, None]], dim=1)


class _Window(torch.autograd.Function):
    """The skip sum of a window, and its gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        x: Tensor,
        gate_bias: Tensor,
        lift: Tensor,
        taps: Tensor,
        projections: Tensor,
    ) -> Tensor:
        """Return ``[B, S, length]``; for the arguments see ``Plan`` and ``Weights``."""
        x, lift = _with_unit_stride(x), _with_unit_stride(lift)
        weights = Weights(plan, gate_bias, taps, projections)
        inputs, gates = _saved_tensors(plan, x, gate_bias.shape[2])
        skip_sum = x.new_zeros(len(x), projections.shape[1] - x.shape[1], plan.length)

        def work(parts: list[slice]) -> None:
            rows = Rows(plan, weights, lift, parts[0].stop - parts[0].start)
            for part in parts:
                saved = _part(inputs, part), _part(gates, part)
                _run(rows, saved, x[part], weights.gate_bias[:, part], skip_sum[part])

        _in_threads(work, plan.parts(len(x)))
        ctx.plan, ctx.n_inputs = plan, len(inputs)
        ctx.save_for_backward(gate_bias, lift, taps, projections, *inputs, *gates)
        return skip_sum

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients of x, gate_bias, taps and projections."""
        with torch.no_grad():
            grads = _Window.gradients(ctx, grad)
        if not torch.is_grad_enabled():  # as without create_graph=True
            return None, *grads
        sources = [grad, *(ctx.saved_tensors[i] for i in (0, 2, 3))]
        grad_x, grad_bias, _, *others = _NoSecondDerivative.apply(grads, *sources)
        return None, grad_x, grad_bias, None, *others

    @staticmethod
    def gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients that ``backward`` returns, without that of the plan."""
        gate_bias, lift, taps, projections, *saved = ctx.saved_tensors
        plan, inputs, gates = ctx.plan, saved[: ctx.n_inputs], saved[ctx.n_inputs :]
        weights = Weights(plan, gate_bias, taps, projections)
        narrow = _with_unit_stride(grad.to(plan.dtype))
        grad_x = grad.new_zeros(len(grad), inputs[0].shape[1], plan.n_samples)
        grad_bias = torch.zeros_like(gate_bias, memory_format=torch.contiguous_format)

        def work(parts: list[slice]) -> tuple[Tensor, Tensor]:
            rows = Rows(plan, weights, lift, parts[0].stop - parts[0].start)
            sums = torch.zeros_like(taps), torch.zeros_like(projections)
            for part in parts:
                saved = _part(inputs, part), _part(gates, part)
                grads = narrow[part], grad_x[part], grad_bias[:, part]
                _run_back(rows, saved, weights.gate_bias[:, part], grads, WeightGrads(*sums))
            return sums

        sums = _in_threads(work, plan.parts(len(grad)))
        totals = [sum(parts[1:], start=parts[0]) for parts in zip(*sums, strict=True)]
        return grad_x, grad_bias, None, *totals


class _NoSecondDerivative(torch.autograd.Function):
    """Identity of the gradients; differentiating them again raises an error."""

    @staticmethod
    def forward(ctx: Any, grads: tuple[Tensor | None, ...], *sources: Tensor) -> Any:
        """Return the gradients, as functions of the sources."""
        return grads

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Raise RuntimeError."""
        raise RuntimeError(
            "the training window (skip_sum_of, WaveNet.hidden_of_window) has no second "
            "derivative; for gradients of gradients call the stack or model.stream instead"
        )


def _with_unit_stride(tensor: Tensor) -> Tensor:
    """Return the tensor with stride 1 along time, as ``TensorView`` needs it; mostly itself.

    A transposed tensor is copied, and so is the gradient of a sum, an expanded scalar.
    """
    return tensor if tensor.stride(-1) == 1 else tensor.clone(memory_format=torch.contiguous_format)


def _saved_tensors(plan: Plan, x: Tensor, gate_channels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Allocate the inputs of the layers, and their gates unless these are recomputed."""
    batch, channels, n_samples = x.shape

    def empty(channels: int, first: int) -> Tensor:
        return x.new_empty(batch, channels, n_samples - first, dtype=plan.dtype)

    inputs = [empty(channels, first) for first in plan.firsts]
    gates = [] if plan.recompute else [empty(gate_channels, start) for start in plan.starts]
    return inputs, gates


Saved: TypeAlias = tuple[list[Tensor], list[Tensor]]
"""Inputs of the layers for some rows, and their gates unless these are recomputed."""


def _part(tensors: list[Tensor], part: slice) -> list[Tensor]:
    return [tensor[part] for tensor in tensors]


def _gates_of(rows: Rows, gates: list[Tensor], layer: int, tile: Tile) -> TensorView | None:
    """View of a tile's saved gates; None if they are recomputed."""
    begin, end = tile
    if not gates:
        return None
    return TensorView(gates[layer], 0, 2 * rows.half, begin - rows.plan.starts[layer], end - begin)


def _run(rows: Rows, saved: Saved, x: Tensor, gate_bias: Tensor, skip_sum: Tensor) -> None:
    """Forward pass of some rows: fill the saved tensors and the skip sum."""
    plan, (inputs, gates), gate_bias_of = rows.plan, saved, gate_bias.unbind()
    residual, skip = rows.residual, skip_sum.shape[1]
    inputs[0].copy_(x[..., plan.firsts[0] :])
    for whole in plan.tiles():
        n_whole = whole[1] - whole[0]
        rows.elementwise.copy(
            TensorView(rows.stream, 0, residual, 0, n_whole),
            TensorView(x, 0, residual, whole[0], n_whole),
        )
        for layer, layer_input in enumerate(inputs):
            tile = plan.needed_part(layer, whole)
            if tile is None:
                continue
            begin, n = tile[0], tile[1] - tile[0]
            channels = rows.stack_inputs(layer, tile, layer_input)
            rows.gate(
                layer, tile, gate_bias_of[layer], channels, _gates_of(rows, gates, layer, tile)
            )
            outputs = rows.outputs(layer, tile)
            product = rows.project(layer, outputs, n)
            if outputs.start == 0:
                rows.elementwise.add(
                    TensorView(rows.stream, 0, residual, begin - whole[0], n),
                    TensorView(product, 0, residual, 0, n),
                    TensorView(inputs[layer + 1], 0, residual, begin - plan.firsts[layer + 1], n),
                )
            if outputs.stop is None:
                rows.elementwise.add(
                    TensorView(skip_sum, 0, skip, begin - rows.window, n),
                    TensorView(product, residual - outputs.start, skip, 0, n),
                )


def _run_back(
    rows: Rows,
    saved: Saved,
    gate_bias: Tensor,
    grads: tuple[Tensor, Tensor, Tensor],
    sums: WeightGrads,
) -> None:
    """Backward pass of some rows: add to the gradients of x, of gate_bias and of the weights."""
    plan, (inputs, gates), (skip, grad_x, grad_bias) = rows.plan, saved, grads
    grad_bias_of, gate_bias_of = grad_bias.unbind(), gate_bias.unbind()
    for layer in reversed(range(len(inputs))):
        # In the order of time: a tap adds to gradients of the past, which are not read again.
        for tile in plan.tiles(layer):
            channels = rows.stack_inputs(layer, tile, inputs[layer])
            tile_gates = _gates_of(rows, gates, layer, tile)
            if tile_gates is None:
                tile_gates = rows.gate(layer, tile, gate_bias_of[layer], channels, None)
            rows.back_project(layer, tile, tile_gates, grad_x, skip, sums.projections[layer])
            rows.back_gate(layer, tile, channels, sums.taps[layer], grad_bias_of[layer], grad_x)


def _in_threads(work: Callable[[list[slice]], Any], parts: list[list[slice]]) -> list[Any]:
    """Return the results of work on each list of parts, each in a thread that uses one core."""
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
