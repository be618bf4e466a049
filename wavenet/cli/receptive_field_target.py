"""Targets of ``wavenet receptive-field``: checkpoints, recipes, dilations, other networks."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavenet.cli.options import integer

if TYPE_CHECKING:
    from torch import nn

LARGEST_SIZE = 1_000_000_000_000
"""Largest dilation and input, in samples or values; torch counts bytes in 64 bits."""


def read_target(options: argparse.Namespace) -> Any:
    """Return a configuration, a model or dilations, whatever the options name.

    Raises:
        ValueError: for what is none of them; the message is one line.
    """
    if options.target is None:
        return _dilations(options)
    text = options.target
    if options.stacks is not None or options.kernel_size is not None:
        raise ValueError(f"{text} has its own; leave out --stacks and --kernel-size")
    if ":" in text and not Path(text).exists():
        return _network(text)
    return _read_path(text)


def _read_path(text: str) -> Any:
    """The model configuration in a checkpoint folder or a recipe, or the model in a .nam file."""
    from wavenet.loading import load
    from wavenet.model.config import WaveNetConfig
    from wavenet.nam import ARCHITECTURE, CONTAINER_ARCHITECTURE, is_nam
    from wavenet.storage.checkpoint import CONFIG_NAME, read_config
    from wavenet.storage.hub import resolve
    from wavenet.training.recipe import parse_training

    path = Path(text)
    if path.is_dir() and not (path / CONFIG_NAME).exists() and (path / "config.yaml").exists():
        path = path / "config.yaml"
    if path.suffix in (".yaml", ".yml"):
        return parse_training([str(path)])[0].model_config()
    if is_nam(path):
        return load(path)
    folder = resolve(text)
    content = read_config(folder)
    if content["architecture"] in (ARCHITECTURE, CONTAINER_ARCHITECTURE):
        return load(folder)
    return WaveNetConfig.from_dict(content["config"])


def _dilations(options: argparse.Namespace) -> list[int]:
    stacks = 1 if options.stacks is None else options.stacks
    for name, value in (("layers", options.layers), ("stacks", stacks)):
        if value is not None and value < 1:
            raise ValueError(f"--{name}={value} must be at least 1")
    if options.layers is not None:
        return [2**i for i in range(options.layers)] * stacks
    return integers("--dilations", options.dilations) * stacks


def _network(text: str) -> nn.Module:
    """``package.module:callable``: a class or a function that makes a network, or a network."""
    from torch import nn

    module_name, _, path = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a network in a file beside, as `python -m` finds it
    try:
        found: Any = importlib.import_module(module_name)
        for name in path.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        reason = str(error) or type(error).__name__
        raise ValueError(f"{text}: cannot be imported: {reason}") from error
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise ValueError(f"{text}: is a {type(found).__name__}; name what makes a torch.nn.Module")
    try:
        network = found()
    except (Exception, SystemExit) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{text}: cannot be made without arguments: {lines[0]}; "
            "name a function that makes the network"
        ) from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{text}: gives a {type(network).__name__}, not a torch.nn.Module")
    return network


def integers(name: str, text: str) -> list[int]:
    """Integers with commas between them.

    Raises:
        ValueError: for anything else, and for sizes that no tensor has.
    """
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    try:
        values = [integer(part.strip()) for part in text.split(",")]
    except argparse.ArgumentTypeError:
        raise ValueError(f"{name}={shown!r} must be integers with commas, such as 1,2,4") from None
    if max(values) > LARGEST_SIZE:
        raise ValueError(f"{name}={shown!r} has {max(values)}; give at most {LARGEST_SIZE}")
    return values
