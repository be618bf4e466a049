"""Means over utterances, and how far they can be trusted: bootstrap intervals.

An interval is that of the bias-corrected and accelerated bootstrap (BCa; Efron 1987, "Better
bootstrap confidence intervals", sections 2 and 3; scipy.stats.bootstrap), at 95%, over utterances
drawn with replacement from a generator with a fixed seed: the same values give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999
METHOD = f"BCa bootstrap over utterances, {RESAMPLES} resamples, {CONFIDENCE:.0%}"
_AT_ONCE = 500  # resamples held in memory


@dataclass(frozen=True)
class Mean:
    """The mean of a metric over utterances.

    Attributes:
        mean: the mean.
        low, high: ends of its 95% interval; None for less than two values, or without scipy.
        n: how many utterances have a value.
    """

    mean: float
    low: float | None
    high: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)


def mean_of(values: Sequence[float], seed: int = 0) -> Mean | None:
    """Mean and interval of finite values; None without any."""
    if not values:
        return None
    data = np.asarray(values, np.float64)
    mean = float(data.mean())
    if len(data) < 2 or not has_scipy():
        return Mean(mean, None, None, len(data))
    if np.ptp(data) <= 1e-12 * abs(mean):  # alike: nothing to resample
        return Mean(mean, mean, mean, len(data))
    from scipy.stats import bootstrap

    interval = bootstrap(
        (data,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        vectorized=True,
        batch=_AT_ONCE,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Mean(mean, float(interval.low), float(interval.high), len(data))


def has_scipy() -> bool:
    """Return whether intervals can be computed."""
    try:
        import scipy.stats  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True
