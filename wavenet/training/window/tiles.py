"""The equations of a gated residual block on a tile of time, forward and backward.

A tile is so short that intermediate results stay in the cache. All products of a tile are written
into preallocated buffers, and the views of these are cached: slicing a tensor costs Python a
microsecond, and every call of torch passes the interpreter's lock between threads. See ``forward``
for the derivation.
"""

from __future__ import annotations

from torch import Tensor

from wavenet.training.window.buffers import Workspace, multiply, outer
from wavenet.training.window.elementwise import Elementwise, TensorView, TorchElementwise
from wavenet.training.window.plan import Plan, Tile


class Weights:
    """Weights in the dtype and layout of products, forward and backward.

    The forward ones give twice the argument of tanh, as ``Elementwise`` takes it.

    Args:
        plan: see ``Plan``.
        gate_bias: contribution of the frames, bias included: ``[L, B, G, F]``.
        taps: ``[L, G, k R]``, the oldest tap first.
        projections: ``[L, R + S, G / 2 + 1]``, to the residual stream above the skip sum, the bias
            last.
    """

    def __init__(self, plan: Plan, gate_bias: Tensor, taps: Tensor, projections: Tensor) -> None:
        self.gate_bias = _doubled(gate_bias).to(plan.dtype)
        self.taps = _doubled(taps).to(plan.dtype).unbind()
        self.back_taps = taps.to(plan.dtype).transpose(-1, -2).unbind()
        self._narrow = projections.to(plan.dtype)
        self.n_outputs, self.n_gates = projections.shape[1], taps.shape[1]
        self._projections: dict[tuple[int, int | None, int | None], tuple[Tensor, Tensor]] = {}

    def projections(self, layer: int, outputs: slice) -> tuple[Tensor, Tensor]:
        """Projections to some outputs; and, for the backward pass, their transpose without bias."""
        key = (layer, outputs.start, outputs.stop)
        if key not in self._projections:
            weight = self._narrow[layer, outputs]
            self._projections[key] = weight, weight[:, :-1].T
        return self._projections[key]


def _doubled(tensor: Tensor) -> Tensor:
    """Return a copy with the first half of the gate's channels (dimension -2) doubled."""
    doubled = tensor.clone()
    doubled[..., : tensor.shape[-2] // 2, :] *= 2
    return doubled


class WeightGrads:
    """Gradients of a part's weights, which its tiles add to.

    Args:
        taps: ``[L, G, k R]``.
        projections: ``[L, R + S, G / 2 + 1]``.
    """

    def __init__(self, taps: Tensor, projections: Tensor) -> None:
        self.taps, self.projections = taps.unbind(), projections.unbind()


class Rows:
    """The equations of a tile, for some rows of the batch, and the buffers they work in.

    Args:
        plan: see ``Plan``.
        weights: see ``Weights``.
        lift: ``[F, T]``.
        rows: how many.
    """

    def __init__(self, plan: Plan, weights: Weights, lift: Tensor, rows: int) -> None:
        self.plan, self.weights, self.lift = plan, weights, lift.to(plan.dtype)
        n_gates, self.n_taps = weights.taps[0].shape
        self.half, self.residual = n_gates // 2, self.n_taps // len(plan.lags[0])
        self.window = plan.n_samples - plan.length
        self._frames: dict[Tile, slice] = {}
        self.elementwise = _elementwise(plan, lift, (rows, n_gates, plan.tile))

        def workspace(channels: int, n: int = plan.tile) -> Workspace:
            # Zeros: torch's bfloat16 product reads past the columns of a strided matrix and
            # multiplies what it finds there by zero, and in uninitialized memory that may be NaN.
            return Workspace(lift.new_zeros(rows, channels, n, dtype=plan.dtype))

        self._inputs = workspace(self.n_taps + len(lift))
        self._weight = workspace(n_gates, self.n_taps + len(lift))
        self._z, self._grad_z = workspace(n_gates), workspace(n_gates)
        self._gated, self._grad_gated = workspace(self.half + 1), workspace(self.half)
        self._gated.tensor.fill_(1)  # the last channel stays so, for the biases
        self._grad_outputs = workspace(weights.n_outputs)
        self._product = workspace(max(weights.n_outputs, self.n_taps))
        self.stream = lift.new_empty(rows, self.residual, plan.tile)

    def outputs(self, layer: int, tile: Tile) -> slice:
        """Channels of the projections that are needed: residual stream, skip sum, or both."""
        last = layer + 1 == len(self.plan.starts)
        return slice(self.residual if last else 0, self.residual if tile[0] < self.window else None)

    def stack_inputs(self, layer: int, tile: Tile, x: Tensor) -> int:
        """Stack all that a tile of z depends on: ``[rows, k R + frames, t]``.

        Returns:
            Number of these channels.
        """
        (begin, end), origin, inputs = tile, self.plan.firsts[layer], self._inputs.tensor
        for tap, lag in enumerate(self.plan.lags[layer]):
            channel = tap * self.residual
            first = max(begin, min(lag, end))  # before the window there are zeros
            if first > begin:
                TensorView(inputs, channel, self.residual, 0, first - begin).view.zero_()
            self.elementwise.copy(
                TensorView(inputs, channel, self.residual, first - begin, end - first),
                TensorView(x, 0, self.residual, first - lag - origin, end - first),
            )
        frames = self.frames(tile)
        n_frames = frames.stop - frames.start
        self.elementwise.copy(
            TensorView(inputs, self.n_taps, n_frames, 0, end - begin),
            TensorView(self.lift, frames.start, n_frames, begin, end - begin),
        )
        return self.n_taps + n_frames

    def gate(
        self, layer: int, tile: Tile, gate_bias: Tensor, channels: int, out: TensorView | None
    ) -> TensorView:
        """Compute tanh above sigmoid, ``[rows, G, t]``; their product stays in a buffer.

        Args:
            layer: its number.
            tile: of time.
            gate_bias: contribution of the frames, ``[rows, G, F]``.
            channels: number that ``stack_inputs`` returned.
            out: view that the gates are written to, or None.
        """
        n, n_gates, frames = tile[1] - tile[0], 2 * self.half, self.frames(tile)
        weight, copy = self._weight, self.elementwise.copy
        copy(
            TensorView(weight.tensor, 0, n_gates, 0, self.n_taps),
            TensorView(self.weights.taps[layer], 0, n_gates, 0, self.n_taps),
        )
        copy(
            TensorView(weight.tensor, 0, n_gates, self.n_taps, channels - self.n_taps),
            TensorView(gate_bias, 0, n_gates, frames.start, channels - self.n_taps),
        )
        z = TensorView(self._z.tensor, 0, n_gates, 0, n)
        multiply(
            self._z.view(n_gates, n), weight.view(n_gates, channels), self._inputs.view(channels, n)
        )
        gates = z if out is None else out
        self.elementwise.gate(z, gates, TensorView(self._gated.tensor, 0, self.half, 0, n))
        return gates

    def project(self, layer: int, outputs: slice, n: int) -> Tensor:
        """Project the gated tile to these outputs: the first n of ``[rows, channels, ..]``."""
        weight, _ = self.weights.projections(layer, outputs)
        multiply(self._product.view(len(weight), n), weight, self._gated.view(self.half + 1, n))
        return self._product.tensor

    def back_project(
        self, layer: int, tile: Tile, gates: TensorView, grad_x: Tensor, skip: Tensor, total: Tensor
    ) -> None:
        """Compute the gradient of z from that of a tile's outputs; it stays in a buffer.

        Args:
            layer: its number.
            tile: of time.
            gates: result of ``gate``.
            grad_x: gradient of the residual stream, ``[rows, R, T]``.
            skip: gradient of the skip sum, narrow, ``[rows, S, length]``.
            total: ``[R + S, G / 2 + 1]``, to which the gradient of the projections is added.
        """
        (begin, end), outputs, copy = tile, self.outputs(layer, tile), self.elementwise.copy
        n, grads, after = (
            end - begin,
            self._grad_outputs.tensor,
            self.weights.n_outputs - self.residual,
        )
        if outputs.start == 0:
            copy(
                TensorView(grads, 0, self.residual, 0, n),
                TensorView(grad_x, 0, self.residual, begin, n),
            )
        if outputs.stop is None:
            copy(
                TensorView(grads, self.residual, after, 0, n),
                TensorView(skip, 0, after, begin - self.window, n),
            )
        _, back = self.weights.projections(layer, outputs)
        grad_outputs = self._grad_outputs.view(back.shape[1], n, outputs.start)
        multiply(self._grad_gated.view(self.half, n), back, grad_outputs)
        self.elementwise.gate_backward(
            gates,
            TensorView(self._grad_gated.tensor, 0, self.half, 0, n),
            TensorView(self._grad_z.tensor, 0, 2 * self.half, 0, n),
            TensorView(self._gated.tensor, 0, self.half, 0, n),
        )
        grad = outer(grad_outputs, self._gated.transposed(self.half + 1, n))
        self.elementwise.add(
            TensorView(total, outputs.start, back.shape[1], 0, self.half + 1),
            TensorView(grad, 0, back.shape[1], 0, self.half + 1),
        )

    def back_gate(
        self, layer: int, tile: Tile, channels: int, taps: Tensor, gate_bias: Tensor, grad_x: Tensor
    ) -> None:
        """Add to the gradients of the gate's weights, and of the samples that its taps read.

        Args:
            layer: its number.
            tile: of time.
            channels: number that ``stack_inputs`` returned.
            taps: gradient ``[G, k R]``.
            gate_bias: gradient ``[rows, G, F]``.
            grad_x: gradient of the residual stream, ``[rows, R, T]``.
        """
        (begin, end), n_gates, frames = tile, 2 * self.half, self.frames(tile)
        n, n_frames, add = end - begin, channels - self.n_taps, self.elementwise.add
        grad_z = self._grad_z.view(n_gates, n)
        both = outer(grad_z, self._inputs.transposed(channels, n))
        add(
            TensorView(taps, 0, n_gates, 0, self.n_taps),
            TensorView(both, 0, n_gates, 0, self.n_taps),
        )
        add(
            TensorView(gate_bias, 0, n_gates, frames.start, n_frames),
            TensorView(both, 0, n_gates, self.n_taps, n_frames),
        )
        multiply(self._product.view(self.n_taps, n), self.weights.back_taps[layer], grad_z)
        for tap, lag in enumerate(self.plan.lags[layer]):
            first = max(begin, min(lag, end))
            channel, left = tap * self.residual, end - first
            add(
                TensorView(grad_x, 0, self.residual, first - lag, left),
                TensorView(self._product.tensor, channel, self.residual, first - begin, left),
            )

    def frames(self, tile: Tile) -> slice:
        """Frames that a tile depends on: the rows of the lift that are not zero there."""
        if tile not in self._frames:
            needed = slice(0, len(self.lift))
            if self.lift.device.type == "cpu":
                rows = self.lift[:, tile[0] : tile[1]].any(dim=1).nonzero()
                needed = slice(int(rows[0]), int(rows[-1]) + 1)
            self._frames[tile] = needed
        return self._frames[tile]


def _elementwise(plan: Plan, like: Tensor, shape: tuple[int, int, int]) -> Elementwise:
    if plan.compiled:
        from wavenet.training.window.elementwise_numba import CompiledElementwise  # imports numba

        return CompiledElementwise()
    return TorchElementwise(like, shape)
