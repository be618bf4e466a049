"""``check_causal``: does a block keep the law? For our tests, and for people who write blocks.

A causal block is one equation, ``stream(x, state) -> (y, state')`` (see ``wavenet.nn.causal``).
The check verifies, in float64 on a copy with random weights, what follows from it:

1. whole = chunks = one sample at a time, in outputs and in gradients;
2. no output depends on a later input, nor on a later column of the conditioning;
3. the rows of a batch are independent;
4. ``past`` is the reach of the gradient of x, neither more nor less;
5. a state is a value: it is not changed, its shapes stay, and two streams do not meet;
6. ``warm_state`` is what streaming silence leads to, ``forward`` is ``stream`` from ``init_state``;
7. a state of the wrong shape raises ValueError and says how to make a right one.
"""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.nn.causal import Causal
from wavenet.nn.state import State, clone_state, flatten_state, map_state, select_rows

TOLERANCE = 1e-10
"""Largest relative difference between two ways of computing the same in float64."""

_BATCH = 3
_STREAMED_STEPS = 24
_REACH_ATTEMPTS = 20


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
    _check_values(probe)
    _check_chunks(probe)
    _check_no_future(probe)
    _check_rows(probe)
    _check_past(probe, module, seed)
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
        """The shapes of ``init_state``, filled with noise (counters stay as they are)."""
        fresh = self.block.init_state(batch, dtype=torch.float64)
        return map_state(
            lambda part: self.randn(*part.shape) if part.is_floating_point() else part, fresh
        )

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


def _require_equal_states(a: State, b: State, what: str) -> None:
    if _shapes(a) != _shapes(b):
        raise ContractError(f"{what}: shapes {_shapes(a)} and {_shapes(b)} differ")
    for i, (one, other) in enumerate(zip(flatten_state(a), flatten_state(b), strict=True)):
        _require_equal(one, other, f"{what}, tensor {i}")


def _shapes(state: State) -> State:
    """The state with the shape of each tensor in its place."""
    return tuple(tuple(p.shape) if isinstance(p, Tensor) else _shapes(p) for p in state)


@torch.no_grad()
def _check_values(probe: _Probe) -> None:
    """A call changes none of its arguments, and a stream does not notice another one."""
    block, n = probe.block, _STREAMED_STEPS * probe.block.step
    streams = [(*probe.inputs(_BATCH, n), probe.random_state(_BATCH)) for _ in range(2)]
    alone = []
    for x, cond, state in streams:
        kept = x.clone(), None if cond is None else cond.clone(), clone_state(state)
        y, after = block.stream(x, state, cond)
        if _shapes(after) != _shapes(kept[2]):
            raise ContractError(
                f"stream changes the state's shapes from {_shapes(kept[2])} to {_shapes(after)}"
            )
        _require_equal_states(state, kept[2], "a call changed the state it was given")
        _require_equal(x, kept[0], "a call changed the x it was given")
        if cond is not None and kept[1] is not None:
            _require_equal(cond, kept[1], "a call changed the cond it was given")
        alone.append(_outputs(y))
    states, pieces = [state for *_, state in streams], [[], []]  # type: ignore[var-annotated]
    for start in range(0, n, block.step):
        for i, (x, cond, _) in enumerate(streams):
            part = slice(start, start + block.step)
            given = None if cond is None else cond[..., part]
            y, states[i] = block.stream(x[..., part], states[i], given)
            pieces[i].append(_outputs(y))
    for own, whole in zip(pieces, alone, strict=True):
        for i, parts in enumerate(zip(*own, strict=True)):
            joined = torch.cat(parts, dim=-1)
            _require_equal(
                joined, whole[i], f"output {i} of two streams taken in turns, a step each"
            )


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
        start = map_state(lambda part: part.clone().requires_grad_(part.is_floating_point()), state)
        y, after = _run(block, leaves[0], leaves[1] if cond is not None else None, start, lengths)
        named = [(f"output {i}", part) for i, part in enumerate(y)]
        named += [
            (f"tensor {i} of the state", part)
            for i, part in enumerate(flatten_state(after))
            if part.is_floating_point()
        ]
        if not weights:
            weights.extend(probe.randn(*part.shape) for _, part in named)
        total = sum((part * w).sum() for (_, part), w in zip(named, weights, strict=True))
        parameters = dict(block.named_parameters())
        sources = {"x": leaves[0]} | ({"cond": leaves[1]} if cond is not None else {})
        sources |= {
            f"tensor {i} of the state": part
            for i, part in enumerate(flatten_state(start))
            if part.requires_grad
        }
        sources |= parameters
        if not isinstance(total, Tensor) or not total.requires_grad:
            raise ContractError("no gradient leads from the outputs back to x")
        gradients = torch.autograd.grad(
            total, list(sources.values()), allow_unused=True, materialize_grads=True
        )
        named += [
            (f"gradient of {name}", gradient)
            for name, gradient in zip(sources, gradients, strict=True)
        ]
        return named

    whole = results([n])
    for how, lengths in (("chunks", probe.split(n)), ("one step at a time", [step] * (n // step))):
        cut = results(lengths)
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
        own = select_rows(state, [row])
        alone = probe.block.stream(x[one], own, None if cond is None else cond[one])[0]
        for i, (a, b) in enumerate(zip(_outputs(alone), together, strict=True)):
            _require_equal(a, b[one], f"row {row} of output {i} depends on the batch around it")


def _check_past(probe: _Probe, module: Causal, seed: int) -> None:
    """The gradient of x reaches exactly ``past`` samples back.

    Some weights may block the way, such as a ReLU that is never above zero: a reach that is too
    short is confirmed with others.
    """
    reach, past = _reach(probe), probe.block.past
    for attempt in range(1, _REACH_ATTEMPTS):
        if reach >= past:
            break
        reach = max(reach, _reach(_Probe.of(module, seed + attempt)))
    if reach != past:
        found = f"reaches back {reach} samples" if reach >= 0 else "is zero"
        raise ContractError(f"past is {past}, but the gradient of x {found}")


def _reach(probe: _Probe) -> int:
    """How far back the gradient of x reaches from the outputs of one period; -1 if it is zero."""
    block, step = probe.block, probe.block.step
    period = max(1, int(step * block.rate))
    start = block.init_state(period, dtype=torch.float64)
    # Long enough to see a reach beyond `past`, as far back as the state can remember.
    remembered = sum(max(part.shape[1:], default=0) for part in flatten_state(start))
    n = (max(math.ceil(block.past / step), remembered) + _STREAMED_STEPS) * step
    x, cond = probe.inputs(period, n)
    x.requires_grad_()
    y = _outputs(block.stream(x, start, cond)[0])
    # Row i of the batch watches output n_out - 1 - i: one backward pass serves all of a period.
    watched = [y[0].shape[-1] - 1 - i for i in range(period)]
    total = sum(
        part[i, :, at] @ probe.randn(part.shape[1]) for part in y for i, at in enumerate(watched)
    )
    assert isinstance(total, Tensor)
    (gradient,) = torch.autograd.grad(total, x, allow_unused=True, materialize_grads=True)
    reach = -1
    for i, at in enumerate(watched):
        heard = gradient[i].abs().sum(0).nonzero()
        if len(heard):
            reach = max(reach, math.floor(at / block.rate) - int(heard[0]))
    return reach


def _check_warm_state(probe: _Probe) -> None:
    """``warm_state`` equals the state after streaming silence, and then silence with cond."""
    block, batch = probe.block, 2
    n = (2 * math.ceil(block.past / block.step) + _STREAMED_STEPS) * block.step
    more = 2 * block.step
    channels = block.cond_channels
    cond = None if channels is None else probe.randn(batch, channels, more)
    first = None if cond is None else cond[..., :1]
    silence = torch.zeros(batch, block.in_channels, n, dtype=torch.float64)
    start = block.init_state(batch, dtype=torch.float64)
    streamed = block.stream(silence, start, first)[1]
    warm = block.warm_state(batch, first, dtype=torch.float64)
    _require_equal_states(warm, streamed, f"warm_state against streaming {n} samples of silence")
    if cond is not None:
        streamed = block.stream(silence[..., :more], streamed, cond)[1]
        warm = block.warm_state(batch, cond, dtype=torch.float64)
        _require_equal_states(warm, streamed, f"warm_state with {more} columns of cond")


def _check_forward(probe: _Probe) -> None:
    """``forward(x, cond)`` computes what ``stream`` from ``init_state`` does.

    A model whose forward takes other arguments (it makes its conditioning itself) is left alone.
    """
    block = probe.block
    others = list(inspect.signature(block.forward).parameters)[1:]
    if others not in ([], ["cond"]):
        return
    x, cond = probe.inputs(_BATCH, _STREAMED_STEPS * block.step)
    streamed = block.stream(x, block.init_state(_BATCH, dtype=torch.float64), cond)[0]
    whole = block(x) if cond is None else block(x, cond)
    for i, (a, b) in enumerate(zip(_outputs(whole), _outputs(streamed), strict=True)):
        _require_equal(a, b, f"output {i} of forward against stream from init_state")


def _check_wrong_state(probe: _Probe) -> None:
    """A state of wrong shapes raises ValueError, and the message shows the right code."""
    block = probe.block
    right = block.init_state(_BATCH, dtype=torch.float64)
    if not list(flatten_state(right)):
        return
    wrong: dict[str, State] = {
        "for another batch size": block.init_state(_BATCH + 1, dtype=torch.float64),
        "of one sample more": map_state(lambda part: F.pad(part, (0, 1)), right),
        "that is empty": (),
    }
    x, cond = probe.inputs(_BATCH, block.step)
    for what, state in wrong.items():
        try:
            block.stream(x, state, cond)
        except ValueError as error:
            if "init_state" not in str(error):
                raise ContractError(
                    f"the error for a state {what} must name init_state, but says: {error}"
                ) from None
        except Exception as error:
            raise ContractError(
                f"a state {what} must raise ValueError, not {type(error).__name__}: {error}"
            ) from error
        else:
            raise ContractError(f"a state {what} is taken without an error")
