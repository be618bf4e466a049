"""The eager engine: ring buffers and torch operations (Fast WaveNet; Le Paine et al. 2016).

Each layer keeps its last ``past`` inputs in a ring, so that a sample costs one product per tap
instead of a pass over the receptive field. What does not wait for the sample at hand is done for
all layers at once: the old taps of the dilated convolutions, and the skip projections.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from wavenet.generation.engine import GenerationState, Request
from wavenet.model import WaveNet
from wavenet.nn import CausalConv1d, GatedResidualBlock, State, clone_state, map_state


class EagerEngine:
    """Runs on any device and in any floating type that the model has.

    Args:
        model: any ``WaveNet``.
        request: conditioning and how to draw.
        start: where to begin; its tensors are copied.
    """

    @torch.inference_mode()
    def __init__(self, model: WaveNet, request: Request, start: GenerationState) -> None:
        self.model, self.request = model, request
        self.distribution = model.distribution
        first = model.input_projection.weight
        self.device, self.dtype = first.device, first.dtype
        blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
        self._load_weights(blocks)
        self._load_rings(blocks, start)
        self._ear = map_state(lambda part: part.to(self.device, self.dtype), start.model[:-1])
        self._conditioning = _Conditioning(model, request) if request.frames is not None else None
        self._params = start.params.to(self.device, self.dtype).clone()
        self._time = start.time.clone()

    def run(self, uniforms: Tensor) -> Tensor:
        """``[B, U, T]`` to samples ``[B, T]``; see ``Engine.run``."""
        given = uniforms.to(self.device)
        # Made outside of inference mode: who gets them may change them.
        samples = torch.empty(given.shape[0], given.shape[-1], device=self.device)
        with torch.inference_mode():
            for t in range(given.shape[-1]):
                x = self.distribution.sample(
                    self._params,
                    given[..., t : t + 1],
                    temperature=self.request.temperature,
                    top_p=self.request.top_p,
                )
                samples[:, t] = x[:, 0]
                self._params = self._step(x.to(self.dtype))
        self._time = self._time + uniforms.shape[-1]
        return samples.cpu()

    def force(self, x: Tensor) -> Tensor:
        """``[B, T]`` to params ``[B, P, T]``; see ``Engine.force``."""
        with torch.inference_mode():
            steps = [self._step(column[:, None]) for column in x.to(self.device, self.dtype).T]
        self._params = steps[-1]
        self._time = self._time + x.shape[-1]
        return torch.cat(steps, dim=-1)

    def dump(self) -> GenerationState:
        """See ``Engine.dump``."""
        layers: list[State] = []
        for start, past in zip(self._ring_start.tolist(), self._pasts, strict=True):
            ring = self._rings[start : start + past]
            if past:
                ring = ring.roll(-(self._position % past), dims=0)
            layers.append(((ring.permute(1, 2, 0).clone(),),))
        state = (*clone_state(self._ear), tuple(layers))
        return GenerationState(self._params.clone(), state, self._time.clone())

    def _load_weights(self, blocks: list[GatedResidualBlock]) -> None:
        """Transpose and group the weights; biases that meet are added up."""

        def weight(tensor: Tensor) -> Tensor:
            narrow = self.request.weights != torch.float32
            return (tensor.to(self.request.weights) if narrow else tensor).detach().to(self.dtype)

        def product(tensor: Tensor) -> Tensor:
            return weight(tensor).squeeze(-1).T.contiguous()

        taps = torch.stack([weight(block.conv.weight) for block in blocks])  # [L, G, R, k]
        self._old_taps = taps[..., :-1].permute(0, 3, 2, 1).flatten(1, 2).contiguous()
        self._new_tap = taps[..., -1].transpose(1, 2).contiguous().unbind(0)
        self._gate_bias = torch.stack([_bias(block.conv) for block in blocks])[:, None]
        self._residual = [product(block.residual_projection.weight) for block in blocks]
        self._residual_bias = [_bias(block.residual_projection) for block in blocks]
        self._skip = torch.cat([product(block.skip_projection.weight) for block in blocks])
        self._skip_bias = torch.stack([_bias(block.skip_projection) for block in blocks]).sum(0)
        entry = self.model.input_projection
        self._input = (product(entry.weight), _bias(entry))
        head = cast(list[nn.Conv1d], [self.model.head[1], self.model.head[3]])
        self._head = [(product(layer.weight), _bias(layer)) for layer in head]

    def _load_rings(self, blocks: list[GatedResidualBlock], start: GenerationState) -> None:
        """All rings in one tensor ``[sum of past, B, R]``; slot t % past holds the input at t."""
        layers = start.model[-1]
        histories = [layer[0][0].to(self.device, self.dtype).permute(2, 0, 1) for layer in layers]
        self._rings = torch.cat(histories).contiguous()
        self._pasts = [history.shape[0] for history in histories]
        pasts = torch.tensor(self._pasts, device=self.device)
        self._ring_start = pasts.cumsum(0) - pasts
        self._ring_length = pasts.clamp(min=1)
        dilations = torch.tensor([block.conv.dilation for block in blocks], device=self.device)
        kernel_size = blocks[0].conv.kernel_size
        back = torch.arange(kernel_size - 1, 0, -1, device=self.device)
        self._lags = dilations[:, None] * back  # [L, k - 1], oldest first
        self._position = 0

    def _step(self, x: Tensor) -> Tensor:
        """One sample ``[B, 1]`` in, params ``[B, P, 1]`` of the next one out."""
        batch = x.shape[0]
        heard, place = self._hear(self.model.entry_values(x))
        x = self._enter(heard)
        gate_inputs = self._old_terms(batch)
        if self._conditioning is not None:
            gate_inputs = gate_inputs + self._conditioning.next()
        inputs, gates = [], []
        for layer, terms in enumerate(gate_inputs.unbind(0)):
            inputs.append(x)
            first, second = torch.addmm(terms, x, self._new_tap[layer]).chunk(2, dim=1)
            gated = torch.tanh(first).mul_(torch.sigmoid(second))
            gates.append(gated)
            x = torch.addmm(x, gated, self._residual[layer]).add_(self._residual_bias[layer])
        if len(self._rings):
            slots = self._ring_start + self._position % self._ring_length
            self._rings[slots] = torch.stack(inputs)
        self._position += 1
        y = torch.addmm(self._skip_bias, torch.cat(gates, dim=1), self._skip)
        for matrix, bias in self._head:
            y = torch.addmm(bias, torch.relu_(y), matrix)
        params = y[..., None]
        return params if place is None else self.distribution.relocate(params, *place)

    def _hear(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """What the network hears of ``[B, 1]``, and with a predictor where the next sample lies."""
        if self.model.predictor is None:
            return x, None
        assert self._conditioning is not None
        outputs, after = self.model.predictor.stream(
            x[..., None], self._ear[0], self._conditioning.of_predictor()
        )
        self._ear = (after,)
        heard, location, log_scale = outputs
        return heard[..., 0], (location, log_scale)

    def _enter(self, heard: Tensor) -> Tensor:
        """What the network hears ``[B, inputs]`` as the first layer's input ``[B, R]``."""
        matrix, bias = self._input
        if self.model.config.one_hot_input:
            return matrix[heard[:, 0].long()] + bias
        return torch.addmm(bias, heard, matrix)

    def _old_terms(self, batch: int) -> Tensor:
        """Bias and old taps of every layer at once: ``[L, B, G]``."""
        if not self._lags.shape[1]:
            return self._gate_bias.expand(-1, batch, -1)
        slots = (self._position - self._lags) % self._ring_length[:, None]
        old = self._rings[self._ring_start[:, None] + slots]  # [L, k - 1, B, R]
        old = old.transpose(1, 2).flatten(2)
        return torch.baddbmm(self._gate_bias, old, self._old_taps)


def _bias(layer: nn.Conv1d | CausalConv1d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach()


class _Conditioning:
    """The conditioning's share of the gate inputs, projected once a frame and lifted a sample."""

    def __init__(self, model: WaveNet, request: Request) -> None:
        assert request.frames is not None
        blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
        weights = [block.cond_projection.weight.squeeze(-1) for block in blocks]
        self._projections = torch.stack(weights).detach()
        self._width = self._projections.shape[-1]
        local = model.config.local
        self._frames = _pad_frames(request.frames).to(weights[0])  # [B, C, F]
        self._lift = None if local is None else model.frame_lift.weights.T.contiguous()
        self._hop = 1 if local is None else model.frame_lift.hop_samples
        self._position, self._frame = request.first_sample, -1

    def next(self) -> Tensor:
        """The terms of the next sample: ``[L, B, G]``."""
        phase = self._approach()
        self._position += 1
        if self._lift is None:
            return self._terms[0]
        return torch.tensordot(self._lift[phase].to(self._terms.dtype), self._terms, dims=1)

    def of_predictor(self) -> Tensor:
        """What the predictor takes for the next sample, ``[B, C, 1]``; before ``next``."""
        phase = self._approach()
        if self._lift is None:
            return self._around[:, self._width :]
        lifted = self._around[:, self._width :] @ self._lift[phase].to(self._around.dtype)
        return lifted[..., None]

    def _approach(self) -> int:
        """Prepare for the next sample; its phase within its frame."""
        frame, phase = (0, 0) if self._lift is None else divmod(self._position, self._hop)
        if frame != self._frame:
            self._frame = frame
            last = self._frames.shape[-1] - 1
            around = [min(max(frame + i, 0), last) for i in (-1, 0, 1)]
            self._around = self._frames[..., around if self._lift is not None else [0]]
            frames = self._around[:, : self._width]
            self._terms = torch.einsum("lgc,bcf->flbg", self._projections, frames)
        return phase


def _pad_frames(frames: list[Tensor]) -> Tensor:
    """Rows of different lengths as one ``[B, C, F]``; a shorter row holds its last frame."""
    longest = max(row.shape[-1] for row in frames)
    index = torch.arange(longest)
    return torch.stack(
        [row[:, index.clamp(max=row.shape[-1] - 1).to(row.device)] for row in frames]
    )
