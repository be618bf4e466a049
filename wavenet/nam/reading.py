"""Reading a ``.nam`` file: JSON of ``version``, ``architecture``, ``config`` and flat ``weights``.

Files are untrusted. Nothing in them is executed; sizes are compared with the number of weights
before anything is allocated; every error is one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from wavenet.nam.config import CONTAINER, MAX_LAYERS, SAMPLE_RATE, NamConfig
from wavenet.nam.container import NamContainer, Submodel, name_in, position_of, require_single
from wavenet.nam.layers_json import parse_arrays, parse_post_head
from wavenet.nam.model import NamModel
from wavenet.nam.network import NamWaveNet
from wavenet.nam.simple import NamSequential
from wavenet.nam.simple_json import SIMPLE, SimpleMaker, architecture_of, simple_model
from wavenet.nam.values import FormatError, Node, number, short
from wavenet.nam.weights import fill
from wavenet.storage.json_files import JsonError, finite_only, parse_json

MAX_BYTES = 1 << 24
"""Largest file that is read, 16 MiB: 50 times NAM's "standard" size."""

MAX_SUBMODELS = 64
"""Most sizes in a container; the trainer's package packs 2."""
_OLDEST, _NEWEST = (0, 5), (0, 7)
_MAX_NESTING = 4
SEQUENTIAL = ("Sequential", "sequential")
"""Spellings of the trainer's package, and of older files."""
_KINDS = ", ".join(("WaveNet", *SIMPLE, "Sequential"))

T = TypeVar("T")
AnyModel: TypeAlias = NamWaveNet | NamModel
"""What a file can hold."""


def is_nam(path: str | PathLike[str]) -> bool:
    """Return true for a path with the suffix ``.nam`` that is no folder.

    >>> is_nam("amp.nam"), is_nam("runs/amp/model")
    (True, False)
    """
    return Path(path).suffix.lower() == ".nam" and not Path(path).is_dir()


def read_nam(path: str | PathLike[str], *, submodel: str | None = None) -> AnyModel:
    """Read the model of a ``.nam`` file of version 0.5.0 to 0.7.x, in evaluation mode.

    >>> write_nam("amp.nam", NamWaveNet(preset("nano")), {"name": "my amplifier"})
    >>> model = read_nam("amp.nam")
    >>> model.metadata["name"], model.training
    ('my amplifier', False)

    Args:
        path: the file.
        submodel: for a file with several sizes of one model: the ``name`` in its metadata, or its
            position from 0 on; default, the largest.

    Raises:
        FormatError: if the file is missing, damaged, or has another kind of model.
    """
    return _read(path, lambda top: _with_metadata(_choose(top, submodel)))


def read_nam_whole(path: str | PathLike[str]) -> AnyModel | NamContainer:
    """Read all that a ``.nam`` file holds: its model, or all sizes of it.

    >>> models = {"small": NamWaveNet(preset("nano")), "large": NamWaveNet(preset("feather"))}
    >>> write_nam_container("amp.nam", models)
    >>> len(read_nam_whole("amp.nam").submodels)
    2

    Args:
        path: the file.

    Raises:
        FormatError: as ``read_nam``.
    """
    return _read(path, _whole)


def _read(path: str | PathLike[str], build: Callable[[Node], T]) -> T:
    try:
        top = Node(_parse(path))
        _check_version(top)
        return build(top)
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from None


def _whole(top: Node) -> AnyModel | NamContainer:
    if top.text("architecture") != CONTAINER:
        return _with_metadata(top)
    submodels = tuple(
        Submodel(_with_metadata(_model_of(top, entry)), entry.number("max_value"))
        for entry in _entries(top)
    )
    return NamContainer(submodels, _metadata(top))


def _with_metadata(node: Node) -> AnyModel:
    model = _model(node, depth=0)
    model.metadata = _metadata(node)
    return model.eval()


def _metadata(node: Node) -> dict[str, Any]:
    metadata = node.get("metadata", {})
    return finite_only(metadata) if isinstance(metadata, dict) else {}


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
    if top.text("architecture") != CONTAINER:
        require_single(submodel)
        return top
    entries = _entries(top)
    models = [_model_of(top, entry) for entry in entries]
    names = [name_in(model.get("metadata", {})) for model in models]
    limits = [entry.number("max_value") for entry in entries]
    return models[position_of(submodel, names, limits)]


def _entries(top: Node) -> list[Node]:
    """Return the sizes of a container."""
    config = top.node("config")
    where = config.path("submodels")
    entries = [Node(e, f"{where}[{i}]") for i, e in enumerate(config.items("submodels"))]
    if not 1 <= len(entries) <= MAX_SUBMODELS:
        raise FormatError(f"{where} has {len(entries)} models, expected 1 to {MAX_SUBMODELS}")
    return entries


def _model_of(top: Node, entry: Node, key: str = "model") -> Node:
    """Return an inner model, with the sample rate of the outer one if it has none."""
    model = entry.node(key)
    if top.has("sample_rate") and not model.has("sample_rate"):
        values = {**entry.get(key), "sample_rate": top.get("sample_rate")}
        return Node(values, model.where)
    return model


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
    named = [inner.has("architecture") for inner in found]
    if not any(named):
        return _joined(node, found, outer)
    if all(named):
        return [
            Node({**outer, **entry}, inner.where)
            for inner, entry in zip(found, entries, strict=True)
        ]
    raise FormatError(f"{where} has models with and without an architecture; the file is damaged")


def _joined(node: Node, configs: list[Node], outer: dict[str, Any]) -> list[Node]:
    """Return the models of a sequence whose weights are joined in one list, in order.

    So the trainer's package exports it: of each model the ``config`` alone.
    """
    weights, at, models = node.items("weights"), 0, []
    for config in configs:
        n = _n_weights(config, _sample_rate(node), depth=0)
        own = {"architecture": architecture_of(config), "config": config.values}
        models.append(Node({**outer, **own, "weights": weights[at : at + n]}, config.where))
        at += n
    _check_count(node, len(weights), at)
    return models


def _n_weights(config: Node, sample_rate: int, depth: int) -> int:
    """Count the weights of a model of a sequence."""
    if depth > _MAX_NESTING:
        raise FormatError(f"{config.where[:60]}... is nested too deeply")
    architecture = architecture_of(config)
    if architecture in SIMPLE:
        return SIMPLE[architecture](config, sample_rate).n_weights
    if architecture in SEQUENTIAL:
        where, entries = config.path("models"), config.items("models")
        inner = [Node(entry, f"{where}[{i}]") for i, entry in enumerate(entries)]
        return sum(_n_weights(one, sample_rate, depth + 1) for one in inner)
    settings = parse_arrays(config), 1.0, parse_post_head(config), config.integer("in_channels", 1)
    return NamConfig(*settings, sample_rate=sample_rate).n_weights


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
