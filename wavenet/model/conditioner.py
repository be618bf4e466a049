"""Named conditions: what is given under a name, encoded, left out, and learnt.

A model adds the frames of all its conditions. ``mel`` (or other local features) has a column for
each frame of the audio; every other condition is constant in time. A condition of your own is a
subclass of ``Condition`` with ``register_condition``, named in ``WaveNetConfig.conditions``. A
model takes its value as ``model(x, conditions={name: value})``, ``wavenet.generate`` likewise, and
training asks it for the value of each recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from wavenet.model.built_in_conditions import LocalFeatures, Speaker
from wavenet.model.condition import Condition, Recording
from wavenet.values.text import short

if TYPE_CHECKING:
    from wavenet.model.config import WaveNetConfig
    from wavenet.model.wavenet import WaveNet

__all__ = ["Condition", "Recording", "Speaker", "register_condition"]

_BUILT_IN: tuple[type[Condition], ...] = (LocalFeatures, Speaker)
_REGISTRY: dict[str, type[Condition]] = {}
_BATCH_KEYS = ("x", "mask", "frame", "samples", "feedback_noise")
"""Names of the other tensors in a batch of training windows."""


def register_condition(kind: type[Condition]) -> type[Condition]:
    """Make a condition of your own known by its ``name``; usable as a class decorator.

    A configuration may then name it in ``conditions``, and its checkpoints load wherever it is
    registered. It is made with the configuration alone, so its sizes are those of the class.

    >>> from wavenet.model.conditioner import Speaker
    >>> @register_condition
    ... class Accent(Speaker):
    ...     name, encoder = "accent", "accent_encoder"
    >>> model = WaveNet(WaveNetConfig(stacks=1, speakers=2, conditions=("accent",)))
    >>> given = {"accent": torch.tensor([1])}
    >>> tuple(model(torch.zeros(1, 1, 9), speaker=torch.tensor([0]), conditions=given).shape)
    (1, 256, 9)

    Raises:
        ValueError: for a name that another condition or another tensor of a batch has.
    """
    if kind.name in _BATCH_KEYS:
        raise ValueError(f"name={kind.name!r} is taken by a tensor of each batch; choose another")
    taken = kind.name in (one.name for one in _BUILT_IN)
    if taken or _REGISTRY.setdefault(kind.name, kind) is not kind:
        raise ValueError(f"name={kind.name!r} is taken by another condition")
    return kind


def check_registered(names: Sequence[str]) -> None:
    """Raise ValueError unless each name is that of a registered condition, once."""
    for name in names:
        if name not in _REGISTRY or names.count(name) > 1:
            known = ", ".join(_REGISTRY) or "none"
            raise ValueError(
                f"conditions={short(list(names))}: {short(name)} is unknown or named twice; "
                f"registered by wavenet.model.conditioner.register_condition: {known}"
            )


def make_conditions(config: WaveNetConfig) -> dict[str, Condition]:
    """Return the conditions by name, in the order in which their frames are added.

    ``mel`` and ``speaker`` are always there, and state whether the model takes them.
    """
    kinds = (*_BUILT_IN, *(_REGISTRY[name] for name in config.conditions))
    return {kind.name: kind(config) for kind in kinds}


def named_conditions(
    mel: Any = None, speaker: Any = None, others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return one mapping of all that is given, by name."""
    given = {"mel": mel, "speaker": speaker, **(others or {})}
    return {name: value for name, value in given.items() if value is not None}


def require_known(conditions: Mapping[str, Condition], given: Mapping[str, Any]) -> None:
    """Raise ValueError for a name that is none of the model's."""
    for name in given:
        if name not in conditions:
            raise ValueError(f"conditions has {name!r}, but this model takes {list(conditions)}")


def encode_conditions(
    model: WaveNet, given: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> Tensor | None:
    """Return the frames of all conditions, see ``WaveNet.condition_frames``."""
    require_known(model.conditions, given)
    for name, condition in model.conditions.items():
        condition.check(given.get(name))
    # Not `len`: a trace shall leave the number of rows open.
    rows = {name: given[name].shape[0] for name in model.conditions if name in given}
    for (a, n), (b, m) in combinations(rows.items(), 2):
        if n != m and n != 1 and m != 1:
            raise ValueError(f"{b} has {m} rows and {a} {n}; give one for each row")
    frames: Tensor | None = None
    for name, condition in model.conditions.items():
        if condition.used:
            own = condition.frames(model, given.get(name), kept.get(name))
            frames = own if frames is None else frames + own
    if frames is None or model.predictor is None:
        return frames
    columns = _predictor_frames(model, given.get("mel"), kept.get("mel"))
    # Neither the larger of two lengths, which an export would fix, nor broadcast_shapes, which
    # imports torch's compiler.
    n_rows = torch.broadcast_tensors(frames[:, :1], columns[:, :1])[0].shape[0]
    return torch.cat([frames.expand(n_rows, -1, -1), columns.expand(n_rows, -1, -1)], dim=1)


def _predictor_frames(model: WaveNet, mel: Tensor | None, kept: Tensor | None) -> Tensor:
    """Return the predictor's conditioning at frame rate, a neutral one where there is no mel."""
    assert model.predictor is not None
    # The modules that make the conditioning are exported without the rest of the model.
    neutral = model.mel_predictor.neutral()[None, :, None].to(
        next(model.frame_encoder.parameters())
    )
    columns = neutral if mel is None else model.mel_predictor(mel)
    if mel is not None and kept is not None:
        columns = torch.where(kept[:, None, None], columns, neutral)
    return columns[:, : model.predictor.cond_channels]
