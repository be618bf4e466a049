"""Weights and biases as the sampling loop reads them: one stream each, in the order of use.

Weights, per layer: all taps of the dilated convolution as one matrix, the oldest first, then the
residual and the skip projection side by side (of the last layer the skip projection alone:
its residual is unused), and at the end the two matrices of the head. A matrix ``[columns, inputs]``
is cut into panels of columns (``panel_widths``), and a panel is stored row by row:

    W[c .. c + w, 0], W[c .. c + w, 1] ..           w the width of the panel

Columns are filled up with zeros to whole registers; the pairs of bfloat16 also the inputs.

Constants, in float32: the columns of the input projection and its bias, the biases of the residual
projections, of the sum of all skip projections and of the head, the mask and the values of the
draw; and the columns and the bias of the projection of a step's second sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from wavenet.distributions import MuLaw
from wavenet.distributions.mu_law import mu_law_tables
from wavenet.model import WaveNet
from wavenet.nn import GatedResidualBlock
from wavenet.simd.alignment import aligned_zeros

LANES = 16
"""Floats of a register."""
PANEL_REGISTERS = 5
"""Registers of columns in the widest panel: 4 rows of 5 sums leave room in 32 registers."""

Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def registers(n: int) -> int:
    """Registers that hold n floats."""
    return -(-n // LANES)


def panel_widths(n_columns: int) -> list[int]:
    """The registers of each panel: as few panels as possible, nearly equal, the wider ones first.

    >>> panel_widths(192)
    [4, 4, 4]
    """
    left = registers(n_columns)
    widths = []
    for panels in range(-(-left // PANEL_REGISTERS), 0, -1):
        widths.append(-(-left // panels))
        left -= widths[-1]
    return widths


def steps(n_inputs: int, weights: torch.dtype) -> int:
    """Elements of the packed array for one column."""
    return -(-n_inputs // 2) if weights == torch.bfloat16 else n_inputs


def pack_matrix(matrix: Tensor, weights: torch.dtype) -> Array:
    """``[columns, inputs]`` to the panels, flat: float32, uint16 or pairs in uint32."""
    columns, inputs = matrix.shape
    depth = inputs + (inputs % 2 if weights == torch.bfloat16 else 0)
    padded = torch.zeros(depth, registers(columns) * LANES, dtype=torch.float32)
    padded[:inputs, :columns] = matrix.T
    if weights == torch.float32:
        return _panels(padded.numpy(), columns)
    bits = padded.to(weights).view(torch.int16).numpy().view(np.uint16)
    if weights == torch.float16:
        return _panels(bits, columns)
    pairs = bits[0::2].astype(np.uint32) | bits[1::2].astype(np.uint32) << np.uint32(16)
    return _panels(pairs, columns)


def _panels(rows: Array, columns: int) -> Array:
    ends = np.cumsum(panel_widths(columns)) * LANES
    return np.concatenate([panel.ravel() for panel in np.split(rows, ends[:-1], axis=1)])


def packed_layers(model: WaveNet, weights: torch.dtype) -> int:
    """Return the elements of the packed weights before those of the head."""
    block = cast(GatedResidualBlock, model.stack.blocks[0])
    skip, kernel_size = block.skip_channels, block.conv.kernel_size
    conv = registers(block.gate_channels) * steps(kernel_size * block.residual_channels, weights)
    depth = steps(block.gate_channels // 2, weights)
    inner, last = registers(block.residual_channels + skip), registers(skip)
    n_layers = len(model.stack.blocks)
    return LANES * (n_layers * conv + ((n_layers - 1) * inner + last) * depth)


def pack_weights(model: WaveNet, weights: torch.dtype) -> Array:
    """Pack the weights that are used at every step, and behind them those of the head."""
    blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
    matrices = []
    for layer, block in enumerate(blocks):
        matrices.append(block.conv.weight.detach().transpose(1, 2).flatten(1))
        out = [block.residual_projection.weight, block.skip_projection.weight]
        out = out[1:] if layer == len(blocks) - 1 else out
        matrices.append(torch.cat([part.detach().squeeze(-1) for part in out]))
    matrices += [cast(nn.Conv1d, model.head[i]).weight.detach().squeeze(-1) for i in (1, 3)]
    packed = [pack_matrix(matrix.float(), weights) for matrix in matrices]
    joined = aligned_zeros(sum(part.size for part in packed), packed[0].dtype)
    np.concatenate(packed, out=joined)
    return joined


@dataclass(frozen=True)
class Constants:
    """Float32 constants in one array, and where each begins."""

    values: Array
    starts: list[int]


def pack_constants(model: WaveNet, weights: torch.dtype) -> Constants:
    """Pack the constants in the module's order, each padded with zeros to whole registers."""
    blocks = cast(list[GatedResidualBlock], list(model.stack.blocks))
    first, last = cast(nn.Conv1d, model.head[1]), cast(nn.Conv1d, model.head[3])
    distribution = model.distribution
    entry = model.input_projection
    residual = [_bias(entry), *(_bias(block.residual_projection) for block in blocks[:-1])]
    parts = [
        torch.stack([_filled(column) for column in _columns(entry.weight, weights)]).flatten(),
        torch.stack([_filled(bias) for bias in residual]).flatten(),
        torch.stack([_bias(block.skip_projection) for block in blocks]).sum(dim=0),
        _bias(first),
        _bias(last),
    ]
    if isinstance(distribution, MuLaw):
        tables = mu_law_tables(distribution.classes)
        mask = torch.where(tables.empty, -torch.inf, 0.0)
        parts += [mask, tables.value, model.entry_values(tables.value)]
    else:
        parts += [torch.zeros(distribution.n_components), torch.zeros(0), torch.zeros(0)]
    if model.samples_per_step > 1:
        second = model.second_projection
        columns = [_filled(column) for column in _columns(second.weight, weights)]
        parts += [torch.stack(columns).flatten(), _bias(second)]
    else:
        parts += [torch.zeros(0), torch.zeros(0)]
    filled = [_filled(part.float()) for part in parts]
    filled[5][distribution.n_components :] = -torch.inf  # padding is never drawn
    starts = np.cumsum([0] + [part.numel() for part in filled]).tolist()
    return Constants(torch.cat(filled).numpy(), starts)


def _columns(weight: Tensor, weights: torch.dtype) -> tuple[Tensor, ...]:
    """Columns ``[R]`` of the input projection ``[R, entries, 1]``."""
    return weight.detach().to(weights).float().squeeze(-1).T.unbind()


def _bias(layer: nn.Conv1d) -> Tensor:
    assert layer.bias is not None
    return layer.bias.detach()


def _filled(part: Tensor) -> Tensor:
    """Zeros up to whole registers."""
    return torch.nn.functional.pad(part, (0, -part.numel() % LANES))
