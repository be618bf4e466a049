"""Checks of a pair of recordings before training: delay, drift, clipping, level."""

from __future__ import annotations

import torch
from torch import Tensor

MAX_DELAY_S = 1.0
MARGIN = 1  # samples; a network can wait for what is late, and cannot know what is early
QUIET_DB = -60.0  # root mean square in dB of full scale below which a recording counts as silent
RUN = 3  # equal samples in a row at the peak that count as clipped


def delay_of(x: Tensor, y: Tensor, rate: int) -> int:
    """Samples that y ``[T]`` is late behind x ``[T]``: the lag of the largest cross-correlation.

    Both are differentiated first, or the bass decides; the sign does not count, as an amplifier may
    invert it. Lags from 0 to ``MAX_DELAY_S``.
    """
    size = 2 * max(len(x), len(y))
    spectra = [torch.fft.rfft(signal.diff().double(), size) for signal in (x, y)]
    correlation = torch.fft.irfft(spectra[0].conj() * spectra[1], size)
    return int(correlation[: round(MAX_DELAY_S * rate)].abs().argmax())


def drift_of(x: Tensor, y: Tensor, rate: int) -> int:
    """Difference of the delays of the last and of the first third, in samples."""
    third = min(len(x), len(y)) // 3
    first = delay_of(x[:third], y[:third], rate)
    return delay_of(x[2 * third :], y[2 * third :], rate) - first


def clipped_samples(y: Tensor) -> int:
    """Samples in runs of at least ``RUN`` equal ones at the peak."""
    peak = y.abs().max()
    flat = (y.abs() >= 0.9999 * peak).float()
    runs = torch.nn.functional.avg_pool1d(flat[None, None], RUN, 1)[0, 0] > 1 - 0.5 / RUN
    covered = torch.zeros(len(y), dtype=torch.bool)
    for i in range(RUN):
        covered[i : i + len(runs)] |= runs
    return int(covered.sum())


def level_db(y: Tensor) -> float:
    """Root mean square in dB of full scale."""
    return float(10 * torch.log10(y.square().mean() + 1e-12))


def findings(x: Tensor, y: Tensor, rate: int) -> list[str]:
    """A line for everything in the pair that will cost accuracy.

    Raises:
        SystemExit: if nothing can be learnt from it, with the remedy.
    """
    for name, signal in (("dry", x), ("wet", y)):
        if level_db(signal) < QUIET_DB:
            raise SystemExit(
                f"--{name}: {level_db(signal):.0f} dB of full scale is silence; record it louder"
            )
    found = []
    if clipped := clipped_samples(y):
        found.append(f"wet: {clipped} samples are clipped at its peak; record it quieter")
    if abs(len(x) - len(y)) > rate:
        seconds = (len(y) - len(x)) / rate
        found.append(f"wet is {seconds:+.1f} s longer than dry; only what both have is used")
    if abs(drift := drift_of(x, y, rate)) > 1:
        found.append(
            f"wet drifts by {drift:+d} samples from begin to end: the devices ran on two clocks; "
            "record both on one"
        )
    return found
