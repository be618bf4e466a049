"""Randomness as an argument: the uniforms of a row depend on its seed and on time, nothing else.

A counter-based generator (Philox 4x64; Salmon et al. 2011) gives draw number i of a seed without
making those before it. So the same seed gives the same uniforms whatever the chunk length, the
batch around the row, the engine or the device.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavenet.values.integers import is_integer
from wavenet.values.text import short

_DRAWS_PER_COUNTER = 4
_AHEAD = 4096
"""Samples whose draws are made at once, so that asking for single samples costs little."""
_BITS = 23
"""Resolution of a uniform: (k + 1/2) / 2**23 is exact in float32 and never 0 or 1."""


def uniforms(seed: int, first: int, count: int) -> np.ndarray:
    """Draws ``first .. first + count - 1`` of a seed: float32 ``[count]``, inside (0, 1).

    Args:
        seed: any integer of at least 0.
        first: index of the first draw.
        count: how many.
    """
    skipped = first % _DRAWS_PER_COUNTER
    generator = np.random.Philox(key=seed % 2**128, counter=first // _DRAWS_PER_COUNTER)
    raw = generator.random_raw(skipped + count)[skipped:]
    return ((raw >> np.uint64(64 - _BITS)).astype(np.float32) + np.float32(0.5)) * np.float32(
        2.0**-_BITS
    )


def shaped_uniforms(
    seed: int, first: int, count: int, per_sample: int, shaping: float
) -> np.ndarray:
    """Uniforms of samples, with first-order noise shaping of the one that the quantile takes.

    ``z[t] = Phi^-1(u[t])`` is white Gaussian noise. It is filtered to
    ``(z[t] - b z[t - 1]) / sqrt(1 + b^2)``, and Phi makes uniforms of it again: of each sample as
    uniform as before, but with less power at low frequencies for b > 0, where hearing and measures
    of speech quality mind noise most. The first sample has nothing before it, and stays.

    Args:
        seed: any integer of at least 0.
        first: time of the first sample.
        count: samples.
        per_sample: U, uniforms that one sample takes; the last is the quantile's.
        shaping: b, from -1 to 1.

    Returns:
        float32 ``[count, U]``, inside (0, 1): a function of seed and time alone.
    """
    drawn = uniforms(seed, first * per_sample, count * per_sample).reshape(count, per_sample)
    if not shaping or not count:
        return drawn
    # Whole blocks from multiples of their length: vectorized code may round the same number
    # differently at another place in memory.
    blocks = range(first // _AHEAD, (first + count - 1) // _AHEAD + 1)
    shaped = np.concatenate([_shaped_block(seed, block, per_sample, shaping) for block in blocks])
    begin = first - blocks[0] * _AHEAD
    drawn[:, -1] = shaped[begin : begin + count]
    return drawn


def _shaped_block(seed: int, block: int, per_sample: int, shaping: float) -> np.ndarray:
    """Shaped uniforms of samples ``block * _AHEAD`` to the next block."""
    before = min(block, 1)
    first, count = block * _AHEAD - before, _AHEAD + before
    drawn = uniforms(seed, first * per_sample, count * per_sample).reshape(count, per_sample)
    noise = torch.special.ndtri(torch.from_numpy(drawn[:, -1].astype(np.float64)))
    if not before:
        noise = torch.cat([torch.zeros(1, dtype=torch.float64), noise])
    filtered = (noise[1:] - shaping * noise[:-1]) / math.sqrt(1 + shaping**2)
    if not before:
        filtered[0] = noise[1]
    steps = torch.special.ndtr(filtered).mul(2.0**_BITS).floor().clamp(0, 2**_BITS - 1)
    return ((steps + 0.5) * 2.0**-_BITS).numpy().astype(np.float32)


class UniformSource:
    """The uniforms of a batch, sample after sample.

    Args:
        seeds: one per row.
        per_sample: U, uniforms that one sample takes.
        times: time of each row's next sample; default, 0.
        shaping: of the noise, see ``shaped_uniforms``.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        per_sample: int,
        times: Sequence[int] | None = None,
        *,
        shaping: float = 0.0,
    ) -> None:
        self.seeds, self.per_sample, self.shaping = list(seeds), per_sample, shaping
        self._times = list(times or [0] * len(seeds))
        self._ahead = np.empty((len(seeds), per_sample, 0), np.float32)
        self._taken = 0  # of what was made ahead

    def take(self, n_samples: int) -> Tensor:
        """The next ``[B, U, n_samples]``, float32 on the CPU."""
        end = self._taken + n_samples
        if end > self._ahead.shape[2]:
            self._times = [time + self._taken for time in self._times]
            self._ahead = self._make(max(n_samples, _AHEAD))  # what was taken stays as it is
            self._taken, end = 0, n_samples
        taken = self._ahead[:, :, self._taken : end]  # numpy's views cost half of torch's
        self._taken = end
        return torch.from_numpy(taken)

    def _make(self, n_samples: int) -> np.ndarray:
        """``[B, U, n_samples]`` from the times on."""
        rows = [
            shaped_uniforms(seed, time, n_samples, self.per_sample, self.shaping)
            for seed, time in zip(self.seeds, self._times, strict=True)
        ]
        return np.stack(rows).transpose(0, 2, 1)


def row_seeds(seed: int | Sequence[int] | None, batch_size: int) -> list[int]:
    """One seed per row: an int s gives row i the seed s + i; None draws s from the system.

    Raises:
        ValueError: if a seed is negative or their number is not the batch size.
    """
    if seed is None:
        seed = secrets.randbits(62)
    seeds = integers("seed", seed)
    if not isinstance(_plain(seed), Sequence):
        seeds = [seeds[0] + row for row in range(batch_size)]
    if len(seeds) != batch_size:
        raise ValueError(
            f"seed has {len(seeds)} values for {batch_size} rows; give one int, or one per row"
        )
    if min(seeds) < 0:
        raise ValueError(f"seed={seed} must not be negative")
    return seeds


def integers(name: str, value: object) -> list[int]:
    """The value, an integer or several, also of an array or a tensor, as a list.

    Raises:
        ValueError: if it is anything else, or none.
    """
    plain = _plain(value)
    given = list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else [plain]
    whole = [int(one) for one in given if is_integer(one)]
    if not given or len(whole) < len(given):
        raise ValueError(f"{name}={short(value)} must be an integer, or one for each row")
    return whole


def _plain(value: Any) -> Any:
    """Return the value of an array of numpy or a tensor as Python's numbers; others as they are."""
    return value.tolist() if hasattr(value, "tolist") else value
