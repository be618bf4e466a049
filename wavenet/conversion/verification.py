"""Comparison of a converted network with its module, on numbers.

A trace knows operations, not what Python does between them: a module that divides by the length of
its input would become a block that divides by the length of the trace. Both are therefore run once
on a short signal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import nn

from wavenet.conversion.network import CausalNetwork
from wavenet.conversion.signals import Refusal

_COLUMNS = 64
"""Least number of output columns to compare, which no padding touches."""
_LONGEST = 1 << 16
"""Longest signal that is compared, in samples: more context would take seconds."""
_TOLERANCE = 0.05
"""Largest difference, relative to the largest output, that rounding may explain."""
_SEED = 0


def prepare_comparison(
    module: nn.Module, block: CausalNetwork, axes: str, dropped: Fraction
) -> Callable[[], None]:
    """Run the module on random numbers; return the comparison with what the block makes of them.

    The module has to be in evaluation mode. Nothing is compared where it cannot be run on a short
    signal, where the first column that no padding touches comes late, or where outputs are not
    finite.

    Args:
        module: the original, ``axes`` to ``axes``.
        block: what it was converted to; its weights need not be there before the comparison.
        axes: as ``BCT``.
        dropped: samples at the end of the input that do not reach all layers of the module.

    Returns:
        A function without arguments, which raises Refusal where the outputs differ.
    """
    first = block.first_column if block.unbounded else math.ceil((block.past + 1) * block.rate)
    first = max(int(first), block.first_column)
    n_steps = math.ceil(((first + _COLUMNS) / block.rate + dropped) / block.step)
    n_samples = n_steps * block.step
    end = math.floor((n_samples - dropped) * block.rate)
    weight = next((one for one in module.parameters() if one.is_floating_point()), None)
    dtype = torch.get_default_dtype() if weight is None else weight.dtype
    device = torch.device("cpu") if weight is None else weight.device
    if n_samples > _LONGEST or device.type == "meta":
        return lambda: None
    random = torch.Generator().manual_seed(_SEED)
    x = torch.randn(2, block.in_channels, n_samples, generator=random).to(device, dtype)
    order = ["BCT".index(axis) for axis in axes]
    try:
        expected = module(x.clone().permute(order)).permute([axes.index(axis) for axis in "BCT"])
    except Exception:  # noqa: BLE001 - it may need another length: nothing to compare with
        return lambda: None

    def compare() -> None:
        made = block(x)[..., first:end]
        wanted = expected[..., first - block.first_column :][..., : made.shape[-1]]
        if wanted.shape[-1] < _COLUMNS // 2:
            raise Refusal(
                f"the module returns {expected.shape[-1]} columns for {n_samples} samples, where "
                f"it would be expected to return about {made.shape[-1] + first}: how many must not "
                "depend on the length but by a rate"
            )
        made = made[..., : wanted.shape[-1]]
        difference, scale = (made - wanted).abs().max(), wanted.abs().max()
        if bool(difference.isfinite() & scale.isfinite()) and difference > _TOLERANCE * scale:
            raise Refusal(
                f"the block would return other numbers than the module: {difference:.2g} away, of "
                f"outputs up to {scale:.2g}; something depends on the length of the signal, or on "
                "its numbers, in a way that cannot be followed"
            )

    return compare
