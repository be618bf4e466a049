"""The training pass of a stack over windows, with a backward pass of its own; equal to ``stream``."""

from wavenet.training.window.forward import skip_sum_of

__all__ = ["skip_sum_of"]
