"""How far back the gradient of a causal block reaches, compared with what the block says."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from wavenet.nn.causal import Causal, UnboundedPastError
from wavenet.nn.state import flatten_state
from wavenet.testing.probe import STREAMED_STEPS, ContractError, Probe, outputs_of

_REACH_ATTEMPTS = 20


def check_unbounded(probe: Probe, module: Causal, seed: int) -> None:
    """The gradient of x reaches the first sample, and ``past`` is an error that says so.

    As for ``check_past``, other weights and samples are tried where some may block the way.
    """
    block = probe.block
    try:
        past = block.past
    except UnboundedPastError:
        pass
    else:
        raise ContractError(f"the block is unbounded, but past is {past}; raise UnboundedPastError")
    others = (Probe.of(module, seed + i, probe.device) for i in range(1, _REACH_ATTEMPTS))
    if not any(_reaches_first(one) for one in itertools.chain([probe], others)):
        raise ContractError("the block is unbounded, but no gradient reaches the first sample")


def _reaches_first(probe: Probe) -> bool:
    """Whether the gradient of x back from the last outputs reaches the first sample."""
    block = probe.block
    x, cond = probe.inputs(1, STREAMED_STEPS * block.step)
    x.requires_grad_()
    y = outputs_of(block.stream(x, probe.fresh_state(1), cond)[0])
    total = torch.stack([(part[0, :, -1] @ probe.randn(part.shape[1])) for part in y]).sum()
    if not total.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(total, x, allow_unused=True, materialize_grads=True)
    return bool(gradient[..., 0].any())


def check_past(probe: Probe, module: Causal, seed: int) -> None:
    """The gradient of x reaches exactly ``past`` samples back.

    Some weights may block the way, such as a ReLU that is never above zero: a reach that is too
    short is confirmed with others.
    """
    reach, past = _reach(probe), probe.block.past
    quantized = reach < 0
    for attempt in range(1, _REACH_ATTEMPTS):
        if reach >= past:
            break
        other = Probe.of(module, seed + attempt, probe.device)
        reach = max(reach, _reach_of_changes(other) if quantized else _reach(other))
    if quantized and reach > past:
        raise ContractError(f"past is {past}, but samples before that change the output")
    if reach != past:
        found = f"reaches back {reach} samples" if reach >= 0 else "is zero"
        raise ContractError(f"past is {past}, but the gradient of x {found}")


def _reach(probe: Probe) -> int:
    """Reach of the gradient of x back from the outputs of one period; -1 if it is zero."""
    block, step = probe.block, probe.block.period
    period = max(1, int(step * block.rate))
    start = probe.fresh_state(period)
    # Long enough to see a reach beyond `past`, as far back as the state can remember.
    remembered = sum(max(part.shape[1:], default=0) for part in flatten_state(start))
    n = (max(math.ceil(block.past / step), remembered) + STREAMED_STEPS) * step
    x, cond = probe.inputs(period, n)
    x.requires_grad_()
    y = outputs_of(block.stream(x, start, cond)[0])
    # Row i of the batch watches output n_out - 1 - i: one backward pass serves all of a period.
    watched = [y[0].shape[-1] - 1 - i for i in range(period)]
    total = sum(
        part[i, :, at] @ probe.randn(part.shape[1]) for part in y for i, at in enumerate(watched)
    )
    assert isinstance(total, Tensor)
    if not total.requires_grad:
        return -1
    (gradient,) = torch.autograd.grad(total, x, allow_unused=True, materialize_grads=True)
    reach = -1
    for i, at in enumerate(watched):
        nonzero = gradient[i].abs().sum(0).nonzero()
        if len(nonzero):
            reach = max(reach, math.floor(at / block.rate) - int(nonzero[0]))
    return reach


def _reach_of_changes(probe: Probe) -> int:
    """Reach of a block that quantizes its input, so that all gradients of x are zero.

    Returns:
        ``past`` if the sample that far back changes an output, more if earlier ones do, else -1.
    """
    block, past = probe.block, probe.block.past
    n = (math.ceil(past / block.period) + STREAMED_STEPS) * block.period
    x, cond = probe.inputs(1, n)
    noise = probe.randn(*x.shape)
    start = block.init_state(1, device=probe.device, dtype=torch.float64)

    def differs(begin: int, end: int, at: int) -> bool:
        changed = torch.cat([x[..., :begin], noise[..., begin:end], x[..., end:]], dim=-1)
        y = outputs_of(block.stream(changed, start, cond)[0])
        return any(
            not torch.equal(a[..., at], b[..., at]) for a, b in zip(y, reference, strict=True)
        )

    reach = -1
    with torch.no_grad():
        reference = outputs_of(block.stream(x, start, cond)[0])
        n_out = reference[0].shape[-1]
        for at in range(n_out - max(1, int(block.period * block.rate)), n_out):
            oldest = math.floor(at / block.rate) - past
            if differs(0, oldest, at):
                return past + 1
            if differs(oldest, oldest + 1, at):
                reach = past
    return reach
