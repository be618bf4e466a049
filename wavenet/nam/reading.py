"""Reading a ``.nam`` file: JSON of ``version``, ``architecture``, ``config`` and flat ``weights``.

Files are untrusted. Nothing in them is executed; sizes are compared with the number of weights
before anything is allocated; every error is one line.
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from wavenet.nam.config import CONTAINER, MAX_LAYERS, SAMPLE_RATE, NamConfig
from wavenet.nam.layers_json import parse_arrays, parse_post_head
from wavenet.nam.model import NamModel
from wavenet.nam.network import NamWaveNet
from wavenet.nam.simple import NamSequential
from wavenet.nam.simple_json import SIMPLE, SimpleMaker, simple_model
from wavenet.nam.values import FormatError, Node, number, short
from wavenet.nam.weights import fill
from wavenet.storage.json_files import JsonError, finite_only, parse_json

MAX_BYTES = 1 << 24
"""Largest file that is read, 16 MiB: 50 times NAM's "standard" size."""

_OLDEST, _NEWEST = (0, 5), (0, 7)
_MAX_NESTING = 4
SEQUENTIAL = ("Sequential", "sequential")
"""Spellings of the trainer's package, and of older files."""
_KINDS = ", ".join(("WaveNet", *SIMPLE, "Sequential"))

AnyModel: TypeAlias = NamWaveNet | NamModel
"""What a file can hold."""


def is_nam(path: str | PathLike[str]) -> bool:
    """Return true for a path with the suffix ``.nam`` that is no folder."""
    return Path(path).suffix.lower() == ".nam" and not Path(path).is_dir()


def read_nam(path: str | PathLike[str], *, submodel: str | None = None) -> AnyModel:
    """Read the model of a ``.nam`` file of version 0.5.0 to 0.7.x, in evaluation mode.

    Args:
        path: the file.
        submodel: for a file with several sizes of one model: the ``name`` in its metadata, or its
            position from 0 on; default, the largest.

    Raises:
        FormatError: if the file is missing, damaged, or has another kind of model.
    """
    try:
        top = Node(_parse(path))
        chosen = _choose(top, submodel)
        model = _model(chosen, depth=0)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from None
    metadata = chosen.get("metadata", {})
    model.metadata = finite_only(metadata) if isinstance(metadata, dict) else {}
    return model.eval()


def _parse(path: str | PathLike[str]) -> Any:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror}; check the path") from None
    if len(content) > MAX_BYTES:
        raise FormatError(f"is longer than {MAX_BYTES >> 20} MiB, which no NAM model is")
    try:
        return parse_json(content)
    except JsonError as error:
        raise FormatError(
            f"is no usable JSON ({error}); cut short or damaged? fetch it again"
        ) from None


def _choose(top: Node, submodel: str | None) -> Node:
    """Return the model itself, or one of a container."""
    _check_version(top)
    if top.text("architecture") != CONTAINER:
        if submodel is not None:
            raise FormatError(f"holds one model alone, so there is no submodel {submodel!r}")
        return top
    config = top.node("config")
    where = config.path("submodels")
    entries = [Node(e, f"{where}[{i}]") for i, e in enumerate(config.items("submodels"))]
    if not entries:
        raise FormatError(f"{where} is empty")
    if submodel is None:
        entry = max(entries, key=lambda entry: entry.number("max_value"))
        return _model_of(top, entry)
    models = [_model_of(top, entry) for entry in entries]
    names = [_name(model) for model in models]
    if submodel in names:
        return models[names.index(submodel)]
    if submodel.isdecimal() and len(submodel) < 9 and int(submodel) < len(models):
        return models[int(submodel)]
    known = ", ".join(f"{i} ({name})" if name else str(i) for i, name in enumerate(names[:20]))
    raise FormatError(f"has no submodel {short(submodel)}; it has {known}")


def _model_of(top: Node, entry: Node, key: str = "model") -> Node:
    """Return an inner model, with the sample rate of the outer one if it has none."""
    model = entry.node(key)
    if top.has("sample_rate") and not model.has("sample_rate"):
        values = {**entry.get(key), "sample_rate": top.get("sample_rate")}
        return Node(values, model.where)
    return model


def _name(model: Node) -> str:
    metadata = model.get("metadata", {})
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name[:60] if isinstance(name, str) else ""


def _model(node: Node, depth: int) -> AnyModel:
    """Return the model, with its weights."""
    if depth > _MAX_NESTING:
        raise FormatError(f"{node.where[:60]}... is nested too deeply")
    architecture = node.text("architecture")
    if architecture in SIMPLE:
        _check_version(node)
        config = SIMPLE[architecture](node.node("config"), _sample_rate(node))
        return _filled(simple_model(config), node)
    if architecture in SEQUENTIAL:
        _check_version(node)
        return NamSequential([_model(inner, depth + 1) for inner in _sequence(node)])
    network, weights = _wavenet(node, depth)
    model = NamWaveNet(network)
    part: NamWaveNet | None = model
    for own in weights:
        assert part is not None
        fill(part, own)
        part = part.condition
    return model


def _filled(make: SimpleMaker, node: Node) -> NamModel:
    """Make a model when the number of its weights is right, and set them."""
    config, kind = make
    weights = node.items("weights")
    _check_count(node, len(weights), config.n_weights)
    numbers = _numbers(weights, node.path("weights"))
    model = kind(config)
    model.fill(numbers)
    return model


def _sequence(node: Node) -> list[Node]:
    """Return the models of a sequence, each with what the outer model says for all."""
    config = node.node("config")
    key = "models" if config.has("models") else "layers"
    where, entries = config.path(key), config.items(key)
    if not 1 <= len(entries) <= MAX_LAYERS:
        raise FormatError(f"{where} has {len(entries)} models, expected 1 to {MAX_LAYERS}")
    outer = {k: node.get(k) for k in ("version", "sample_rate") if node.has(k)}
    found = [Node(entry, f"{where}[{i}]") for i, entry in enumerate(entries)]
    if all(inner.has("architecture") for inner in found):
        return [
            Node({**outer, **entry}, inner.where)
            for inner, entry in zip(found, entries, strict=True)
        ]
    raise FormatError(
        f"{where} has models without architecture and weights, which cannot be told apart; write "
        "each model as a file of its own has it"
    )


def _check_count(node: Node, found: int, expected: int) -> None:
    if found != expected:
        raise FormatError(
            f"{node.path('weights')} has {found} numbers, but config asks for "
            f"{expected}; the file is damaged"
        )


def _wavenet(node: Node, depth: int) -> tuple[NamConfig, list[Tensor]]:
    """Return the configuration, and the weights of the network, of its condition, and so on."""
    if depth > _MAX_NESTING:
        raise FormatError(f"{node.where[:60]}... is nested too deeply")
    _check_version(node)
    architecture = node.text("architecture")
    if architecture != "WaveNet":
        raise FormatError(
            f"{node.path('architecture')} is {short(architecture)}, and only {_KINDS} can be read "
            "(as condition_dsp only WaveNet)"
        )
    settings = node.node("config")
    condition, inner = None, list[Tensor]()
    if settings.has("condition_dsp"):
        condition, inner = _wavenet(_model_of(node, settings, "condition_dsp"), depth + 1)
    weights = node.items("weights")
    scale = settings.number("head_scale", 1.0)
    if weights:  # the last weight is the head scale as well, and takes precedence
        scale = number(weights[-1], node.path("weights"))
    config = NamConfig(
        parse_arrays(settings),
        scale,
        parse_post_head(settings),
        settings.integer("in_channels", 1),
        condition,
        _sample_rate(node),
    )
    if condition is not None and condition.sample_rate != config.sample_rate:
        raise FormatError(
            f"condition_dsp works at {condition.sample_rate} Hz, and what it is part of at "
            f"{config.sample_rate} Hz"
        )
    _check_count(node, len(weights), config.n_weights)
    return config, [_numbers(weights, node.path("weights")), *inner]


def _numbers(weights: list[Any], where: str) -> Tensor:
    for i, value in enumerate(weights):
        if type(value) not in (float, int):
            raise FormatError(f"{where}[{i}] is {short(value)}, expected a number")
    try:
        tensor = torch.tensor(weights, dtype=torch.float64).float()
    except (OverflowError, RuntimeError):  # a whole number beyond all floats
        raise FormatError(f"{where} has numbers that no float can hold") from None
    bad = (~tensor.isfinite()).nonzero()
    if len(bad):
        at = int(bad[0])
        raise FormatError(
            f"{where}[{at}] is {short(weights[at])}, and {len(bad)} in all are not finite"
        )
    return tensor


def _check_version(node: Node) -> None:
    version = node.text("version")
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version, re.ASCII)
    if found is None:
        raise FormatError(f"{node.path('version')} is {short(version)}, expected such as '0.5.4'")
    if not _OLDEST <= (int(found[1]), int(found[2])) <= _NEWEST:
        raise FormatError(f"{node.path('version')} is {version}; 0.5.0 to 0.7.x can be read")


def _sample_rate(node: Node) -> int:
    rate = node.number("sample_rate", SAMPLE_RATE)
    if rate != int(rate) or not 1 <= rate <= 1_000_000:
        raise FormatError(
            f"{node.path('sample_rate')} is {rate}, expected a whole number of Hz up to 1000000"
        )
    return int(rate)
