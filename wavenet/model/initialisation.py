"""Initial values of a model's parameters: all of them, in one place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from wavenet.nn import GatedResidualBlock
from wavenet.nn.steps import SAMPLES_PER_STEP

if TYPE_CHECKING:
    from wavenet.model import WaveNet

EXCITATION_UNIT = 10.0
"""Training starts with scales of an excitation 10 times those of samples: 0.01 to 2 gains."""


def initialise(model: WaveNet) -> None:
    """Draw all parameters of a model, in one place.

    ======================  ==========================================================
    parameter               drawn from
    ======================  ==========================================================
    dilated convolutions    normal, std 1 / sqrt(fan_in): the gate's input has unit scale
    conditioning            normal, std 1 / sqrt(fan_in); smoothing and transposed kernels: a mean
    residual projections    normal, std 1 / sqrt(fan_in * layers): the sum of all layers' terms
                            stays within the scale of one (Radford et al. 2019, section 2.3)
    skip projections        the same, for the skip sum
    second sample of a step normal, std 1 / sqrt(fan_in), into the skip sum
    head, first             normal, std sqrt(2 / fan_in) (He et al. 2015, equation 10)
    head, last              normal, a tenth of that: training starts near the distribution's
                            ``initial_params``, which are its bias
    speaker embedding       normal, std 0.1; also the null embedding
    biases                  zero
    ======================  ==========================================================
    """
    if model.input_projection.weight.is_meta:
        return  # there is no memory to fill; see `model.from_checkpoint`
    n_layers = len(model.config.dilations)

    def draw(module: nn.Module, gain: float) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        nn.init.normal_(weight, std=gain / math.sqrt(weight[0].numel()))
        if isinstance(module.bias, Tensor):
            nn.init.zeros_(module.bias)

    draw(model.input_projection, 1.0)
    if model.samples_per_step == SAMPLES_PER_STEP:
        draw(model.second_projection, 1.0)
    for block in cast(list[GatedResidualBlock], list(model.stack.blocks)):
        draw(block.conv, 1.0)
        draw(block.residual_projection, 1 / math.sqrt(n_layers))
        draw(block.skip_projection, 1 / math.sqrt(n_layers))
        if block.cond_channels is not None:
            draw(block.cond_projection, 1.0)
    first, last = cast(list[nn.Conv1d], [model.head[1], model.head[3]])
    draw(first, math.sqrt(2))
    draw(last, 0.1 * math.sqrt(2))
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(_initial_params(model))
    for condition in model.conditions.values():
        if condition.used:
            condition.initialise(model, draw)
    if hasattr(model, "no_features"):
        nn.init.normal_(model.no_features, std=0.1)


def _initial_params(model: WaveNet) -> Tensor:
    """Initial parameters of the distribution; of an excitation, in units of its gain."""
    params = model.distribution.initial_params()
    if model.predictor is None:
        return params
    unit = torch.full((1, 1, 1), math.log(EXCITATION_UNIT))
    return model.distribution.relocate(params[None, :, None], torch.zeros(1, 1, 1), unit).flatten()
