"""Attention over a window of the past.

For each head, with q = Q x, k = K x, v = V x of D channels each (Vaswani et al. 2017, equation 1),
over the newest W = ``window_samples`` samples (a sliding window: Beltagy et al. 2020, section 3.1),
and with a trained number for each distance (Raffel et al. 2020, section 2.1):

    a[t, j] = softmax over j < W of (q[t] . k[t - j] / sqrt(D) + r[j])
    y[t]    = O sum_j a[t, j] v[t - j] + b

Time enters by the distance j alone, so a stream may begin anywhere. Samples before its beginning
are silence, to which k = v = 0 belongs: they are attended to as silence is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.nn.causal import Causal, check_positive
from wavenet.nn.state import State
from wavenet.nn.stft import check_state


class CausalAttention(Causal):
    """Self-attention over the newest ``window_samples`` samples: ``[B, C, T]`` to ``[B, C, T]``.

    A call takes time and memory in proportion to T times the window; it belongs where the rate is
    low, behind strided convolutions.

    >>> block = CausalAttention(8, heads=2, window_samples=16)
    >>> block.past, tuple(block(torch.randn(2, 8, 40)).shape)
    (15, (2, 8, 40))

    Args:
        channels: C.
        heads: number of heads, a divisor of C.
        window_samples: number of samples that an output attends to, its own included.

    Raises:
        ValueError: if a size is not a positive integer, or heads does not divide channels.
    """

    def __init__(self, channels: int, heads: int, window_samples: int) -> None:
        super().__init__()
        self.in_channels = self.out_channels = check_positive("channels", channels)
        self.heads = check_positive("heads", heads)
        self.window_samples = check_positive("window_samples", window_samples)
        if self.in_channels % self.heads:
            raise ValueError(f"heads={heads} must divide channels={channels}")
        self.inputs = nn.Conv1d(self.in_channels, 3 * self.in_channels, 1, bias=False)
        self.output = nn.Conv1d(self.in_channels, self.in_channels, 1)
        self.distance_bias = nn.Parameter(torch.empty(self.heads, self.window_samples))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the bias of each distance to zero; the projections draw their own weights."""
        nn.init.zeros_(self.distance_bias)

    @property
    def past(self) -> int:
        """``window_samples - 1`` samples."""
        return self.window_samples - 1

    def init_state(
        self,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> State:
        """``(k, v)``, each ``[B, C, window_samples - 1]``, zeros."""
        factory, shape = self._factory(device, dtype), (batch_size, self.in_channels, self.past)
        return torch.zeros(shape, **factory), torch.zeros(shape, **factory)

    def settle(self, x: Tensor, cond: Tensor | None = None) -> State:
        """Fill the state with keys and values of x, repeated."""
        _, *parts = self.inputs(x).chunk(3, dim=1)
        repeats = -(-self.past // x.shape[-1])
        repeated = [part.repeat(1, 1, repeats) for part in parts]
        return tuple(part[..., part.shape[-1] - self.past :].clone() for part in repeated)

    def stream(self, x: Tensor, state: State, cond: Tensor | None = None) -> tuple[Tensor, State]:
        """``[B, C, T]`` to ``[B, C, T]``; see ``Causal.stream``."""
        self.check_call(x, cond)
        check_state(self, state, [(x.shape[0], self.in_channels, self.past)] * 2)
        q, *parts = self.inputs(x).chunk(3, dim=1)
        k, v = (torch.cat(pair, dim=-1) for pair in zip(state, parts, strict=True))
        n = x.shape[-1]
        after = k.narrow(-1, n, self.past).clone(), v.narrow(-1, n, self.past).clone()
        return self.output(self._attend(q, k, v)), after

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """``[B, C, T]``, from k and v that begin ``window_samples - 1`` samples before q.

        Queries are taken in groups of a window's length, each with the keys of all its windows.
        """
        n = q.shape[-1]
        length = min(n, self.window_samples)
        missing = -n % length
        q, k, v = (F.pad(part, (0, missing)) for part in (q, k, v))
        queries = self._grouped(q, length, length)
        keys, values = (self._grouped(part, length + self.past, length) for part in (k, v))
        bias = self._bias(length).to(q.dtype)[None]
        y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        y = y.unflatten(0, (q.shape[0], -1)).permute(0, 2, 4, 1, 3)
        return y.reshape(q.shape[0], self.in_channels, -1)[..., :n]

    def _grouped(self, x: Tensor, size: int, step: int) -> Tensor:
        """Cut ``[B, C, T]`` into ``[B * groups, heads, size, D]``, a group every step samples."""
        groups = x.unflatten(1, (self.heads, -1)).unfold(-1, size, step)
        return groups.permute(0, 3, 1, 4, 2).flatten(0, 1)

    def _bias(self, length: int) -> Tensor:
        """``[heads, length, length + past]``: r of each distance, and -inf outside the window."""
        device = self.distance_bias.device
        query = torch.arange(length, device=device)[:, None] + self.past
        distance = query - torch.arange(length + self.past, device=device)
        outside = (distance < 0) | (distance > self.past)
        bias = self.distance_bias[:, distance.clamp(0, self.past)]
        return bias.masked_fill(outside, -torch.inf)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.in_channels}, {self.heads}, {self.window_samples}"
