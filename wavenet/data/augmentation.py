"""Augmented training audio: pitches, levels and frequency responses that a corpus lacks.

An augmented recording y is computed from a recording x by these operations, in this order:

1. resampling, y[n] = x(rate n) by a Kaiser-windowed sinc: pitch and formants move together, and the
   recording becomes ``rate`` times shorter;
2. a second-order filter (1 + b1 z^-1 + b2 z^-2) / (1 + a1 z^-1 + a2 z^-2), as LPCNet has it (Valin
   and Skoglund 2019, section 3.2);
3. a gain that brings its peak to a level drawn from 40 dB, and a sign;
4. triangular dither and rounding to 16 bits.

All random numbers come from one generator, so that (seed, index) of a window determine them. A
section of y needs only a section of x: long recordings cost no more than short ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wavenet.data.corpus import Utterance
from wavenet.data.shards import StoredSamples

RATES = (0.75, 1.35)
"""Smallest and largest resampling rate; logarithms of rates are drawn uniformly."""
PEAKS_DB = (-40.0, 0.0)
"""Lowest and highest peak level, in dB of full scale."""
LARGEST_COEFFICIENT = 0.375
"""Largest coefficient of the second-order filter; its poles stay within a radius of 0.83."""
RESPONSE_SAMPLES = 128
"""Length of the filter's impulse response, truncated more than 200 dB below its beginning."""
_ZERO_CROSSINGS, _KAISER_BETA, _PASSBAND = 16, 8.0, 0.95
_PHASES = 256
"""Delays within a sample for which a kernel is tabulated; between them it is interpolated."""

_VALUES_PER_COUNT = 4
"""Values that Philox draws per count."""
_BLOCK = 1 << 16
"""Samples of a whole recording that are augmented at once, which bounds the memory for kernels."""

FloatArray = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Augmentation:
    """Random alterations of one recording.

    Attributes:
        rate: of resampling; above 1 raises pitch and formants.
        peak_db: level of the altered recording's peak in dB of full scale, about.
        sign: 1 or -1.
        zeros: b1 and b2 of the filter.
        poles: a1 and a2 of the filter.
    """

    rate: float
    peak_db: float
    sign: int
    zeros: tuple[float, float]
    poles: tuple[float, float]

    @classmethod
    def draw(cls, random: np.random.Generator) -> Augmentation:
        """Return random alterations."""
        rate = math.exp(random.uniform(*np.log(RATES)))
        peak_db = random.uniform(*PEAKS_DB)
        sign = 1 if random.random() < 0.5 else -1
        b1, b2, a1, a2 = random.uniform(-LARGEST_COEFFICIENT, LARGEST_COEFFICIENT, 4).tolist()
        return cls(rate, peak_db, sign, (b1, b2), (a1, a2))

    def length(self, n_samples: int) -> int:
        """Number of samples that a recording of n_samples has afterwards."""
        return max(1, math.floor(n_samples / self.rate))

    def section(self, utterance: Utterance, first: int, stop: int) -> FloatArray:
        """Return samples ``first .. stop - 1`` of the result, before dither and rounding.

        Args:
            utterance: the recording.
            first: in the altered recording; may be negative.
            stop: after the last sample.
        """
        response = self._impulse_response()
        before = len(response) - 1
        y = resampled(utterance.samples, self.rate, first - before, stop)
        peak = max(1, utterance.peak) / 32768
        scale = self.sign * 10 ** (self.peak_db / 20) / (peak * float(np.linalg.norm(response)))
        return np.convolve(y, response * scale, mode="valid")

    def _impulse_response(self) -> FloatArray:
        """Impulse response of the second-order filter, ``[RESPONSE_SAMPLES]``."""
        response = np.zeros(RESPONSE_SAMPLES)
        forward = (1.0, *self.zeros)
        for n in range(RESPONSE_SAMPLES):
            value = forward[n] if n < len(forward) else 0.0
            for k, a in enumerate(self.poles, 1):
                value -= a * response[n - k] if n >= k else 0.0
            response[n] = value
        return response


class AugmentedUtterance:
    """A section of an augmented recording, used by windows like an ``Utterance``.

    Args:
        utterance: the recording.
        augmentation: its alterations.
        first: the section's first sample, in the altered recording.
        stop: after its last sample.
        random: source of the dither; that of sample n does not depend on the section.
    """

    def __init__(
        self,
        utterance: Utterance,
        augmentation: Augmentation,
        first: int,
        stop: int,
        random: np.random.Philox,
    ) -> None:
        self.speaker = utterance.speaker
        self.n_samples = augmentation.length(len(utterance.samples))
        self.first = max(0, first)
        stop = min(stop, self.n_samples)
        values = augmentation.section(utterance, self.first, stop) * 32768
        values += _dither(random, self.first, len(values))
        self._values = (np.clip(np.rint(values), -32768, 32767) / 32768).astype(np.float32)

    def audio(self, first: int, stop: int) -> Tensor:
        """Return samples ``first .. stop - 1``, float32, with silence outside the recording."""
        out = torch.empty(stop - first)
        self.write_audio(first, out.numpy())
        return out

    def write_audio(self, first: int, out: np.ndarray) -> None:
        """Fill out, float32 ``[T]``, with the samples from ``first`` on, as ``audio`` does.

        Raises:
            IndexError: if some of them are in the recording but outside of the section.
        """
        low, high = max(first, 0), min(first + len(out), self.n_samples)
        if high <= low:
            out[:] = 0
            return
        if low < self.first or high > self.first + len(self._values):
            raise IndexError(
                f"samples {low} to {high} are outside of the section {self.first} to "
                f"{self.first + len(self._values)}; make a longer one"
            )
        out[: low - first] = out[high - first :] = 0
        out[low - first : high - first] = self._values[low - self.first : high - self.first]


class AugmentedRecording:
    """An augmented recording as conditions ask about it: any part of it, made when it is asked for.

    Args:
        utterance: the recording.
        augmentation: its alterations.
        dither: makes the source of its dither, anew for each call.
    """

    def __init__(
        self,
        utterance: Utterance,
        augmentation: Augmentation,
        dither: Callable[[], np.random.Philox],
    ) -> None:
        self.speaker = utterance.speaker
        self.n_samples = augmentation.length(utterance.n_samples)
        self._utterance, self._augmentation, self._dither = utterance, augmentation, dither

    def audio(self, first: int, stop: int) -> Tensor:
        """Samples ``first .. stop - 1``, float32, with silence outside the recording."""
        out = torch.zeros(stop - first)
        for begin in range(max(first, 0), min(stop, self.n_samples), _BLOCK):
            end = min(begin + _BLOCK, stop)
            part = AugmentedUtterance(
                self._utterance, self._augmentation, begin, end, self._dither()
            )
            out[begin - first : end - first] = part.audio(begin, end)
        return out


def _dither(random: np.random.Philox, first: int, count: int) -> FloatArray:
    """Triangular noise from -1 to 1 for samples ``first .. first + count - 1``."""
    skipped, extra = divmod(first, _VALUES_PER_COUNT)
    uniform = np.random.Generator(random.advance(skipped)).random(extra + count)[extra:]
    rising = np.sqrt(2 * np.minimum(uniform, 0.5)) - 1
    falling = 1 - np.sqrt(2 * np.minimum(1 - uniform, 0.5))
    noise: FloatArray = np.where(uniform < 0.5, rising, falling)
    return noise


def resampled(
    samples: np.ndarray | StoredSamples, rate: float, first: int, stop: int
) -> FloatArray:
    """Return ``x(rate n)`` for n from first to stop - 1, in [-1, 1], of int16 samples x ``[T]``.

    Band-limited interpolation (Smith 1984) by a sinc under a Kaiser window; x is silent outside.
    """
    cutoff = _PASSBAND * min(1.0, 1.0 / rate)
    half = math.ceil(_ZERO_CROSSINGS / cutoff)
    at = np.arange(first, stop) * rate
    whole = np.floor(at).astype(np.int64)
    low, high = int(whole[0]) - half, int(whole[-1]) + half + 2
    section = np.zeros(high - low)
    inside = slice(max(low, 0), max(0, min(high, len(samples))))
    if inside.stop > inside.start:
        section[inside.start - low : inside.stop - low] = samples[inside] / 32768
    kernels = _kernels(cutoff, half)
    phase = (at - whole) * _PHASES
    row = phase.astype(np.int64)
    share = (phase - row)[:, None]
    kernel = kernels[row] + share * (kernels[row + 1] - kernels[row])
    near = np.lib.stride_tricks.sliding_window_view(section, kernels.shape[1])[whole - low - half]
    result: FloatArray = np.einsum("nk,nk->n", near, kernel)
    return result


def _kernels(cutoff: float, half: int) -> np.ndarray:
    """Kernels of a low-pass for delays of 0 to 1 sample, ``[_PHASES + 1, 2 half + 1]``."""
    delay = np.arange(_PHASES + 1)[:, None] / _PHASES
    distance = delay - np.arange(-half, half + 1)
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (distance / (half + 1)) ** 2, 0, None)))
    kernels: np.ndarray = cutoff * np.sinc(cutoff * distance) * window / np.i0(_KAISER_BETA)
    return kernels
