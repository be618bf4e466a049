"""An LSTM as the operations of its cell, sample after sample.

The exporter to ONNX has an operator for the layer, but takes the axes of its state for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Hidden = tuple[Tensor, Tensor]


@contextmanager
def unrolled(module: nn.Module) -> Iterator[None]:
    """Within, every LSTM inside a module runs as the operations of its cell."""
    layers = [part for part in module.modules() if isinstance(part, nn.LSTM)]
    for layer in layers:
        vars(layer)["forward"] = _cells(layer)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["forward"]


def _cells(lstm: nn.LSTM) -> Callable[[Tensor, Hidden], tuple[Tensor, Hidden]]:
    """Return the forward pass of an LSTM of one direction, batch first."""

    def forward(x: Tensor, state: Hidden) -> tuple[Tensor, Hidden]:
        hidden, cells = [], []
        for i in range(lstm.num_layers):
            x, h, c = _layer(lstm, i, x, state)
            hidden.append(h)
            cells.append(c)
        return x, (torch.stack(hidden), torch.stack(cells))

    return forward


def _layer(lstm: nn.LSTM, i: int, x: Tensor, state: Hidden) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs of layer i and its state after them (Hochreiter and Schmidhuber 1997)."""
    of_x, of_h = getattr(lstm, f"weight_ih_l{i}"), getattr(lstm, f"weight_hh_l{i}")
    bias_x, bias_h = (getattr(lstm, f"bias_{kind}_l{i}", None) for kind in ("ih", "hh"))
    h, c, outputs = state[0][i], state[1][i], []
    for t in range(x.shape[1]):
        gates = F.linear(x[:, t], of_x, bias_x) + F.linear(h, of_h, bias_h)
        written, kept, new, read = gates.chunk(4, dim=1)
        c = torch.sigmoid(kept) * c + torch.sigmoid(written) * torch.tanh(new)
        h = torch.sigmoid(read) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, dim=1), h, c
