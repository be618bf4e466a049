"""Memory layout: the sizes and offsets of one model, as records that kernels read.

``PLAN`` is one record for the model, ``LAYER`` one for each layer. Offsets into ``work`` count from
the beginning of a row, those into the constants from the beginning of the array. All are run-time
values, so that one compiled loop serves every model.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from wavenet.distributions import Gaussian, GaussianMixture, LogisticMixture, MuLaw
from wavenet.generation.engines.cpu.kernels.packing import (
    LANES,
    Array,
    Constants,
    packed_layers,
    registers,
    steps,
)
from wavenet.model import WaveNet
from wavenet.nn import GatedResidualBlock, LinearPrediction

KINDS = (MuLaw, LogisticMixture, GaussianMixture, Gaussian)
MU_LAW, LOGISTIC_MIXTURE, GAUSSIAN_MIXTURE, GAUSSIAN = range(len(KINDS))

PLAN = np.dtype(
    [
        (name, np.int64)
        for name in (
            # the model
            "kernel_size",
            "residual",  # channels
            "gate",
            "skip",
            "kind",  # of distribution, an index of KINDS
            "params",
            "categories",
            "inputs",  # an encoded sample
            "samples_per_step",
            # its linear predictor, 0 without one
            "order",
            "pitch_taps",
            "min_lag",
            "max_lag",
            "excitation_past",
            "columns",
            "one_hot",  # 1 where the encoded sample is a column of the input projection, else 0
            # elements of the packed weights for one column
            "conv_steps",
            "gated_steps",
            "head_steps",
            "head_weights_at",  # where the head begins among them
            # offsets into a row of work
            "signal_at",
            "inputs_at",
            "gate_at",
            "gated_at",
            "head_at",
            "params_at",
            "space_at",
            "entries_at",
            "encoded_from",
            "kept_at",
            "place_at",
            "columns_at",
            "history_at",
            "excitation_at",
            "row_stride",
            "ring_stride",
            # offsets into the constants
            "entry_at",
            "residual_bias_at",
            "skip_bias_at",
            "first_bias_at",
            "last_bias_at",
            "mask_at",
            "value_at",
            "encoded_at",
            "second_at",
            "second_bias_at",
        )
    ]
)

LAYER = np.dtype([(name, np.int64) for name in ("ring_at", "past", "dilation", "slot")])
"""``slot`` is the only number that changes: where the next input of the layer goes."""


def make_layers(model: WaveNet) -> Array:
    """One ``LAYER`` for each layer, at the beginning of time; its lengths are in steps."""
    blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
    layers = np.zeros(len(blocks), LAYER)
    layers["past"] = [block.past // model.samples_per_step for block in blocks]
    layers["dilation"] = [block.conv.dilation // model.samples_per_step for block in blocks]
    lengths = layers["past"] * registers(blocks[0].residual_channels) * LANES
    layers["ring_at"] = np.cumsum(lengths) - lengths
    return layers


def _of_predictor(predictor: LinearPrediction | None) -> dict[str, int]:
    """Values of the plan for the linear predictor."""
    if predictor is None:
        return {"inputs": 1}
    return {
        "inputs": predictor.inputs,
        "order": predictor.order,
        "pitch_taps": predictor.pitch_taps,
        "min_lag": predictor.min_lag_samples,
        "max_lag": predictor.max_lag_samples,
        "excitation_past": predictor.excitation_past,
        "columns": predictor.columns,
    }


def make_plan(model: WaveNet, weights: torch.dtype, constants: Constants) -> Array:
    """The ``PLAN``, an array of one record."""
    blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
    block = blocks[0]
    residual, gate, skip = block.residual_channels, block.gate_channels, block.skip_channels
    kernel_size = block.conv.kernel_size
    distribution = model.distribution
    params = distribution.n_params
    kind = KINDS.index(type(distribution))
    categories = distribution.n_components
    plan = np.zeros(1, PLAN)
    predictor = model.predictor
    values = {
        **_of_predictor(predictor),
        "kernel_size": kernel_size,
        "residual": residual,
        "gate": gate,
        "skip": skip,
        "kind": kind,
        "params": params,
        "categories": categories,
        "one_hot": int(model.config.one_hot_input),
        "conv_steps": steps(kernel_size * residual, weights),
        "gated_steps": steps(gate // 2, weights),
        "head_steps": steps(skip, weights),
        "head_weights_at": packed_layers(model, weights),
        "samples_per_step": model.samples_per_step,
    }
    # Copies run over the end by less than a register, sums of panels by less than a register too.
    sizes = {
        "signal_at": residual + skip,
        "inputs_at": kernel_size * residual,
        "gate_at": gate,
        "gated_at": gate // 2,
        "head_at": skip,
        "params_at": params,
        "space_at": (registers(categories) + registers(registers(categories))) * LANES,
        "entries_at": values["inputs"] * model.samples_per_step,
        "kept_at": skip if model.samples_per_step > 1 else 0,
    }
    if predictor is not None:
        sizes |= {
            "place_at": 2,
            "columns_at": predictor.columns,
            "history_at": predictor.order + 1,
            "excitation_at": predictor.excitation_past + 1,
        }
    at = 0
    for name, size in sizes.items():
        values[name] = at
        at += (registers(size) + 1) * LANES
    # Rows an odd number of cache lines apart do not meet in one set of the cache.
    values["row_stride"] = at + LANES * (1 - registers(at) % 2)
    past = sum(each.past for each in blocks) // model.samples_per_step
    values["ring_stride"] = past * registers(residual) * LANES
    values["encoded_from"] = values["entries_at"] + values["inputs"] * (model.samples_per_step - 1)
    names = (
        "entry_at",
        "residual_bias_at",
        "skip_bias_at",
        "first_bias_at",
        "last_bias_at",
        "mask_at",
        "value_at",
        "encoded_at",
        "second_at",
        "second_bias_at",
    )
    values |= dict(zip(names, constants.starts[: len(names)], strict=True))
    for name, value in values.items():
        plan[name] = value
    return plan
