"""Where a row is within a step of the model, and the part of its state that a step needs.

A model with ``samples_per_step`` 1 completes a step with every sample, and all of its state is
needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wavenet.generation.engines.base import GenerationState
from wavenet.model import WaveNet
from wavenet.nn.steps import SAMPLES_PER_STEP


def samples_since_step(model: WaveNet, start: GenerationState, expected: int | None = None) -> int:
    """Return the samples of all rows since their last complete step.

    Args:
        model: any ``WaveNet``.
        start: of some rows.
        expected: of other rows that they join.

    Raises:
        ValueError: if the rows differ.
    """
    if model.samples_per_step == 1:
        return 0
    _, counted = model.split_state(start.model).step_outputs
    found = {round(n) % SAMPLES_PER_STEP for n in counted.flatten().tolist()}
    found |= {expected} if expected is not None else set()
    if len(found) > 1:
        raise ValueError(
            f"rows are {sorted(found)} samples behind a step of {SAMPLES_PER_STEP}, and a batch "
            "takes its steps together; generate them in two batches, or with engine='stream'"
        )
    return found.pop()


def steps_of(history: Tensor, samples_per_step: int, since: int) -> Tensor:
    """Return the inputs of a layer at complete steps, ``[B, R, past / samples_per_step]``.

    Args:
        history: its last inputs ``[B, R, past]``, as the state of a model has them.
        samples_per_step: of the model.
        since: samples since the last complete step.
    """
    return history[..., samples_per_step - 1 - since :: samples_per_step]


def history_of(steps: Tensor, samples_per_step: int, since: int) -> Tensor:
    """Return a history that has these inputs at complete steps, and zeros elsewhere."""
    if samples_per_step == 1:
        return steps
    rows, channels, n = steps.shape
    history = torch.zeros(rows, channels, n * samples_per_step, dtype=steps.dtype)
    history = history.to(steps.device)
    history[..., samples_per_step - 1 - since :: samples_per_step] = steps
    return history
