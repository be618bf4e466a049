"""``check_causal``: verify the contract of causal blocks, ours and those defined elsewhere.

A causal block is one equation, ``stream(x, state) -> (y, state')`` (see ``wavenet.nn.causal``).
The check verifies, in float64 on a copy with random weights, what follows from it:

1. whole = chunks = one sample at a time, in outputs and in gradients;
2. no output depends on a later input, nor on a later column of the conditioning;
3. the rows of a batch are independent;
4. ``past`` is the reach of the gradient of x, neither more nor less; of an ``unbounded`` block the
   gradient reaches the first sample, and ``past`` raises ``UnboundedPastError``;
5. a state is a value: it is not changed, its shapes stay, its memory is not that of x or of the
   conditioning, and two streams do not meet;
6. ``warm_state`` is what streaming silence leads to (not of an ``unbounded`` block: that takes no
   known time), ``forward`` is ``stream`` from ``init_state``;
7. a state of the wrong shape raises ValueError, which names the remedy.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.nn.causal import Causal
from wavenet.nn.gradients import through_states
from wavenet.nn.hooks import uncompiled, unwrapped
from wavenet.nn.state import State, clone_state, flatten_state, map_state, select_rows
from wavenet.testing.past import check_past, check_unbounded
from wavenet.testing.probe import (
    BATCH,
    STREAMED_STEPS,
    TOLERANCE,
    Comparison,
    ContractError,
    Probe,
    Rounding,
    compare_states,
    outputs_of,
    shapes_of,
    stream_in_pieces,
)
from wavenet.values.meta_device import require_values

_ROUNDED = 2
"""Times that what rounding may be is measured."""

Check = Callable[[Probe], Iterator[Comparison]]
"""Yields what must be equal of a block."""


def check_causal(module: Causal, *, seed: int = 0, device: torch.device | str = "cpu") -> None:
    """Raise unless the block keeps the contract, listed at the top of this module.

    The block itself is not changed: the check works on a float64 copy in evaluation mode whose
    parameters are drawn anew, so that weights initialised to zero hide nothing. What acts
    otherwise in training mode, as dropout and ``nn.BatchNorm1d``, is not checked there. Of a block
    that ``torch.compile`` has wrapped the block itself is checked; compiled parts run as they are.

    >>> net = wavenet.Chain(wavenet.CausalConv1d(1, 8, 3, dilation=2), nn.ReLU())
    >>> check_causal(net)

    Args:
        module: any ``Causal`` block, for ``[B, in_channels, T]``.
        seed: of the random weights, inputs and chunk lengths.
        device: on which the copy is checked, such as ``"cuda"``; it must know float64.

    Raises:
        ContractError: if a part of the contract is broken; the message names it.
        TypeError: if the module is no ``Causal``.
        ValueError: if it is on the meta device.
    """
    module = cast(Causal, unwrapped(module)) if isinstance(module, nn.Module) else module
    if not isinstance(module, Causal):
        raise TypeError(
            f"check_causal takes a Causal block, not {type(module).__name__}; derive it from "
            "wavenet.nn.Causal and define past, init_state and stream"
        )
    require_values(module, "module")
    with through_states(), uncompiled():
        _check(module, seed, torch.device(device))


def _check(module: Causal, seed: int, device: torch.device) -> None:
    """Run all checks, in the order of the top of this module."""
    probe = Probe.of(module, seed, device)
    for check in (_values, _chunks, _no_future, _rows):
        _require(check, probe)
    if probe.block.unbounded:
        check_unbounded(probe, module, seed)
    else:
        check_past(probe, module, seed)
        _require(_warm_state, probe)
    _require(_forward, probe)
    _check_wrong_state(probe)


def _require(check: Check, probe: Probe) -> None:
    """Raise ContractError unless all that a check compares is equal, but for rounding.

    The tolerance for rounding is measured by ``Rounding`` where a difference is found.
    """
    drawn, rounded = probe.generator.get_state(), list[list[Comparison]]()
    for i, compared in enumerate(check(probe)):
        if compared.difference <= TOLERANCE * compared.scale:
            continue
        if not rounded:
            rounded = [_rounded(check, probe.copy(drawn), seed) for seed in range(_ROUNDED)]
        same = (Comparison(compared.what, other[i].b, compared.b) for other in rounded)
        compared.require(max(one.difference for one in same))


def _rounded(check: Check, probe: Probe, seed: int) -> list[Comparison]:
    """Run a check with weights, inputs and operations perturbed by a few roundings."""
    with Rounding(seed):
        for parameter in probe.block.parameters():
            parameter.data = parameter.data * 1
        return list(check(probe))


def _check_memory(state: State, *given: Tensor | None) -> None:
    """Raise ContractError for a state that changes when the caller writes the next samples into x.

    Args:
        state: after a call.
        given: what the call was given besides the state before.
    """
    taken = {one.untyped_storage().data_ptr() for one in given if one is not None}
    for i, part in enumerate(flatten_state(state)):
        if part.numel() and part.untyped_storage().data_ptr() in taken:
            raise ContractError(
                f"tensor {i} of the state is a view of x or of cond, whose memory the caller may "
                "use again; clone it"
            )


@torch.no_grad()
def _values(probe: Probe) -> Iterator[Comparison]:
    """A call changes none of its arguments, and streams are independent."""
    block, n = probe.block, STREAMED_STEPS * probe.block.step
    streams = [(*probe.inputs(BATCH, n), probe.random_state(BATCH)) for _ in range(2)]
    alone = []
    for x, cond, state in streams:
        kept = x.clone(), None if cond is None else cond.clone(), clone_state(state)
        y, after = block.stream(x, state, cond)
        if shapes_of(after) != shapes_of(kept[2]):
            raise ContractError(
                f"stream changes the state's shapes from {shapes_of(kept[2])} to {shapes_of(after)}"
            )
        _check_memory(after, x, cond)
        yield from compare_states(state, kept[2], "a call changed the state it was given")
        yield Comparison("a call changed the x it was given", x, kept[0])
        if cond is not None and kept[1] is not None:
            yield Comparison("a call changed the cond it was given", cond, kept[1])
        alone.append(outputs_of(y))
    states = [state for *_, state in streams]
    pieces: list[list[tuple[Tensor, ...]]] = [[], []]
    for start in range(0, n, block.step):
        for i, (x, cond, _) in enumerate(streams):
            part = slice(start, start + block.step)
            given = None if cond is None else cond[..., part]
            y, states[i] = block.stream(x[..., part], states[i], given)
            pieces[i].append(outputs_of(y))
    for own, whole in zip(pieces, alone, strict=True):
        for i, parts in enumerate(zip(*own, strict=True)):
            joined = torch.cat(parts, dim=-1)
            what = f"output {i} of two streams taken in turns, a step each"
            yield Comparison(what, joined, whole[i])


def _chunks(probe: Probe) -> Iterator[Comparison]:
    """Outputs, final states and gradients do not depend on how x is cut up."""
    step = probe.block.step
    n = STREAMED_STEPS * step
    stream = _Stream(probe, probe.random_state(BATCH), *probe.inputs(BATCH, n))
    whole = stream.results([n])
    for how, lengths in (("chunks", probe.split(n)), ("one step at a time", [step] * (n // step))):
        for (name, a), (_, b) in zip(stream.results(lengths), whole, strict=True):
            yield Comparison(f"{name}, in {how} against the whole (lengths {lengths})", a, b)


class _Stream:
    """One input and the state before it, to be streamed in several ways."""

    def __init__(self, probe: Probe, state: State, x: Tensor, cond: Tensor | None) -> None:
        self.probe, self.state, self.x, self.cond = probe, state, x, cond
        self._weights: list[Tensor] = []

    def results(self, lengths: list[int]) -> list[tuple[str, Tensor]]:
        """Return the named results of streaming x in pieces of these lengths.

        Outputs, the state afterwards, and the gradients of a weighted sum of both, with the same
        weights every time, in x, cond, the state before and the parameters.
        """
        sources = {"x": self.x.clone().requires_grad_()}
        if self.cond is not None:
            sources["cond"] = self.cond.clone().requires_grad_()
        start = map_state(
            lambda part: part.clone().requires_grad_(part.is_floating_point()), self.state
        )
        block = self.probe.block
        y, after = stream_in_pieces(block, sources["x"], sources.get("cond"), start, lengths)
        named = [(f"output {i}", part) for i, part in enumerate(y)]
        named += [(name, part) for name, part in _parts(after) if part.is_floating_point()]
        sources |= {name: part for name, part in _parts(start) if part.requires_grad}
        sources |= dict(block.named_parameters())
        return named + _gradients(self._weighed([part for _, part in named]), sources)

    def _weighed(self, parts: list[Tensor]) -> Tensor:
        if not self._weights:
            self._weights = [self.probe.randn(*part.shape) for part in parts]
        total = torch.zeros((), dtype=torch.float64, device=self.probe.device)
        for part, weight in zip(parts, self._weights, strict=True):
            total = total + (part * weight).sum()
        return total


def _parts(state: State) -> list[tuple[str, Tensor]]:
    return [(f"tensor {i} of the state", part) for i, part in enumerate(flatten_state(state))]


def _gradients(total: Tensor, sources: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    if not total.requires_grad:
        raise ContractError("no gradient leads from the outputs back to x")
    gradients = torch.autograd.grad(
        total, list(sources.values()), allow_unused=True, materialize_grads=True
    )
    return [(f"gradient of {name}", part) for name, part in zip(sources, gradients, strict=True)]


def _no_future(probe: Probe) -> Iterator[Comparison]:
    """Changing x and cond from some time on leaves the outputs before as they were."""
    block, step = probe.block, probe.block.step
    n = STREAMED_STEPS * step
    x, cond = probe.inputs(BATCH, n)
    state = probe.random_state(BATCH)
    reference = outputs_of(block.stream(x, state, cond)[0])
    for t in range(1, n):
        other_x, other_cond = probe.inputs(BATCH, n)
        changed_x = torch.cat([x[..., :t], other_x[..., t:]], dim=-1)
        changed_cond = cond
        if cond is not None and other_cond is not None:
            changed_cond = torch.cat([cond[..., :t], other_cond[..., t:]], dim=-1)
        n_before = math.ceil(t * block.rate)
        for i, (a, b) in enumerate(
            zip(outputs_of(block.stream(changed_x, state, changed_cond)[0]), reference, strict=True)
        ):
            what = f"output {i} before input sample {t} depends on samples from {t} on"
            yield Comparison(what, a[..., :n_before], b[..., :n_before])


def _rows(probe: Probe) -> Iterator[Comparison]:
    """Each row of a batch equals the same row alone."""
    x, cond = probe.inputs(BATCH, STREAMED_STEPS * probe.block.step)
    state = probe.random_state(BATCH)
    together = outputs_of(probe.block.stream(x, state, cond)[0])
    for row in range(BATCH):
        one = slice(row, row + 1)
        own = select_rows(state, [row])
        alone = probe.block.stream(x[one], own, None if cond is None else cond[one])[0]
        for i, (a, b) in enumerate(zip(outputs_of(alone), together, strict=True)):
            yield Comparison(f"row {row} of output {i} depends on the batch around it", a, b[one])


def _warm_state(probe: Probe) -> Iterator[Comparison]:
    """``warm_state`` equals the state after streaming silence, and then silence with cond."""
    block, batch = probe.block, 2
    factory: dict[str, Any] = {"device": probe.device, "dtype": torch.float64}
    n = (2 * math.ceil(block.past / block.period) + STREAMED_STEPS) * block.period
    more = 2 * block.period
    channels = block.cond_channels
    cond = None if channels is None else probe.randn(batch, channels, more)
    first = None if cond is None else cond[..., :1]
    silence = torch.zeros(batch, block.in_channels, n, **factory)
    start = probe.fresh_state(batch)
    streamed = block.stream(silence, start, first)[1]
    warm = block.warm_state(batch, first, **factory)
    yield from compare_states(
        warm, streamed, f"warm_state against streaming {n} samples of silence"
    )
    if cond is not None:
        streamed = block.stream(silence[..., :more], streamed, cond)[1]
        warm = block.warm_state(batch, cond, **factory)
        yield from compare_states(warm, streamed, f"warm_state with {more} columns of cond")


def _forward(probe: Probe) -> Iterator[Comparison]:
    """``forward(x, cond)`` computes what ``stream`` from ``init_state`` does.

    A model whose forward takes other arguments (it makes its conditioning itself) is left alone.
    """
    block = probe.block
    others = list(inspect.signature(block.forward).parameters)[1:]
    if others not in ([], ["cond"], ["cond", "state"]):
        return
    x, cond = probe.inputs(BATCH, STREAMED_STEPS * block.step)
    streamed = block.stream(x, probe.fresh_state(BATCH), cond)[0]
    whole = block(x) if cond is None else block(x, cond)
    for i, (a, b) in enumerate(zip(outputs_of(whole), outputs_of(streamed), strict=True)):
        yield Comparison(f"output {i} of forward against stream from init_state", a, b)


def _check_wrong_state(probe: Probe) -> None:
    """A state of wrong shapes raises ValueError, and the message shows the right code."""
    block = probe.block
    right = probe.fresh_state(BATCH)
    if not list(flatten_state(right)):
        return
    wrong: dict[str, State] = {
        "for another batch size": probe.fresh_state(BATCH + 1),
        "of one sample more": map_state(lambda part: F.pad(part, (0, 1)), right),
        "that is empty": (),
    }
    x, cond = probe.inputs(BATCH, block.step)
    for what, state in wrong.items():
        try:
            block.stream(x, state, cond)
        except ValueError as error:
            if "init_state" not in str(error):
                raise ContractError(
                    f"the error for a state {what} must name init_state, but is: {error}"
                ) from None
        except Exception as error:
            raise ContractError(
                f"a state {what} must raise ValueError, not {type(error).__name__}: {error}"
            ) from error
        else:
            raise ContractError(f"a state {what} is taken without an error")
