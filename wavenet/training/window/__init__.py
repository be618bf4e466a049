"""The training pass of a network over windows, with a backward pass of its own.

It equals ``stream`` from ``init_state``, gradients included, and is faster.
"""

from wavenet.training.window.forward import skip_sum_of
from wavenet.training.window.hidden import hidden_of_window

__all__ = ["hidden_of_window", "skip_sum_of"]
