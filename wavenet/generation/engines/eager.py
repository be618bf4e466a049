"""The eager engine: ring buffers and torch operations (Fast WaveNet; Le Paine et al. 2016).

Each layer keeps its last ``past`` inputs in a ring, so that a sample costs one product per tap
instead of a pass over the receptive field. What does not wait for the sample at hand is done for
all layers at once: the old taps of the dilated convolutions, and the skip projections.

All memory is changed in place and every index is computed from a counter on the device, so that a
block of samples can be captured as a CUDA graph (``gpu``) and replayed without the
host. What saves operations, and on a GPU each costs some microseconds:

    sigmoid(b) = (1 + tanh(b / 2)) / 2      one tanh serves both halves of the gate; the factors
                                            of 2, which round nothing, go into the weights
    g W + b = [g 1] [W; b]                  a column of ones carries the biases
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.generation.engines.base import Frames, GenerationState, Request
from wavenet.generation.engines.conditioning import ConditioningWindow, Lift
from wavenet.generation.engines.steps import history_of, samples_since_step, steps_of
from wavenet.model import ModelState, WaveNet
from wavenet.model.exact import model_difference
from wavenet.nn import CausalConv1d, GatedResidualBlock, State, clone_state, flatten_state

_ALIGNMENT = 8
"""Columns of the gates are filled up to whole multiples: rows begin where GPUs like them to."""


def refusal(model: WaveNet) -> str | None:
    """Return why the engine cannot run a model, or None if it can."""
    found = model_difference(model, any_distribution=True)
    return None if found is None else f"runs only the blocks of this package, but {found}"


def check_refusal(name: str, reason: str | None, remedy: str) -> None:
    """Raise ValueError in one line if there is a reason why an engine cannot run a model."""
    if reason is not None:
        raise ValueError(f"engine={name!r} {reason}; {remedy}")


class EagerEngine:
    """Runs on any device and in any floating type that the model has.

    Args:
        model: a ``WaveNet`` of this package's blocks, with any distribution.
        request: conditioning and how to draw.
        start: where to begin; its tensors are copied.

    Raises:
        ValueError: for a model with other blocks.
    """

    name: ClassVar[str] = "eager"
    block_samples = 64
    """Samples that are prepared together: their indices, their uniforms, their conditioning."""

    @torch.inference_mode()
    def __init__(self, model: WaveNet, request: Request, start: GenerationState) -> None:
        check_refusal(self.name, refusal(model), "use engine='stream'")
        self.model, self.request = model, request
        self.distribution = model.distribution
        first = model.input_projection.weight
        self.device, self.dtype = first.device, first.dtype
        self._blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
        self._per_step = model.samples_per_step
        self._since_at_start = samples_since_step(model, start)
        self._load_weights()
        self._make_memory(len(start.time))
        self._make_buffers(len(start.time))
        self._conditioning = ConditioningWindow(
            model, request, self._gate_bias, self._gate_scale, len(start.time), self.block_samples
        )
        self._time, self._n_samples = start.time.clone(), 0
        self._load(list(range(len(start.time))), start)

    def run(self, uniforms: Tensor) -> Tensor:
        """``[B, U, T]`` to samples ``[B, T]``; see ``Engine.run``."""
        given = uniforms.to(self.device).permute(2, 0, 1)[..., None]
        # Made outside of inference mode: who gets them may change them.
        samples = torch.empty(given.shape[:2], device=self.device, dtype=torch.float32)
        self._go(given, samples, forced=False)
        return samples.T.contiguous().cpu()

    def force(self, x: Tensor) -> Tensor:
        """``[B, T]`` to params ``[B, P, T]``; see ``Engine.force``."""
        given = x.to(self.device, self.dtype).T[..., None]
        params = torch.empty_like(given).repeat(1, 1, self.distribution.n_params)
        self._go(given, params, forced=True)
        return params.permute(1, 2, 0).contiguous()

    def resized(self, frames: Frames, start: GenerationState, first_sample: int) -> EagerEngine:
        """Return an engine of other rows; ``Engine.resized``."""
        request = replace(self.request, frames=frames, first_sample=first_sample)
        return type(self)(self.model, request, start)

    def dump(self) -> GenerationState:
        """Return a copy of the state; ``Engine.dump``."""
        layers: list[State] = []
        for history, past in zip(self._rings.split(self._pasts), self._pasts, strict=True):
            if past:
                history = history.roll(-(self._n_steps % past), dims=0)
            kept = history.permute(1, 2, 0).clone()
            layers.append(((history_of(kept, self._per_step, self._since_step),),))
        pairs, outputs = clone_state(self._pairs_state), clone_state(self._outputs_state)
        if outputs:
            outputs = (*outputs, self._params.new_full((len(self._time), 1), self._since_step))
        predictor = clone_state(self._predictor_state)
        state = self.model.join_state(ModelState(predictor, pairs, tuple(layers), outputs))
        return GenerationState(self._params.clone(), state, self._time + self._n_samples)

    @torch.inference_mode()
    def replace(
        self, rows: list[int], frames: Frames, start: GenerationState | None, first_frame: int = 0
    ) -> None:
        """Give rows other frames and states; ``Engine.replace``."""
        self._conditioning.replace(rows, frames, first_frame)
        if start is None:
            return
        samples_since_step(self.model, start, self._since_step)
        self._time[rows] = start.time - self._n_samples
        self._load(rows, start)

    @property
    def _n_steps(self) -> int:
        """Complete steps so far."""
        return (self._since_at_start + self._n_samples) // self._per_step

    @property
    def _since_step(self) -> int:
        """Samples since the last complete step."""
        return (self._since_at_start + self._n_samples) % self._per_step

    def _go(self, given: Tensor, made: Tensor, *, forced: bool) -> None:
        """Block by block: ``given [T, ...]`` in, ``made [T, ...]`` out, nothing waited for."""
        source, target = (self._forced, self._predicted) if forced else (self._given, self._drawn)
        with torch.inference_mode():
            begin = 0
            for n in self._block_lengths(len(given)):
                source[:n].copy_(given[begin : begin + n])
                self._conditioning.prepare(n)
                self._advance(n, forced=forced)
                made[begin : begin + n].copy_(target[:n])
                begin += n
                self._n_samples += n

    def _block_lengths(self, n_samples: int) -> list[int]:
        whole, rest = divmod(n_samples, self.block_samples)
        return [self.block_samples] * whole + ([rest] if rest else [])

    def _load_weights(self) -> None:
        """Transpose, scale and group the weights; biases that meet are added up."""

        def weight(tensor: Tensor) -> Tensor:
            narrow = self.request.weights != torch.float32
            return (tensor.to(self.request.weights) if narrow else tensor).detach().to(self.dtype)

        def product(tensor: Tensor) -> Tensor:
            return weight(tensor).squeeze(-1).T.contiguous()

        def after_gate(layer: nn.Conv1d) -> Tensor:
            """Weights and bias, for what the gate lets through twice as large, and a one."""
            joined = torch.cat([product(layer.weight) / 2, _bias(layer)[None]])
            return F.pad(joined, (0, 0, 0, -len(joined) % _ALIGNMENT))

        blocks = self._blocks
        half = blocks[0].gate_channels // 2
        halved = torch.tensor([1.0, 0.5], device=self.device, dtype=self.dtype)
        scale = halved.repeat_interleave(half)
        taps = torch.stack([weight(block.conv.weight) for block in blocks])  # [L, G, R, k]
        taps = taps * scale[:, None, None]
        self._old_taps = taps[..., :-1].permute(0, 3, 2, 1).flatten(1, 2).contiguous()
        self._new_tap = taps[..., -1].transpose(1, 2).contiguous().unbind(0)
        self._gate_scale = scale
        self._gate_bias = torch.stack([_bias(block.conv) for block in blocks]) * scale
        self._residual = [after_gate(block.residual_projection) for block in blocks]
        self._skip = torch.cat([after_gate(block.skip_projection) for block in blocks])
        entry = self.model.input_projection
        self._input = (product(entry.weight), _bias(entry))
        if self._per_step > 1:
            second = self.model.second_projection
            self._second = (product(second.weight), _bias(second))
        head = cast(list[nn.Conv1d], [self.model.head[1], self.model.head[3]])
        self._head = [(product(layer.weight), _bias(layer)) for layer in head]

    def _make_memory(self, rows: int) -> None:
        """Allocate all rings as one ``[sum of past, B, R]``; slot t % past has the input at t.

        Past and t are in steps.
        """
        blocks = self._blocks
        channels, half = blocks[0].residual_channels, blocks[0].gate_channels // 2
        self._pasts = [block.past // self._per_step for block in blocks]
        pasts = torch.tensor(self._pasts, device=self.device)
        self._ring_start, self._ring_length = pasts.cumsum(0) - pasts, pasts.clamp(min=1)
        self._rings = self._zeros(sum(self._pasts), rows, channels)
        dilations = torch.tensor(
            [block.conv.dilation // self._per_step for block in blocks], device=self.device
        )
        back = torch.arange(blocks[0].conv.kernel_size - 1, 0, -1, device=self.device)
        self._lags = dilations[:, None] * back  # [L, k - 1], oldest first
        self._now = torch.zeros((), dtype=torch.int64, device=self.device)
        self._inputs = self._zeros(len(blocks), rows, channels)
        self._gates = self._zeros(rows, len(blocks), self._residual[0].shape[0])
        self._gates[..., half] = 1
        self._params = self._zeros(rows, self.distribution.n_params, 1)
        self._predictor_state: State = ()
        if self.model.predictor is not None:
            state = self.model.predictor.init_state(rows, device=self.device, dtype=self.dtype)
            self._predictor_state = state
        self._pairs_state: State = ()
        self._outputs_state: State = ()
        if self._per_step > 1:
            self._pairs_state = (self._zeros(rows, self.model.pairs.in_channels, 1),)
            self._outputs_state = (self._zeros(rows, self.model.step_outputs.in_channels, 1),)

    def _make_buffers(self, rows: int) -> None:
        """Allocate the inputs and outputs of a block, at the addresses of a recorded graph."""
        per_sample, n_params = self.distribution.uniforms_per_sample, self.distribution.n_params
        n = self.block_samples
        self._given = torch.zeros(n, rows, per_sample, 1, device=self.device, dtype=torch.float32)
        self._drawn = torch.zeros(n, rows, device=self.device, dtype=torch.float32)
        self._forced = self._zeros(n, rows, 1)
        self._predicted = self._zeros(n, rows, n_params)

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, device=self.device, dtype=self.dtype)

    def _load(self, rows: list[int], start: GenerationState) -> None:
        """Bring a state into the memory of some rows."""
        index = torch.tensor(rows, device=self.device)
        self._params[index] = start.params.to(self._params)
        given = self.model.split_state(start.model)
        for memory, state in (
            (self._predictor_state, given.predictor),
            (self._pairs_state, given.pairs),
            (self._outputs_state, given.step_outputs[:1]),
        ):
            for kept, part in zip(flatten_state(memory), flatten_state(state), strict=True):
                kept[index] = part.to(kept)
        layers = zip(self._rings.split(self._pasts), given.stack, strict=True)
        for ring, ((history,),) in layers:
            if len(ring):
                slots = steps_of(history, self._per_step, self._since_step).to(ring)
                ring[:, index] = slots.permute(2, 0, 1).roll(self._n_steps % len(ring), dims=0)

    def _advance(self, n: int, *, forced: bool) -> None:
        """The next n samples, from ``_given`` into ``_drawn``, or ``_forced`` into ``_predicted``.

        Only operations on the device, on memory that stays where it is.
        """
        samples = self._now + self._since_at_start + torch.arange(n, device=self.device)
        times = samples // self._per_step
        slots = self._ring_start + times[:, None] % self._ring_length  # [n, L]
        lagging = (times[:, None, None] - self._lags) % self._ring_length[:, None]
        old = (self._ring_start[:, None] + lagging).flatten(1)  # [n, L (k - 1)]
        lift = self._conditioning.lift(self._now, n)
        columns = self._conditioning.columns_of(lift).expand(n, -1, -1)[..., None]
        params, since = self._params, self._since_step
        for i in range(n):
            completes = (since + i + 1) % self._per_step == 0
            x = self._forced[i]
            if not forced:
                x = self.distribution.sample(
                    params,
                    self._given[i],
                    temperature=self.request.temperature,
                    top_p=self.request.top_p,
                )
                self._drawn[i].copy_(x[:, 0])
            inputs, place = self._encode(x.to(self.dtype), columns[i])
            if completes:
                y = self._layers(inputs, lift, i, slots[i], old[i])
            else:
                y = self._between_steps(inputs)
            params = self._head_params(y, place)
            if forced:
                self._predicted[i].copy_(params[..., 0])
        self._params.copy_(params)
        self._now += n

    def _layers(
        self, inputs: Tensor, lift: Lift | None, i: int, slots: Tensor, old: Tensor
    ) -> Tensor:
        """One step: encoded samples ``[B, inputs]`` to the skip sum ``[B, S]``."""
        if self._per_step > 1:
            inputs = self._paired(inputs)
        self._project_input(inputs, self._inputs[0])
        half = self._gate_bias.shape[1] // 2
        for layer, terms in enumerate(self._gate_terms(lift, i, old).unbind(0)):
            x = self._inputs[layer]
            first, second = torch.addmm(terms, x, self._new_tap[layer]).tanh_().chunk(2, dim=1)
            gated = self._gates[:, layer]
            torch.addcmul(first, first, second, out=gated[:, :half])
            if layer + 1 < len(self._inputs):
                torch.addmm(x, gated, self._residual[layer], out=self._inputs[layer + 1])
        if len(self._rings):
            self._rings.index_copy_(0, slots, self._inputs)
        y = self._gates.flatten(1) @ self._skip
        if self._per_step > 1:
            self._outputs_state[0].copy_(y[..., None])
        return y

    def _between_steps(self, inputs: Tensor) -> Tensor:
        """The skip sum ``[B, S]`` within a step: that of the last one, and the new sample's."""
        self._paired(inputs)
        matrix, bias = self._second
        return self._outputs_state[0][..., 0] + torch.addmm(bias, inputs, matrix)

    def _paired(self, inputs: Tensor) -> Tensor:
        """The encoded sample before, beside this one: ``[B, 2 inputs]``."""
        (before,) = self._pairs_state
        both = torch.cat([before[..., 0], inputs], dim=1)
        before.copy_(inputs[..., None])
        return both

    def _head_params(self, y: Tensor, place: tuple[Tensor, Tensor] | None) -> Tensor:
        """The head: skip sum ``[B, S]`` to params ``[B, P, 1]`` of the next sample."""
        for matrix, bias in self._head:
            y = torch.addmm(bias, y.relu_(), matrix)
        params = y[..., None]
        return params if place is None else self.distribution.relocate(params, *place)

    def _encode(self, x: Tensor, columns: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Return the network's input for ``[B, 1]``; with a predictor the next sample's scale."""
        x = self.model.entry_values(x)
        if self.model.predictor is None:
            return x, None
        outputs, after = self.model.predictor.stream(x[..., None], self._predictor_state, columns)
        for part, new in zip(self._predictor_state, after, strict=True):
            part.copy_(new)
        inputs, location, log_scale = outputs
        return inputs[..., 0], (location, log_scale)

    def _project_input(self, inputs: Tensor, out: Tensor) -> None:
        """Project the network's input ``[B, inputs]`` to the first layer's ``[B, R]``."""
        matrix, bias = self._input
        if self.model.config.one_hot_input:
            torch.add(matrix.index_select(0, inputs[:, 0].long()), bias, out=out)
        else:
            torch.addmm(bias, inputs, matrix, out=out)

    def _gate_terms(self, lift: Lift | None, i: int, old: Tensor) -> Tensor:
        """Bias, conditioning and old taps of every layer at once: ``[L, B, G]``."""
        terms = self._conditioning.terms_at(lift, i)
        n_layers, rows, channels = self._inputs.shape
        if not len(old):
            return terms.expand(-1, rows, -1)
        lagged = self._rings.index_select(0, old).view(n_layers, -1, rows, channels)
        return torch.baddbmm(terms, lagged.transpose(1, 2).flatten(2), self._old_taps)


def _bias(layer: nn.Conv1d | CausalConv1d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach()
