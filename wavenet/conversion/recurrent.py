"""Recurrent layers of torch as blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wavenet.conversion.onset import delayed_layers
from wavenet.conversion.signals import OTHER_AXES, Call, Signal
from wavenet.conversion.tracing import Tracer
from wavenet.nn.recurrent import GRU, LSTM


def forward_of(tracer: Tracer, rnn: nn.RNNBase) -> Callable[..., Any]:
    """Return what runs in the place of a recurrent module's ``forward``."""

    def forward(x: Tensor, hx: Any = None) -> tuple[Signal, None]:
        if not isinstance(rnn, nn.LSTM | nn.GRU):
            raise tracer.refusal("is no LSTM and no GRU; use one of them")
        _check(tracer, rnn, x, hx)
        assert isinstance(x, Signal)
        (value,), timing = tracer.aligned([x])
        call = Call(tracer, forward, (x,), {})
        if timing.start:
            for layer in delayed_layers(rnn, timing.start):
                value = tracer.note(layer, value, channels=rnn.hidden_size)
        else:
            kind = LSTM if isinstance(rnn, nn.LSTM) else GRU
            block = kind(rnn.input_size, rnn.hidden_size, num_layers=rnn.num_layers)
            block.rnn = rnn
            tracer.tasks.append(lambda: setattr(rnn, "batch_first", True))
            value = tracer.note(block, value, channels=rnn.hidden_size)
        shape = [rnn.hidden_size if axis == "C" else size for axis, size in _sizes(x)]
        with torch._C.DisableTorchFunction():
            like = torch.empty(shape, device="meta", dtype=x.dtype)
        return tracer.signal(call, like, value, timing, x.axes), None

    return forward


def _sizes(x: Signal) -> list[tuple[str, int]]:
    return list(zip(x.axes, x.shape, strict=True))


def _check(tracer: Tracer, rnn: nn.LSTM | nn.GRU, x: Any, hx: Any) -> None:
    expected = ("B", "T", "C") if rnn.batch_first else ("T", "B", "C")
    if rnn.bidirectional:
        raise tracer.refusal("runs backwards too, from the last sample; set bidirectional=False")
    if rnn.proj_size:
        raise tracer.refusal("has proj_size, which no block has; project behind it instead")
    if hx is not None:
        raise tracer.refusal("is given a first state; a stream begins with zeros")
    if not isinstance(x, Signal) or x.axes != expected:
        order = ", ".join(expected)
        raise tracer.refusal(f"takes its input as [{order}]; transpose it before, {OTHER_AXES}")
    if x.channels != rnn.input_size:
        raise tracer.refusal(f"takes {rnn.input_size} channels, but gets {x.channels}")
