"""Rules for torch functions: the receptive field of the results, given that of the arguments.

A rule takes a ``Call`` and returns the receptive field of each result (``TensorField``). It never
guesses. There are three outcomes: the exact reach; a text that the field is unbounded along a
dimension, with the place where that happens; or ``CannotTrace`` for what no rule covers.
"""

from wavenet.receptive_fields.rules import (
    axes,
    filters,
    joins,
    over_time,
    products,
    reductions,
    slices,
    views,
)
from wavenet.receptive_fields.rules.call import (
    POINTWISE,
    RULES,
    Call,
    Maskable,
    TensorField,
    pointwise,
    through_windows,
)
from wavenet.receptive_fields.rules.joins import alike

__all__ = [
    "POINTWISE",
    "RULES",
    "Call",
    "Maskable",
    "TensorField",
    "alike",
    "axes",
    "filters",
    "joins",
    "over_time",
    "pointwise",
    "products",
    "reductions",
    "slices",
    "through_windows",
    "views",
]
