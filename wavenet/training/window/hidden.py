"""The pass of a model over training windows, from the samples to the input of its head."""

from __future__ import annotations

import functools
import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.model import Hidden, WaveNet
from wavenet.model.exact import model_difference
from wavenet.nn import LiftedFrames
from wavenet.nn.steps import SAMPLES_PER_STEP
from wavenet.training.window.forward import skip_sum_of
from wavenet.values.autocast import without_autocast


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
    if (
        torch.compiler.is_compiling()
        or not _is_known(model)
        or x.shape[-1] < model.samples_per_step
    ):
        samples = None if cond is None else cond.samples
        return model.hidden(x, state, samples)[0].columns(wanted)
    with without_autocast(x.device):
        of_stack, columns = cond, None
        if cond is not None and model.predictor is not None:
            width = model.stack.cond_channels
            of_stack = LiftedFrames(cond.frames[:, :width], cond.lift)
            columns = LiftedFrames(cond.frames[:, width:], cond.lift).samples
        before = model.split_state(state)
        inputs, place, _ = model.encode_input(x, before.predictor, columns)
    if model.samples_per_step == SAMPLES_PER_STEP:
        skip_sum = _of_steps(model, inputs, of_stack, length, recompute=recompute)
    else:
        with without_autocast(x.device):
            entry, _ = model.project_input(inputs, before.pairs)
        skip_sum = skip_sum_of(model.stack, entry, of_stack, length, recompute=recompute)
    return Hidden(skip_sum, *(part[..., wanted] for part in place))


def _of_steps(
    model: WaveNet, inputs: Tensor, cond: LiftedFrames | None, length: int, *, recompute: bool
) -> Tensor:
    """Return the last ``length`` columns of the skip sum of a model of two samples a step.

    The stack runs once for two columns: with steps that are complete at 1, 3, 5 .., that of column
    2n + 1 serves columns 2n + 1 and 2n + 2. Column 0 has zeros from the stack.

    Args:
        model: one with ``samples_per_step`` 2.
        inputs: encoded samples ``[B, inputs, T]``, T at least 2.
        cond: of the stack, for these T samples.
        length: as in ``hidden_of_window``.
        recompute: as there.
    """
    n_samples, per_step = inputs.shape[-1], SAMPLES_PER_STEP
    whole = n_samples // per_step * per_step
    first_step = (n_samples - length + 1) // per_step - 1  # -1 where column 0 is wanted
    with without_autocast(inputs.device):
        pairs = torch.cat([inputs[..., 0:whole:per_step], inputs[..., 1:whole:per_step]], dim=1)
        entry = model.input_projection(pairs.to(model.input_projection.weight.dtype))
        of_second = F.pad(inputs, (0, 1))[..., per_step * (first_step + 1) : whole + 1 : per_step]
        second = model.second_projection(of_second.to(model.second_projection.weight.dtype))
    if cond is not None:
        cond = LiftedFrames(cond.frames, cond.lift[:, 1:whole:per_step])
    n_steps = whole // per_step - max(first_step, 0)
    skip_sum = skip_sum_of(
        model.stack, entry, cond, n_steps, recompute=recompute, samples_per_step=per_step
    )
    if first_step < 0:
        skip_sum = F.pad(skip_sum, (1, 0))
    both = torch.stack([skip_sum, skip_sum + second], dim=-1).flatten(2)
    return both.narrow(-1, n_samples - length - (per_step * first_step + 1), length)


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
