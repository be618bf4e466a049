"""How far back does a network hear? The receptive field, in samples, seconds and milliseconds.

- ``arithmetic``: the formulas of one convolution, in one or more dimensions;
- ``causal``: blocks that declare their reach, configurations, lists of dilations;
- ``tracing`` (with ``rules`` and ``windows``): any module, by formula;
- ``gradient`` (with ``linear`` and ``counterparts``): any module, by measurement; each proves the
  other;
- ``effective``: how much of the field a trained model really uses;
- ``design``: which stacks reach a wanted field, and what they cost;
- ``pictures``: all of it drawn.
"""

from wavenet.receptive_fields.analysis import METHODS, receptive_field
from wavenet.receptive_fields.arithmetic import (
    effective_kernel,
    output_size,
    same_padding,
    stacked_field,
)
from wavenet.receptive_fields.causal import StackSettings
from wavenet.receptive_fields.field import LayerField, OutputField, ReceptiveField
from wavenet.receptive_fields.verification import VerificationError

__all__ = [
    "METHODS",
    "LayerField",
    "OutputField",
    "ReceptiveField",
    "StackSettings",
    "VerificationError",
    "effective_kernel",
    "output_size",
    "receptive_field",
    "same_padding",
    "stacked_field",
]
