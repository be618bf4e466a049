"""A small network to train, and the bits of a checkpoint."""

from pathlib import Path
from typing import Any

import torch

SMALL = {
    "sample_rate": 8000,
    "layers_per_stack": 3,
    "stacks": 1,
    "residual_channels": 16,
    "skip_channels": 16,
    "distribution": "logistic_mixture",
}
"""Settings of a model that learns the fixture ``tones`` within seconds."""


def checkpoint_bits(path: Path) -> Any:
    """Everything in a checkpoint (weights, averages, optimiser, schedule, step), tensors as bits.

    The settings of the run are left out, as some may change.
    """
    content = torch.load(path, weights_only=True)
    del content["run"]
    return plain(content)


def plain(value: Any) -> Any:
    """Tensors as their bits, so that == compares them."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    return value
