"""What lies between the parts of a ``WaveNet``: the input of its head, and its state by layers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from wavenet.nn import State


class Hidden(NamedTuple):
    """Input of the head, which makes the params.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny"))
    >>> hidden, state = model.hidden(torch.zeros(1, 1, 9), model.init_state(1))
    >>> tuple(hidden.skip_sum.shape), tuple(model.params_of(hidden).shape)
    ((1, 64, 9), (1, 256, 9))

    Attributes:
        skip_sum: ``[B, S, T]``.
        location: ``[B, 1, T]``, where the predictor expects the next samples; None without one.
        log_scale: ``[B, 1, T]``, the logarithm of the unit of their distance from there.
    """

    skip_sum: Tensor
    location: Tensor | None = None
    log_scale: Tensor | None = None

    def columns(self, wanted: slice) -> Hidden:
        """Return some of the T columns."""
        location, log_scale = (part if part is None else part[..., wanted] for part in self[1:])
        return Hidden(self.skip_sum[..., wanted], location, log_scale)


class ModelState(NamedTuple):
    """State of a ``WaveNet`` by its layers; what a model does not have is empty.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny"))
    >>> parts = model.split_state(model.init_state(1))
    >>> len(parts.stack), parts.predictor
    (18, ())

    Attributes:
        predictor: of the linear predictor.
        pairs: of ``steps.Pairs``.
        stack: a state for each block.
        step_outputs: of ``steps.StepOutputs``.
    """

    predictor: State = ()
    pairs: State = ()
    stack: State = ()
    step_outputs: State = ()
