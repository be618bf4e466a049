"""A pair to train on where no amplifier is at hand: plucked strings, and a simulated amplifier.

The strings are Karplus and Strong's (1983): noise that circulates through a delay line and a
two-point average. The amplifier is a chain that a tube amplifier has: a high-pass, a stage that
saturates unevenly, a tone filter, a second stage, and a loudspeaker's band. It runs at four times
the rate, so that what saturation adds beyond half the sample rate does not fold back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wavenet.audio import resample

SAMPLE_RATE = 48_000
OVERSAMPLING = 4
OPEN_STRINGS_HZ = (82.41, 110.0, 146.83, 196.0, 246.94, 329.63)  # of a guitar


def dry(duration_s: float, seed: int = 0) -> Tensor:
    """Plucks and chords of all loudnesses, ``[T]`` in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    n = round(duration_s * SAMPLE_RATE)
    x = torch.zeros(n)
    at = 0
    while at < n:
        level = 10 ** (draw(-24, -3) / 20)
        for _ in range(1 + int(draw(0, 3.999))):
            string = OPEN_STRINGS_HZ[int(draw(0, 5.999))] * 2 ** (int(draw(0, 12.999)) / 12)
            note = pluck(string, draw(0.3, 1.5), generator)[: n - at]
            x[at : at + len(note)] += level * note
        at += round(draw(0.08, 0.6) * SAMPLE_RATE)
    return 0.9 * x / x.abs().max()


def pluck(frequency_hz: float, duration_s: float, generator: torch.Generator) -> Tensor:
    """One string, ``[T]``: y[t] = decay (y[t - p] + y[t - p - 1]) / 2 after p samples of noise."""
    period = max(2, round(SAMPLE_RATE / frequency_hz - 0.5))
    n = round(duration_s * SAMPLE_RATE)
    line = torch.rand(period + 1, generator=generator) * 2 - 1
    rounds = [line[1:]]
    last = line[0]
    for _ in range(n // period):
        before = torch.cat([last[None], rounds[-1][:-1]])
        last = rounds[-1][-1]
        rounds.append(0.996 * 0.5 * (rounds[-1] + before))
    return torch.cat(rounds)[:n] * torch.linspace(1, 0, n).clamp(max=0.1) * 10


def wet(x: Tensor) -> Tensor:
    """What the amplifier makes of it, ``[T]`` to ``[T]``."""
    y = resample(x.double(), SAMPLE_RATE, OVERSAMPLING * SAMPLE_RATE)
    y = _filtered(y, *_biquad("high", 90.0, 0.7))
    y = _saturated(12 * y, 0.25)
    y = _filtered(y, *_biquad("high", 30.0, 0.7))  # a capacitor: takes the offset away
    y = _filtered(y, *_biquad("peak", 700.0, 0.6, gain_db=-5.0))
    y = _saturated(2.5 * y, 0.1)
    y = _filtered(y, *_biquad("high", 70.0, 1.1))
    y = _filtered(y, *_biquad("peak", 2800.0, 1.0, gain_db=5.0))
    y = _filtered(y, *_biquad("low", 5000.0, 0.8))
    y = resample(y, OVERSAMPLING * SAMPLE_RATE, SAMPLE_RATE)[: len(x)]
    return (0.4 * y).float()


def _saturated(x: Tensor, bias: float) -> Tensor:
    """tanh around a working point off the middle: even harmonics too; silence stays silence."""
    return torch.tanh(x + bias) - math.tanh(bias)


def _biquad(
    kind: str, frequency_hz: float, quality: float, gain_db: float = 0.0
) -> tuple[list[float], list[float]]:
    """Numerator and denominator of a second-order filter (Bristow-Johnson's audio EQ cookbook)."""
    w = 2 * math.pi * frequency_hz / (OVERSAMPLING * SAMPLE_RATE)
    cosine, alpha = math.cos(w), math.sin(w) / (2 * quality)
    if kind == "peak":
        a = 10 ** (gain_db / 40)
        return (
            [1 + alpha * a, -2 * cosine, 1 - alpha * a],
            [1 + alpha / a, -2 * cosine, 1 - alpha / a],
        )
    sign = 1 if kind == "low" else -1
    edge = (1 - sign * cosine) / 2
    return [edge, sign * 2 * edge, edge], [1 + alpha, -2 * cosine, 1 - alpha]


def _filtered(x: Tensor, numerator: list[float], denominator: list[float]) -> Tensor:
    """The filter's response on a circle that is long enough for it to die away."""
    n = 1 << (len(x) + OVERSAMPLING * SAMPLE_RATE).bit_length()
    turn = torch.exp(-2j * math.pi * torch.arange(n // 2 + 1, dtype=torch.float64) / n)
    b, a = (c[0] + c[1] * turn + c[2] * turn**2 for c in (numerator, denominator))
    return torch.fft.irfft(torch.fft.rfft(x, n) * (b / a), n)[: len(x)]
