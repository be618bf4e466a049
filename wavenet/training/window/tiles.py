"""The equations of a gated residual block on a tile of time, forward and backward.

A tile is so short that what stands between two products stays in the cache. All products of a tile
are written into buffers that are made once, and so are the views of them that products take: to cut
a tensor costs Python a microsecond, and every call of torch hands the interpreter's lock around
between threads. See ``window`` for the derivation.
"""

from __future__ import annotations

from torch import Tensor

from wavenet.training.window.buffers import Room, multiply, outer
from wavenet.training.window.elementwise import Elementwise, Piece, TorchElementwise
from wavenet.training.window.plan import Plan, Tile


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
        self.terms = _doubled(terms).to(plan.dtype)
        self.taps = _doubled(taps).to(plan.dtype).unbind()
        self.back_taps = taps.to(plan.dtype).transpose(-1, -2).unbind()
        self._narrow = projections.to(plan.dtype)
        self.n_outputs, self.n_gates = projections.shape[1], taps.shape[1]
        self._projections: dict[tuple[int, int | None, int | None], tuple[Tensor, Tensor]] = {}

    def projections(self, layer: int, outputs: slice) -> tuple[Tensor, Tensor]:
        """Those to some outputs; and, for the way back, transposed and without the bias."""
        key = (layer, outputs.start, outputs.stop)
        if key not in self._projections:
            weight = self._narrow[layer, outputs]
            self._projections[key] = weight, weight[:, :-1].T
        return self._projections[key]


def _doubled(tensor: Tensor) -> Tensor:
    """With the first half of the gate's channels, of the last dimension but one, doubled."""
    doubled = tensor.clone()
    doubled[..., : tensor.shape[-2] // 2, :] *= 2
    return doubled


class Sums:
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

        def room(channels: int, n: int = plan.tile) -> Room:
            return Room(lift.new_empty(rows, channels, n, dtype=plan.dtype))

        self._inputs = room(self.n_taps + len(lift))
        self._weight = room(n_gates, self.n_taps + len(lift))
        self._z, self._z_slope = room(n_gates), room(n_gates)
        self._gated, self._gate_slope = room(self.half + 1), room(self.half)
        self._gated.tensor.fill_(1)  # the last channel stays so, for the biases
        self._slopes = room(weights.n_outputs)
        self._product = room(max(weights.n_outputs, self.n_taps))
        self.stream = lift.new_empty(rows, self.residual, plan.tile)

    def outputs(self, layer: int, tile: Tile) -> slice:
        """Of the projections' channels those that are heard: stream, skip sum, or both."""
        last = layer + 1 == len(self.plan.starts)
        return slice(self.residual if last else 0, self.residual if tile[0] < self.window else None)

    def hear(self, layer: int, tile: Tile, x: Tensor) -> int:
        """Stack all that a tile of z hears, for the next products: ``[rows, k R + frames, t]``.

        Returns:
            How many channels that are.
        """
        (begin, end), origin, room = tile, self.plan.firsts[layer], self._inputs.tensor
        for tap, lag in enumerate(self.plan.lags[layer]):
            channel = tap * self.residual
            first = max(begin, min(lag, end))  # before the window there are zeros
            if first > begin:
                Piece(room, channel, self.residual, 0, first - begin).view.zero_()
            self.elementwise.copy(
                Piece(room, channel, self.residual, first - begin, end - first),
                Piece(x, 0, self.residual, first - lag - origin, end - first),
            )
        frames = self.frames(tile)
        n_frames = frames.stop - frames.start
        self.elementwise.copy(
            Piece(room, self.n_taps, n_frames, 0, end - begin),
            Piece(self.lift, frames.start, n_frames, begin, end - begin),
        )
        return self.n_taps + n_frames

    def gate(
        self, layer: int, tile: Tile, terms: Tensor, channels: int, out: Piece | None
    ) -> Piece:
        """tanh above sigmoid of what was heard: ``[rows, G, t]``; their product stays in a buffer.

        Args:
            layer: its number.
            tile: of time.
            terms: of the frames, ``[rows, G, F]``.
            channels: as ``hear`` says.
            out: where the gates are kept, if they are.
        """
        n, n_gates, frames = tile[1] - tile[0], 2 * self.half, self.frames(tile)
        weight, copy = self._weight, self.elementwise.copy
        copy(
            Piece(weight.tensor, 0, n_gates, 0, self.n_taps),
            Piece(self.weights.taps[layer], 0, n_gates, 0, self.n_taps),
        )
        copy(
            Piece(weight.tensor, 0, n_gates, self.n_taps, channels - self.n_taps),
            Piece(terms, 0, n_gates, frames.start, channels - self.n_taps),
        )
        z = Piece(self._z.tensor, 0, n_gates, 0, n)
        multiply(
            self._z.view(n_gates, n), weight.view(n_gates, channels), self._inputs.view(channels, n)
        )
        gates = z if out is None else out
        self.elementwise.gate(z, gates, Piece(self._gated.tensor, 0, self.half, 0, n))
        return gates

    def project(self, layer: int, outputs: slice, n: int) -> Tensor:
        """What the gated tile adds to these outputs: ``[rows, channels, ..]``, the first n."""
        weight, _ = self.weights.projections(layer, outputs)
        multiply(self._product.view(len(weight), n), weight, self._gated.view(self.half + 1, n))
        return self._product.tensor

    def back_project(
        self, layer: int, tile: Tile, gates: Piece, x_slope: Tensor, skip: Tensor, total: Tensor
    ) -> None:
        """From the gradient of a tile's outputs to that of z, which stays in a buffer.

        Args:
            layer: its number.
            tile: of time.
            gates: as ``gate`` gave them.
            x_slope: gradient of the residual stream, ``[rows, R, T]``.
            skip: gradient of the skip sum, narrow, ``[rows, S, length]``.
            total: ``[R + S, G / 2 + 1]``, to which the gradient of the projections is added.
        """
        (begin, end), outputs, copy = tile, self.outputs(layer, tile), self.elementwise.copy
        n, slopes, after = end - begin, self._slopes.tensor, self.weights.n_outputs - self.residual
        if outputs.start == 0:
            copy(Piece(slopes, 0, self.residual, 0, n), Piece(x_slope, 0, self.residual, begin, n))
        if outputs.stop is None:
            copy(
                Piece(slopes, self.residual, after, 0, n),
                Piece(skip, 0, after, begin - self.window, n),
            )
        _, back = self.weights.projections(layer, outputs)
        given = self._slopes.view(back.shape[1], n, outputs.start)
        multiply(self._gate_slope.view(self.half, n), back, given)
        self.elementwise.slopes(
            gates,
            Piece(self._gate_slope.tensor, 0, self.half, 0, n),
            Piece(self._z_slope.tensor, 0, 2 * self.half, 0, n),
            Piece(self._gated.tensor, 0, self.half, 0, n),
        )
        slope = outer(given, self._gated.transposed(self.half + 1, n))
        self.elementwise.add(
            Piece(total, outputs.start, back.shape[1], 0, self.half + 1),
            Piece(slope, 0, back.shape[1], 0, self.half + 1),
        )

    def back_gate(
        self, layer: int, tile: Tile, channels: int, taps: Tensor, terms: Tensor, x_slope: Tensor
    ) -> None:
        """Add to the gradients of the gate's weights, and of the samples that its taps heard.

        Args:
            layer: its number.
            tile: of time.
            channels: as ``hear`` says.
            taps: gradient ``[G, k R]``.
            terms: gradient ``[rows, G, F]``.
            x_slope: gradient of the residual stream, ``[rows, R, T]``.
        """
        (begin, end), n_gates, frames = tile, 2 * self.half, self.frames(tile)
        n, n_frames, add = end - begin, channels - self.n_taps, self.elementwise.add
        z_slope = self._z_slope.view(n_gates, n)
        both = outer(z_slope, self._inputs.transposed(channels, n))
        add(Piece(taps, 0, n_gates, 0, self.n_taps), Piece(both, 0, n_gates, 0, self.n_taps))
        add(
            Piece(terms, 0, n_gates, frames.start, n_frames),
            Piece(both, 0, n_gates, self.n_taps, n_frames),
        )
        multiply(self._product.view(self.n_taps, n), self.weights.back_taps[layer], z_slope)
        for tap, lag in enumerate(self.plan.lags[layer]):
            first = max(begin, min(lag, end))
            channel, left = tap * self.residual, end - first
            add(
                Piece(x_slope, 0, self.residual, first - lag, left),
                Piece(self._product.tensor, channel, self.residual, first - begin, left),
            )

    def frames(self, tile: Tile) -> slice:
        """The frames that a tile hears: the rows of the lift that are not zero there."""
        if tile not in self._frames:
            heard = slice(0, len(self.lift))
            if self.lift.device.type == "cpu":
                rows = self.lift[:, tile[0] : tile[1]].any(dim=1).nonzero()
                heard = slice(int(rows[0]), int(rows[-1]) + 1)
            self._frames[tile] = heard
        return self._frames[tile]


def _elementwise(plan: Plan, like: Tensor, shape: tuple[int, int, int]) -> Elementwise:
    if plan.compiled:
        from wavenet.training.window.elementwise_numba import CompiledElementwise  # imports numba

        return CompiledElementwise()
    return TorchElementwise(like, shape)
