"""Networks that run over all of the time: recurrent, attending, in loops, with global means."""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 4


class Over(nn.Module):
    """A part that takes and gives ``[B, T, C]``, on a signal ``[B, C, T]``."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(x.transpose(1, 2))
        return (y[0] if isinstance(y, tuple) else y).transpose(1, 2)


class CausalAttention(nn.Module):
    """Self-attention whose mask is written as people write it."""

    FORMS = ("layer", "layer of bool", "fused", "filled", "filled alike", "added", "chosen", "cut")

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.layer = nn.MultiheadAttention(CHANNELS, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        past = torch.ones(n, n, dtype=torch.bool).tril()
        if self.form.startswith("layer"):
            scores = nn.Transformer.generate_square_subsequent_mask(n)
            mask = ~past if self.form == "layer of bool" else scores
            return self.layer(x, x, x, attn_mask=mask)[0]
        if self.form == "fused":
            return F.scaled_dot_product_attention(x, x, x, is_causal=True)
        scores = x @ x.transpose(1, 2) / 2
        if self.form == "filled":
            scores = scores.masked_fill(~past, -torch.inf)
        if self.form == "filled alike":
            scores = scores.masked_fill(x.new_ones(n, n).tril() == 0, -1e9)
        if self.form == "added":
            scores = scores + torch.full((n, n), -torch.inf).triu(1)
        if self.form == "chosen":
            scores = torch.where(past, scores, torch.finfo(scores.dtype).min)
        if self.form == "cut":
            return scores.tril() @ x
        return scores.softmax(-1) @ x


class Loop(nn.Module):
    """A causal filter of a few taps as a loop over time, its results put together in one way."""

    def __init__(self, taps: int, joined: str) -> None:
        super().__init__()
        self.taps, self.joined = taps, joined

    def forward(self, x: Tensor) -> Tensor:
        written = torch.zeros_like(x)
        columns = []
        for t in range(x.shape[-1]):
            y = x[..., t]
            for lag in range(1, min(self.taps, t + 1)):
                y = y + 0.5 * x[..., t - lag]
            columns.append(y)
            if self.joined == "written":
                written[..., t] = y
        if self.joined == "written":
            return written
        if self.joined == "stack":
            return torch.stack(columns, -1)
        return torch.cat([column.unsqueeze(-1) for column in columns], -1)


class CellLoop(nn.Module):
    """A recurrent cell in a loop."""

    def __init__(self, cell: type[nn.GRUCell] | type[nn.LSTMCell]) -> None:
        super().__init__()
        self.cell = cell(CHANNELS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        columns = []
        for t in range(x.shape[-1]):
            state = self.cell(x[..., t], state)
            columns.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(columns, -1)


class Running(nn.Module):
    """A mean of all that came before."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(-1) / torch.arange(1, x.shape[-1] + 1)


class Squeeze(nn.Module):
    """A gate from the mean over time."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x.mean(-1, keepdim=True))


def random_network(seed: int) -> tuple[nn.Module, bool, bool]:
    """Return a network of such parts among convolutions, and what it is.

    Returns:
        The network, whether it has a finite field, and whether it is causal.
    """
    draw = random.Random(seed)
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    finite, causal = True, True
    for _ in range(draw.randint(1, 3)):
        kind = draw.choice(["gru", "lstm", "attention", "loop", "running", "squeeze", "both ways"])
        if kind == "gru":
            parts.append(Over(nn.GRU(CHANNELS, CHANNELS, batch_first=True)))
        if kind == "lstm":
            parts.append(Over(nn.LSTM(CHANNELS, CHANNELS, num_layers=2, batch_first=True)))
        if kind == "attention":
            parts.append(Over(CausalAttention(draw.choice(CausalAttention.FORMS))))
        if kind == "loop":
            parts.append(Loop(draw.randint(1, 4), draw.choice(["stack", "cat", "written"])))
        if kind == "running":
            parts.append(Running())
        if kind == "squeeze":
            parts.append(Squeeze())
        if kind == "both ways":
            half = nn.GRU(CHANNELS, CHANNELS // 2, batch_first=True, bidirectional=True)
            parts.append(Over(half))
        finite = finite and kind == "loop"
        causal = causal and kind not in ("squeeze", "both ways")
        size, dilation = draw.randint(1, 3), draw.choice([1, 2])
        parts.append(nn.ConstantPad1d((dilation * (size - 1), 0), 0.0))
        parts.append(nn.Conv1d(CHANNELS, CHANNELS, size, dilation=dilation))
        parts.append(draw.choice([nn.Tanh(), nn.ReLU(), nn.Identity()]))
    return nn.Sequential(*parts), finite, causal
