"""Causal blocks inside a module: each becomes a node of the network, as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.conversion.joins import CANONICAL
from wavenet.conversion.signals import OTHER_AXES, Call, Signal
from wavenet.conversion.tracing import Tracer
from wavenet.nn.bases import InputHistory
from wavenet.nn.causal import Causal
from wavenet.nn.chain import Select


def outside_blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Return a module and those inside it, without the parts of causal blocks."""
    yield module
    if not isinstance(module, Causal):
        for child in module.children():
            yield from outside_blocks(child)


def forward_of(tracer: Tracer, block: Causal) -> Callable[..., Any]:
    """Return what runs in the place of a causal block's ``forward``."""

    def forward(x: Tensor, cond: Tensor | None = None, **others: Any) -> Any:
        if not isinstance(x, Signal):  # numbers that do not depend on the signal
            return type(block).forward(block, x, cond, **others)
        if cond is not None or others or block.cond_channels is not None:
            raise tracer.refusal("takes a conditioning or a state; only the signal is followed")
        if x.axes != CANONICAL:
            raise tracer.refusal(
                f"takes its input not as [B, C, T]; transpose it before, {OTHER_AXES}"
            )
        return _noted(tracer, block, x, Call(tracer, forward, (x,), {}))

    return forward


def _noted(tracer: Tracer, block: Causal, x: Signal, call: Call) -> Any:
    """Note the block, and a ``Select`` for each of several outputs; return these."""
    with torch._C.DisableTorchFunctionSubclass():
        outputs = _outputs_of_zeros(tracer, block, x)
    wait = max(0, -x.timing.shift)
    wait += -(x.timing.shift + wait) % block.step
    timing = x.timing.waiting(wait).at_rate(block.rate)
    if tracer.exact and timing.shift and not _forgets_zeros(block):
        raise tracer.refusal(
            "is behind a layer that looks ahead, and a recurrent layer would remember what it "
            "makes of the delay; pad the layers before it on the left alone"
        )
    value = tracer.waiting(tracer.begun(x), wait)
    several, delay = isinstance(outputs, tuple), block.delay / x.timing.rate
    parts = outputs if several else (outputs,)
    value = tracer.note(block, value, channels=int(parts[0].shape[1]), delay=delay)
    made = []
    for i, part in enumerate(parts):
        n = int(part.shape[1])
        one = tracer.note(Select(i), value, channels=n, loose=True) if several else value
        columns = int(x.shape[-1] // block.step * block.step * block.rate)
        with torch._C.DisableTorchFunction():
            like = torch.empty(x.shape[0], n, columns, device="meta", dtype=part.dtype)
        made.append(tracer.signal(call, like, one, timing))
    return tuple(made) if several else made[0]


def _outputs_of_zeros(tracer: Tracer, block: Causal, x: Signal) -> Any:
    """Return what the block makes of the smallest number of zeros, for the shapes.

    Raises:
        ValueError: if the block does not take as many channels.
    """
    device = next((one.device for one in block.parameters()), torch.device("cpu"))
    zeros = torch.zeros(1, x.channels, block.step, device=device, dtype=x.dtype)
    return block.stream(zeros, block.init_state(1, device=device, dtype=x.dtype))[0]


def _forgets_zeros(block: Causal) -> bool:
    """Return whether zeros in front of a signal leave the block in its first state."""
    return isinstance(block, InputHistory) or not (block.unbounded or block.past)
