"""``wavenet train``: train a model; its arguments are the keys of a recipe."""

from __future__ import annotations

import argparse
import functools
from typing import Any

from wavenet.cli.parser import CommandParser
from wavenet.cli.progress import counted
from wavenet.cli.signals import INTERRUPTED
from wavenet.cli.standard_streams import print_result
from wavenet.training.recipe import MISSING_PACKAGES, parse_training, training_options
from wavenet.values.text import printable


def add_arguments(parser: CommandParser) -> None:
    """Let the settings of training read the arguments: jsonargparse knows their types."""
    parser.reader = _read


def add_options(parser: CommandParser) -> None:
    """Add every key as an option of argparse, for what reads parsers: completion, reference pages.

    Raises:
        ModuleNotFoundError: without the packages that training needs.
    """
    parser.add_argument(
        "recipe", metavar="RECIPE.yaml", nargs="?", help="read settings from this YAML file"
    )
    for name, meaning, has_value in training_options():
        meaning = meaning.replace("%", "%%")
        if has_value:
            parser.add_argument(name, metavar="VALUE", help=meaning)
        else:
            parser.add_argument(name, action="store_true", help=meaning)


def _read(arguments: list[str]) -> dict[str, Any]:
    config, out, resume = parse_training(arguments)
    recipe = arguments[0] if arguments and not arguments[0].startswith("-") else None
    return {"config": config, "out": out, "resume": resume, "recipe": recipe}


def run(options: argparse.Namespace) -> int:
    """Train a model, and print what it has learnt.

    Returns:
        The exit code; also of a run that was interrupted.

    Raises:
        ValueError: for a configuration that cannot be trained.
        ModuleNotFoundError: without the packages that training needs.
        TrainingError: for a run that cannot go on.
    """
    if not options.out:
        raise ValueError("--out is missing; name the folder for the model")
    try:
        from wavenet.training.run import is_writer, train
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{MISSING_PACKAGES} ({error})") from error

    progress = functools.partial(counted, title="decoding")
    result = train(
        options.config,
        options.out,
        recipe=options.recipe,
        resume=options.resume,
        progress=progress,
    )
    if is_writer():  # of several processes one prints
        ended = "interrupted after" if result.interrupted else "trained for"
        print_result(
            f"{ended} {result.steps} steps: {result.bits_before:.3f} -> {result.bits_after:.3f} "
            f"bits per sample (best constant distribution {result.constant_bits:.3f})\n"
            f"model: {printable(str(result.model_folder))}"
        )
    return INTERRUPTED if result.interrupted else 0
