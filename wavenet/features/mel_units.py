"""Unit of a stored mel that differs from the model's: a guess from its lowest and highest value.

``log_mel`` of audio in [-1, 1] is between the logarithm of the floor and that of the largest
possible band. Values outside were computed otherwise; a model would turn them into noise.
"""

from __future__ import annotations

import math

from torch import Tensor

from wavenet.features.mel_config import MelConfig

_SLACK = 0.5
"""Tolerance of a natural logarithm, for other rounding and padding."""
_NEAR = 1e-3
_LOWER_FLOORS = 2.2
"""Factor of the logarithm of the floor: 1e-11 for a floor of 1e-5."""
_PER_DECADE = {"ln": math.log(10), "log10": 1.0}
_NAMES = {"ln": "natural logarithms", "log10": "log10"}


def unit_warning(
    config: MelConfig, filterbank: Tensor, lowest: float, highest: float
) -> str | None:
    """Describe what seems wrong with a mel, and the remedy; None for plausible values.

    Args:
        config: settings of the mels that the model was trained with.
        filterbank: ``[n_mels, n_fft // 2 + 1]``, the model's.
        lowest: value of the mel.
        highest: value of the mel.
    """
    largest = float(filterbank.sum(dim=1).max()) * (config.win_samples / 2) ** config.power
    floor, largest = math.log10(config.floor), math.log10(max(largest, config.floor))

    def fits(per_decade: float, below: float = floor) -> bool:
        """Return true for logarithms that increase by that much per decade."""
        slack = _SLACK * per_decade / math.log(10)
        return below * per_decade - slack <= lowest and highest <= largest * per_decade + slack

    own = _PER_DECADE[config.log]
    positive = floor < 0 <= lowest < highest
    at_floor_of_log10 = config.log == "ln" and abs(lowest - floor) < _NEAR
    if fits(own) and not positive and not at_floor_of_log10:
        return None
    decibels = 20.0 / config.power
    name = _NAMES[config.log]
    if positive and highest <= 2 * 10**largest:
        guess = f"magnitudes, not logarithms? take {name} of max(mel, {config.floor:g})"
    elif positive:
        guess = f"powers, not logarithms? take {name} of the roots, at least {config.floor:g}"
    elif at_floor_of_log10 and fits(1.0):
        guess = f"log10? multiply by {own:.6g} for {name}"
    elif config.log == "log10" and fits(math.log(10)):
        guess = f"natural logarithms? multiply by {1 / math.log(10):.6g} for {name}"
    elif fits(own, _LOWER_FLOORS * floor):
        guess = f"a lower floor? raise what is below to {floor * own:.4g}"
    elif lowest < floor * own and fits(decibels):
        guess = f"decibels? multiply by {own / decibels:.6g} for {name}"
    else:
        guess = f"another unit or normalisation? the model takes {name}; make it with wavenet mel"
    return (
        f"values from {lowest:.4g} to {highest:.4g}, where the model's mels have {floor * own:.4g} "
        f"to {largest * own:.4g}: {guess}"
    )
