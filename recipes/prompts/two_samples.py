"""Begin a model of two samples a step with the weights of one that makes one sample a step.

    python recipes/prompts/two_samples.py MODEL OUT

The dilations of the new model are 2, 4, 8 .. samples. So a layer begins with the weights of the
layer that had its dilation, and the last one of each stack, which has none, with a tenth of new
weights at its outputs. Of the two samples of a step the newer one enters as it did; the projections
of the older one, and of the second sample, begin small. All else is kept. On the bundled voice this
saved some 400 of the first training steps (recipes/LOG.md); it computes something else than MODEL
does, until it is trained.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

import wavenet
from wavenet.cli.options import integer
from wavenet.storage.checkpoint import CheckpointError
from wavenet.storage.files import WriteError

LAYER_SCALE = 0.1
"""Factor of newly drawn weights at the input of the stack and at the outputs of layers."""
SECOND_SAMPLE_SCALE = 0.3
"""Factor of newly drawn weights of the projection for a step's second sample."""


def main() -> int:
    """Write the new model; 2 for a mistake in the input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="a model of one sample a step")
    parser.add_argument("out", type=Path, help="folder for the new model")
    parser.add_argument("--seed", type=integer, default=1, help="of what is drawn")
    options = parser.parse_args()
    try:
        begun_from = wavenet.load(options.model)
        try:
            model = two_samples_a_step(begun_from, options.seed)
        except ValueError as error:
            raise ValueError(f"{options.model}: {error}") from error
        model.save(options.out)
    except (CheckpointError, WriteError, ValueError) as error:
        print(f"two_samples.py: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: receptive field {model.past + 1} samples")
    return 0


def two_samples_a_step(model: object, seed: int = 1) -> wavenet.WaveNet:
    """Return a new model with what fits of the weights of another one.

    Raises:
        ValueError: for another kind of model, or one that makes two samples a step already.
    """
    if not isinstance(model, wavenet.WaveNet):
        raise ValueError(f"is a {type(model).__name__}; name a WaveNet with samples_per_step=1")
    if model.samples_per_step != 1:
        raise ValueError("samples_per_step=2 already; name a model with samples_per_step=1")
    config = model.config.replace(samples_per_step=2)
    torch.manual_seed(seed)
    begun = wavenet.WaveNet(config).eval()
    old, new = model.state_dict(), begun.state_dict()
    for name, weight in new.items():
        if name in old and weight.shape == old[name].shape and not name.startswith("stack."):
            new[name] = old[name].clone()
    inputs = old["input_projection.weight"].shape[1]
    new["input_projection.weight"][:, :inputs] *= LAYER_SCALE
    new["input_projection.weight"][:, inputs:] = old["input_projection.weight"]
    new["second_projection.weight"] *= SECOND_SAMPLE_SCALE
    for name in [name for name in new if name.startswith("stack.blocks.")]:
        _, _, number, part = name.split(".", 3)
        if (int(number) + 1) % config.layers_per_stack:
            new[name] = old[f"stack.blocks.{int(number) + 1}.{part}"].clone()
        elif part.startswith(("residual", "skip")):
            new[name] = new[name] * LAYER_SCALE
    begun.load_state_dict(new)
    begun.licences = model.licences
    return begun


if __name__ == "__main__":
    sys.exit(main())
