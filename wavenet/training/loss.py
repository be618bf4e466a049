"""The loss: bits per sample of a batch of windows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from wavenet.data import WindowPlan
from wavenet.model import Hidden, WaveNet
from wavenet.nn import LiftedFrames
from wavenet.training.window import hidden_of_window

CHUNK_SAMPLES = 8192
"""Of all rows together, how many go through the head at once."""

NOISE_STEP, NOISE_FLOOR = 0.0433, 0.1
"""Noise of scale 1 has the standard deviation 0.0433 (|e| + 0.1) in units of the predictor's gain:
that of one step of 8-bit mu-law at an excitation e, ln(256) / 128."""

LogProb = Callable[[WaveNet, dict[str, Tensor], WindowPlan], tuple[Tensor, Tensor]]


def window_log_prob(
    model: WaveNet, batch: dict[str, Tensor], plan: WindowPlan, *, recompute: bool = False
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the samples that a batch of windows predicts.

    The network's input is quantised samples, as in generation, and exact silence before the
    start of a file. ``feedback_noise`` in the batch adds noise to them (``noisy_inputs``).

    Args:
        model: any ``WaveNet``.
        batch: as ``Windows`` makes it, collated.
        plan: the one the windows were made by.
        recompute: see ``hidden_of_window``.

    Returns:
        ``(log_prob, mask)``, both ``[B, length]``, in nats; the mask is 1 where x is inside the
        recording.
    """
    x, mask = batch["x"], batch["mask"]
    inputs = (model.distribution.quantize(x) * mask)[..., :-1]
    cond = _conditioning(model, batch, plan, inputs.shape[-1])
    if "feedback_noise" in batch:
        noise = (batch["feedback_noise"] * mask)[..., :-1]
        inputs = noisy_inputs(model, inputs, cond, noise)
    wanted = x[:, 0, -plan.length :]
    if type(model).stream is not WaveNet.stream:  # a model that defines its own equation
        samples = None if cond is None else cond.samples
        state = model.init_state(len(inputs), device=inputs.device, dtype=inputs.dtype)
        params, _ = model.stream(inputs, state, samples)
        log_prob = model.distribution.log_prob(params[..., -plan.length :], wanted)
    else:
        hidden = hidden_of_window(model, inputs, cond, plan.length, recompute=recompute)
        log_prob = log_prob_in_chunks(model, hidden, wanted)
    return log_prob, mask[:, 0, -plan.length :]


@torch.no_grad()
def noisy_inputs(model: WaveNet, x: Tensor, cond: LiftedFrames | None, noise: Tensor) -> Tensor:
    """Return the network's input with the kind of error that generated samples have.

    ``x[t] + g[t] noise[t] 0.0433 (|e[t]| + 0.1)``, quantised, with the predictor's gain g and the
    excitation e of x (LPCNet; Valin and Skoglund 2019, section 3.3). Excitation, prediction, pitch
    taps and location are then derived from these samples; the samples to predict stay clean.

    Args:
        model: one with ``linear_prediction``.
        x: ``[B, 1, T]``.
        cond: of these samples.
        noise: ``[B, 1, T]``, of variance 1 or scaled.

    Raises:
        ValueError: if the model has no predictor.
    """
    if model.predictor is None or cond is None:
        raise ValueError("feedback_noise needs a model with linear_prediction")
    with torch.autocast(x.device.type, enabled=False):
        columns = LiftedFrames(cond.frames[:, model.stack.cond_channels :], cond.lift)
        excitation, log_gain = model.predictor.excitation(x, columns.samples)
        error = noise * NOISE_STEP * (excitation.abs() + NOISE_FLOOR) * log_gain.exp()
        return model.distribution.quantize(x + error)


def _conditioning(
    model: WaveNet, batch: dict[str, Tensor], plan: WindowPlan, n_samples: int
) -> LiftedFrames | None:
    """Conditioning of the first ``n_samples`` samples of the windows."""
    given = {name: batch[name] for name in model.conditions if name in batch}
    kept = {name: batch[f"{name}_kept"] for name in given if f"{name}_kept" in batch}
    frames = model.condition_frames(conditions=given, kept=kept)
    if frames is None:
        return None
    if "mel" not in batch:
        return LiftedFrames(frames, frames.new_ones(1, n_samples))
    # As in generation, the first frame is held before the recording, the last one behind it.
    frames = frames.gather(-1, batch["frame"][:, None].expand_as(frames))
    margin = plan.context_frames * plan.hop
    with torch.autocast(frames.device.type, enabled=False):
        lift = model.frame_lift.matrix(frames.shape[-1])
    return LiftedFrames(frames, lift[:, margin : margin + n_samples])


def log_prob_in_chunks(model: WaveNet, hidden: Hidden, x: Tensor) -> Tensor:
    """Log-probabilities ``[B, T]`` of x ``[B, T]``, given what the head makes their params of.

    A chunk of time after another goes through the head, and once more on the way back, so that the
    parameters of all samples never exist together: those of 256 classes would
    need twice the memory of a layer of 128 channels, and as much again for their softmax.
    """

    def log_prob(x: Tensor, *hidden: Tensor) -> Tensor:
        return model.distribution.log_prob(model.params_of(Hidden(*hidden)), x)

    size = max(1, CHUNK_SAMPLES // len(x))
    whole = [x, *(part for part in hidden if part is not None)]
    parts = zip(*(part.split(size, dim=-1) for part in whole), strict=True)
    if torch.compiler.is_compiling() or not hidden.skip_sum.requires_grad:
        return torch.cat([log_prob(*part) for part in parts], dim=-1)
    return torch.cat([checkpoint(log_prob, *part, use_reentrant=False) for part in parts], dim=-1)


def bits_per_sample(
    model: WaveNet,
    batch: dict[str, Tensor],
    plan: WindowPlan,
    log_prob_of: LogProb | None = None,
    *,
    recompute: bool = False,
) -> Tensor:
    """Mean bits per 16-bit sample over what is inside recordings: the loss.

    Where the batch is one part of a step, its ``samples`` are the number in a part on
    average: the mean of this over all parts is then the mean over all samples (``Batches``).
    """
    if log_prob_of is None:
        log_prob, mask = window_log_prob(model, batch, plan, recompute=recompute)
    else:
        log_prob, mask = log_prob_of(model, batch, plan)
    samples = batch.get("samples", mask.sum().clamp(min=1))
    return -(log_prob * mask).sum() / samples / math.log(2)
