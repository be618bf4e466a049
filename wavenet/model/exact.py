"""Checks that a model is a ``WaveNet``, and exactly this package's, part by part (``nn.exact``)."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import cast

from torch import nn

from wavenet.distributions import KNOWN_DISTRIBUTIONS, make_distribution
from wavenet.model.shapes import described_tensors
from wavenet.model.wavenet import WaveNet
from wavenet.nn import FrameLift, LinearPrediction
from wavenet.nn.exact import HOOKED, difference, saved_tensors
from wavenet.nn.hooks import unwrapped, without_compiler
from wavenet.nn.residual import stack_differences
from wavenet.nn.steps import SAMPLES_PER_STEP, Pairs, StepOutputs
from wavenet.values.meta_device import require_values
from wavenet.values.text import short

HEAD = (nn.ReLU, nn.Conv1d, nn.ReLU, nn.Conv1d)
"""Classes of the modules of ``WaveNet.head``."""


def require_wavenet(model: object) -> WaveNet:
    """Return the ``WaveNet`` that this is, without torch.compile's wrapper.

    The wrapper changes no value, and the fast engines read the weights of the module inside.

    Raises:
        TypeError: if it is anything else.
        ValueError: if it is on the meta device.
    """
    if isinstance(model, str | PathLike):
        raise TypeError(f"model={short(model)} is a name; load it: wavenet.load({short(model)})")
    if not (isinstance(model, nn.Module) and isinstance(unwrapped(model), WaveNet)):
        raise TypeError(f"model is a {type(model).__name__}, expected a WaveNet")
    require_values(model, "model")
    return cast(WaveNet, without_compiler(model))


def model_difference(
    model: WaveNet, *, any_distribution: bool = False, any_hooks: bool = False
) -> str | None:
    """Return in words how a model differs from what a fast path computes, or None.

    What makes the conditioning at frame rate is only called, so it may be of any kind.

    Args:
        model: any model.
        any_distribution: whether the fast path draws by calling the distribution, so that it may
            be one that is defined elsewhere.
        any_hooks: whether forward hooks make no difference.
    """
    found = (text for text in _differences(model, any_distribution) if text)
    return next((text for text in found if not (any_hooks and text.endswith(HOOKED))), None)


def require_savable(model: WaveNet) -> None:
    """Raise ValueError for a model without values, or that ``config.json`` cannot describe."""
    require_values(model, "model")
    found = unsaved_difference(model)
    if found is not None:
        raise ValueError(
            f"{found}: config.json cannot describe this model, and it would load as another one; "
            "keep it with torch.save(model.state_dict(), path)"
        )


def unsaved_difference(model: WaveNet) -> str | None:
    """Return how a model differs from the one that its configuration describes, or None.

    Hooks and parametrizations are not part of a configuration: the weights that they compute are
    saved (``saved_tensors``).
    """
    found = model_difference(model, any_distribution=True, any_hooks=True)
    if found is not None:
        return found
    described = make_distribution(model.config.distribution, model.config.distribution_size)
    if type(described) is not type(model.distribution) or described != model.distribution:
        return f"the distribution is {model.distribution}, but {described} in the configuration"
    others = sorted(saved_tensors(model).keys() ^ described_tensors(model.config).keys())
    return f"{others[0]} is a tensor of one of model and configuration alone" if others else None


def _differences(model: WaveNet, any_distribution: bool) -> Iterator[str | None]:
    yield difference(model, WaveNet, "the model")
    yield from stack_differences(model.stack, "stack")
    yield difference(model.input_projection, nn.Conv1d, "input_projection")
    yield difference(model.head, nn.Sequential, "head")
    if len(model.head) != len(HEAD):
        yield f"head has {len(model.head)} modules, not {len(HEAD)}"
        return
    for i, (part, kind) in enumerate(zip(model.head, HEAD, strict=True)):
        yield difference(part, kind, f"head.{i}")
    if model.samples_per_step == SAMPLES_PER_STEP:
        yield difference(model.pairs, Pairs, "pairs")
        yield difference(model.step_outputs, StepOutputs, "step_outputs")
        yield difference(model.second_projection, nn.Conv1d, "second_projection")
    if model.predictor is not None:
        yield difference(model.predictor, LinearPrediction, "predictor")
    if model.config.local is not None:
        yield difference(model.frame_lift, FrameLift, "frame_lift")
    if not any_distribution and type(model.distribution) not in KNOWN_DISTRIBUTIONS:
        yield f"the distribution is a {type(model.distribution).__name__}"
