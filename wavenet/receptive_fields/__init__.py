"""Receptive fields of networks, in samples, seconds and milliseconds.

- ``arithmetic``: the formulas of one convolution, in one or more dimensions;
- ``causal``: blocks that declare their receptive field, configurations, lists of dilations;
- ``tracing`` (with ``rules`` and ``windows``): any module, by formula;
- ``gradient`` (with ``linear``, ``linear_network`` and ``linearized_ops``): any module, by
  measurement; each verifies the other;
- ``effective``: how much of the field a trained model uses;
- ``design``: stacks that reach a target field, and their costs;
- ``plots``: figures of all of these.
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
