"""``check_causal``: does a block keep the law? For our tests, and for people who write blocks.

A causal block is one equation, ``stream(x, state) -> (y, state')`` (see ``wavenet.nn.causal``).
The check verifies, in float64 on a copy with random weights, what follows from it:

1. whole = chunks = one sample at a time, in outputs and in gradients;
2. no output depends on a later input, nor on a later column of the conditioning;
3. the rows of a batch are independent;
4. ``past`` is the reach of the gradient of x, neither more nor less;
5. a state is a value: it is not changed, and its shapes stay;
6. ``warm_state`` is what streaming silence leads to, ``forward`` is ``stream`` from ``init_state``;
7. a state of the wrong shape raises ValueError and says how to make a right one.
"""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wavenet.nn.causal import Causal
from wavenet.nn.state import State, clone_state, flatten_state, map_state

TOLERANCE = 1e-10
"""Largest relative difference between two ways of computing the same in float64."""

_BATCH = 3
_STREAMED_STEPS = 24
_WARM_STREAM_LIMIT = 20_000


class ContractError(AssertionError):
    """A block breaks the law; the message says which part, where, and by how much."""


def check_causal(module: Causal, *, seed: int = 0) -> None:
    """Raise unless the block keeps the law of causal blocks, listed at the top of this module.

    The block itself is not changed: the check works on a float64 copy in evaluation mode whose
    parameters are drawn anew, so that weights initialised to zero hide nothing.

    Args:
        module: any ``Causal`` block, for ``[B, in_channels, T]``.
        seed: of the random weights, inputs and chunk lengths.

    Raises:
        ContractError: if a part of the law is broken; the message names it.
        TypeError: if the module is no ``Causal``.
    """
    if not isinstance(module, Causal):
        raise TypeError(
            f"check_causal takes a Causal block, not {type(module).__name__}; derive it from "
            "wavenet.nn.Causal and define past, init_state and stream"
        )
    probe = _Probe.of(module, seed)
    _check_chunks(probe)
    _check_no_future(probe)
    _check_rows(probe)
    _check_past(probe)
    _check_warm_state(probe)
    _check_forward(probe)
    _check_wrong_state(probe)


@dataclass
class _Probe:
    """A float64 copy of the block with random weights, and what draws its inputs."""

    block: Causal
    generator: torch.Generator

    @classmethod
    def of(cls, module: Causal, seed: int) -> _Probe:
        block = copy.deepcopy(module).to("cpu", torch.float64).eval()
        generator = torch.Generator().manual_seed(seed)
        for parameter in block.parameters():
            fan_in = max(1, parameter.numel() // max(1, parameter.shape[0]))
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = values / math.sqrt(fan_in) if parameter.ndim > 1 else 0.1 * values
            parameter.requires_grad_(True)
        return cls(block, generator)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def inputs(self, batch: int, n: int) -> tuple[Tensor, Tensor | None]:
        """x ``[batch, C, n]`` and, where the block takes it, cond of the same time."""
        channels = self.block.cond_channels
        cond = None if channels is None else self.randn(batch, channels, n)
        return self.randn(batch, self.block.in_channels, n), cond

    def random_state(self, batch: int) -> State:
        """The shapes of ``init_state``, filled with noise."""
        fresh = self.block.init_state(batch, dtype=torch.float64)
        return map_state(lambda part: self.randn(*part.shape), fresh)

    def split(self, n: int) -> list[int]:
        """Random lengths, multiples of ``step``, that add up to n."""
        step, lengths = self.block.step, []
        while n:
            draw = int(torch.randint(1, 9, (), generator=self.generator)) * step
            lengths.append(min(draw, n))
            n -= lengths[-1]
        return lengths


def _outputs(y: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (y,) if isinstance(y, Tensor) else tuple(y)


def _run(
    block: Causal, x: Tensor, cond: Tensor | None, state: State, lengths: list[int]
) -> tuple[tuple[Tensor, ...], State]:
    """Stream x in pieces of these lengths, and join the outputs."""
    pieces, start = [], 0
    for length in lengths:
        part = None if cond is None else cond[..., start : start + length]
        y, state = block.stream(x[..., start : start + length], state, part)
        pieces.append(_outputs(y))
        start += length
    return tuple(torch.cat(parts, dim=-1) for parts in zip(*pieces, strict=True)), state


def _require_equal(a: Tensor, b: Tensor, what: str) -> None:
    if a.shape != b.shape:
        raise ContractError(f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
    if a.numel() == 0:
        return
    scale = max(1.0, float(b.detach().abs().max()))
    worst = float((a - b).detach().abs().max()) / scale
    if not worst <= TOLERANCE:
        raise ContractError(f"{what}: relative difference {worst:.2e}, allowed {TOLERANCE:.0e}")


def _check_chunks(probe: _Probe) -> None:
    """Outputs, final states and gradients do not depend on how x is cut up."""
    block, step = probe.block, probe.block.step
    n = _STREAMED_STEPS * step
    state = probe.random_state(_BATCH)
    x, cond = probe.inputs(_BATCH, n)
    weights: list[Tensor] = []

    def results(lengths: list[int]) -> list[tuple[str, Tensor]]:
        leaves = [x.clone().requires_grad_()]
        if cond is not None:
            leaves.append(cond.clone().requires_grad_())
        start = map_state(lambda part: part.clone().requires_grad_(), state)
        before = clone_state(start)
        y, after = _run(block, leaves[0], leaves[1] if cond is not None else None, start, lengths)
        for part, kept in zip(flatten_state(start), flatten_state(before), strict=True):
            _require_equal(part, kept, "a call changed the state it was given")
        named = [(f"output {i}", part) for i, part in enumerate(y)]
        named += [(f"tensor {i} of the state", part) for i, part in enumerate(flatten_state(after))]
        if not weights:
            weights.extend(probe.randn(*part.shape) for _, part in named)
        total = sum((part * w).sum() for (_, part), w in zip(named, weights, strict=True))
        parameters = dict(block.named_parameters())
        sources = {"x": leaves[0]} | ({"cond": leaves[1]} if cond is not None else {})
        sources |= {f"tensor {i} of the state": t for i, t in enumerate(flatten_state(start))}
        gradients = torch.autograd.grad(
            total, [*sources.values(), *parameters.values()], allow_unused=True
        )
        for name, gradient in zip([*sources, *parameters], gradients, strict=True):
            if gradient is not None:
                named.append((f"gradient of {name}", gradient))
        return named

    whole = results([n])
    shapes = [tuple(part.shape) for part in flatten_state(state)]
    after = [tuple(part.shape) for name, part in whole if name.startswith("tensor")]
    if after != shapes:
        raise ContractError(f"stream changes the state's shapes from {shapes} to {after}")
    for how, lengths in (("chunks", probe.split(n)), ("one step at a time", [step] * (n // step))):
        cut = results(lengths)
        if [name for name, _ in cut] != [name for name, _ in whole]:
            raise ContractError(f"whole and {how} do not give the same outputs and gradients")
        for (name, a), (_, b) in zip(cut, whole, strict=True):
            _require_equal(a, b, f"{name}, in {how} against the whole (lengths {lengths})")


def _check_no_future(probe: _Probe) -> None:
    """Changing x and cond from some time on leaves the outputs before as they were."""
    block, step = probe.block, probe.block.step
    n = _STREAMED_STEPS * step
    x, cond = probe.inputs(_BATCH, n)
    state = probe.random_state(_BATCH)
    reference = _outputs(block.stream(x, state, cond)[0])
    for t in range(1, n):
        other_x, other_cond = probe.inputs(_BATCH, n)
        changed_x = torch.cat([x[..., :t], other_x[..., t:]], dim=-1)
        changed_cond = cond
        if cond is not None and other_cond is not None:
            changed_cond = torch.cat([cond[..., :t], other_cond[..., t:]], dim=-1)
        n_before = math.ceil(t * block.rate)
        for i, (a, b) in enumerate(
            zip(_outputs(block.stream(changed_x, state, changed_cond)[0]), reference, strict=True)
        ):
            _require_equal(
                a[..., :n_before],
                b[..., :n_before],
                f"output {i} before input sample {t} depends on samples from {t} on",
            )


def _check_rows(probe: _Probe) -> None:
    """Each row of a batch equals the same row alone."""
    x, cond = probe.inputs(_BATCH, _STREAMED_STEPS * probe.block.step)
    state = probe.random_state(_BATCH)
    together = _outputs(probe.block.stream(x, state, cond)[0])
    for row in range(_BATCH):
        one = slice(row, row + 1)
        own = map_state(lambda part, one=one: part[one], state)
        alone = probe.block.stream(x[one], own, None if cond is None else cond[one])[0]
        for i, (a, b) in enumerate(zip(_outputs(alone), together, strict=True)):
            _require_equal(a, b[one], f"row {row} of output {i} depends on the batch around it")


def _check_past(probe: _Probe) -> None:
    """The gradient of outputs at several times reaches exactly ``past`` samples back."""
    block = probe.block
    period = max(1, int(block.step * block.rate))
    n = (math.ceil(block.past / block.step) + 2) * block.step
    x, cond = probe.inputs(period, n)
    x.requires_grad_()
    start = block.init_state(period, dtype=torch.float64)
    y = _outputs(block.stream(x, start, cond)[0])
    n_out = y[0].shape[-1]
    # Row i of the batch watches output n_out - 1 - i: one backward pass serves all of a period.
    total = sum(
        part[i, :, n_out - 1 - i] @ probe.randn(part.shape[1]) for part in y for i in range(period)
    )
    (gradient,) = torch.autograd.grad(total, x)
    reach = -1
    for i in range(period):
        heard = gradient[i].abs().sum(0).nonzero()
        if len(heard):
            reach = max(reach, math.floor((n_out - 1 - i) / block.rate) - int(heard[0]))
    if reach != block.past:
        raise ContractError(
            f"past is {block.past}, but the gradient of x reaches back {reach} samples"
        )


def _check_warm_state(probe: _Probe) -> None:
    """``warm_state`` equals the state after streaming silence."""
    block, batch = probe.block, 2
    n = (math.ceil(block.past / block.step) + 1) * block.step
    if n > _WARM_STREAM_LIMIT:
        raise ContractError(f"past={block.past} is too long to stream as silence here")
    cond = None if block.cond_channels is None else probe.randn(batch, block.cond_channels, 1)
    silence = torch.zeros(batch, block.in_channels, n, dtype=torch.float64)
    start = block.init_state(batch, dtype=torch.float64)
    streamed = block.stream(silence, start, cond)[1]
    warm = block.warm_state(batch, cond, dtype=torch.float64)
    for i, (a, b) in enumerate(zip(flatten_state(warm), flatten_state(streamed), strict=True)):
        _require_equal(a, b, f"tensor {i} of warm_state against streaming {n} samples of silence")


def _check_forward(probe: _Probe) -> None:
    """``forward(x, cond)`` computes what ``stream`` from ``init_state`` does.

    A model whose forward takes other arguments (it makes its conditioning itself) is left alone.
    """
    block = probe.block
    if list(inspect.signature(block.forward).parameters) != ["x", "cond"]:
        return
    x, cond = probe.inputs(_BATCH, _STREAMED_STEPS * block.step)
    streamed = block.stream(x, block.init_state(_BATCH, dtype=torch.float64), cond)[0]
    for i, (a, b) in enumerate(zip(_outputs(block(x, cond)), _outputs(streamed), strict=True)):
        _require_equal(a, b, f"output {i} of forward against stream from init_state")


def _check_wrong_state(probe: _Probe) -> None:
    """A state for another batch raises ValueError, and the message shows the right code."""
    block = probe.block
    wrong: Any = block.init_state(_BATCH + 1, dtype=torch.float64)
    if not list(flatten_state(wrong)):
        return
    x, cond = probe.inputs(_BATCH, block.step)
    try:
        block.stream(x, wrong, cond)
    except ValueError as error:
        if "init_state" not in str(error):
            raise ContractError(
                f"the error for a wrong state must name init_state, but says: {error}"
            ) from None
        return
    raise ContractError("a state for another batch size is taken without an error")
