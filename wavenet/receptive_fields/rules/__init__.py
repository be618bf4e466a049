"""What each torch function does to the reach of its input: one small rule per kind of function.

A rule gets a ``Call`` and returns what the results hear (``Heard``). Three outcomes are possible,
and never a guess: the exact reach; the word that a dimension is heard without end, with the place
where that happens; or ``CannotTrace`` for what no rule covers.
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
    Heard,
    Maskable,
    pointwise,
    seen_through,
)
from wavenet.receptive_fields.rules.joins import alike

__all__ = [
    "POINTWISE",
    "RULES",
    "Call",
    "Heard",
    "Maskable",
    "alike",
    "axes",
    "filters",
    "joins",
    "over_time",
    "pointwise",
    "products",
    "reductions",
    "seen_through",
    "slices",
    "views",
]
