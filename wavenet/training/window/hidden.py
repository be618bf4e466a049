"""The pass of a model over training windows, from the samples to the input of its head."""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor

from wavenet.model import Hidden, WaveNet
from wavenet.model.exact import model_difference
from wavenet.model.wavenet import without_autocast
from wavenet.nn import LiftedFrames
from wavenet.training.window.forward import skip_sum_of


def hidden_of_window(
    model: WaveNet,
    x: Tensor,
    cond: LiftedFrames | None,
    length: int,
    *,
    recompute: bool = False,
) -> Hidden:
    """Return the last ``length`` columns of ``WaveNet.hidden`` from ``init_state``.

    Equal to ``hidden`` up to rounding, and faster; under autocast all sums stay float32. While
    torch compiles, and for a model with blocks that are defined elsewhere, it is ``hidden`` itself.

    Args:
        model: any ``WaveNet``.
        x: ``[B, 1, T]`` in [-1, 1].
        cond: of these T samples, at frame rate; None for an unconditional model.
        length: number of samples, up to the last, that are returned.
        recompute: see ``skip_sum_of``.
    """
    state = model.init_state(x.shape[0], device=x.device, dtype=x.dtype)
    wanted = slice(x.shape[-1] - length, None)
    if torch.compiler.is_compiling() or not _is_known(model):
        samples = None if cond is None else cond.samples
        return model.hidden(x, state, samples)[0].columns(wanted)
    with without_autocast(x.device):
        of_stack, columns = cond, None
        if cond is not None and model.predictor is not None:
            width = model.stack.cond_channels
            of_stack = LiftedFrames(cond.frames[:, :width], cond.lift)
            columns = LiftedFrames(cond.frames[:, width:], cond.lift).samples
        entry, place, _ = model.project_input(x, state[:-1], columns)
    skip_sum = skip_sum_of(model.stack, entry, of_stack, length, recompute=recompute)
    return Hidden(skip_sum, *(part[..., wanted] for part in place))


def _is_known(model: WaveNet) -> bool:
    """Return true if the fast pass computes the same as the model; else warn once."""
    found = model_difference(model, any_distribution=True)
    if found is not None:
        _warn_of_stream(found)
    return found is None


@functools.cache
def _warn_of_stream(found: str) -> None:
    """Warn once that training is slower, and why."""
    warnings.warn(
        f"training runs through stream, more slowly, as {found}", RuntimeWarning, stacklevel=4
    )
