"""The latency of a causal block: how long a sample waits until the output shows it.

It has two parts: the ``delay`` that blocks declare (of a ``Delay``, of the windows of a transform),
which adds up through a model, and the samples that a call waits for, ``step - 1``: the first of
``step`` samples is processed together with the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from wavenet.nn.causal import Causal, check_positive, require_causal


@dataclass(frozen=True)
class Latency:
    """The latency of a block, in samples of its input.

    >>> found = latency(CausalSTFT(512, 128), sample_rate=16000)
    >>> found.delay_samples, found.waiting_samples, str(found)
    (Fraction(512, 1), 127, '639 samples (39.94 ms)')

    Attributes:
        delay_samples: samples by which the output lags behind the input; a fraction where a block
            inside delays by less than a sample of the input.
        waiting_samples: samples after the first of a call that the call waits for, ``step - 1``.
        sample_rate: of the input in Hz, or None if unknown.
    """

    delay_samples: Fraction
    waiting_samples: int
    sample_rate: int | None

    @property
    def samples(self) -> int:
        """Both together, rounded up to whole samples."""
        return math.ceil(self.delay_samples + self.waiting_samples)

    @property
    def milliseconds(self) -> float | None:
        """Both together, or None without a sample rate."""
        if self.sample_rate is None:
            return None
        return float(1000 * (self.delay_samples + self.waiting_samples) / self.sample_rate)

    def __str__(self) -> str:
        """Samples, and milliseconds where they are known."""
        text = f"{self.samples} samples"
        return text if self.milliseconds is None else f"{text} ({self.milliseconds:.4g} ms)"


def latency(block: Causal, sample_rate: int | None = None) -> Latency:
    """The latency of a block or of a model made of blocks.

    >>> model = Chain(CausalSTFT(512, 128), CausalISTFT(512, 128))
    >>> str(latency(model, sample_rate=16000))
    '639 samples (39.94 ms)'

    Args:
        block: any causal block.
        sample_rate: of its input in Hz; default, the ``sample_rate`` of a model that has one.

    Raises:
        TypeError: if block is no causal block.
        ValueError: if sample_rate is no positive integer.
    """
    block = require_causal(block, "block")
    own = getattr(block, "sample_rate", None)
    rate = (own if isinstance(own, int) else None) if sample_rate is None else sample_rate
    rate = None if rate is None else check_positive("sample_rate", rate)
    return Latency(Fraction(block.delay), block.step - 1, rate)
