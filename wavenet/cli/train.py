"""``wavenet train``: its arguments are the configuration's keys, which jsonargparse reads."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from wavenet.cli.progress import counted
from wavenet.training.config import MISSING_PACKAGES, parse_training
from wavenet.values.text import printable


def run(arguments: Sequence[str]) -> tuple[str | None, bool]:
    """Train a model.

    Args:
        arguments: all that stands behind ``wavenet train``.

    Returns:
        What to say, None in all processes of a run but one; and whether it was interrupted.

    Raises:
        ValueError: for a configuration that cannot be trained.
        ModuleNotFoundError: without the packages that training needs.
        TrainingError: for a run that cannot go on.
    """
    config, out, resume = parse_training(arguments)
    if not out:
        raise ValueError("--out is missing; name the folder for the model")
    try:
        from wavenet.training.run import is_writer, train
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{MISSING_PACKAGES} ({error})") from error

    recipe = arguments[0] if arguments and not arguments[0].startswith("-") else None
    progress = functools.partial(counted, title="decoding")
    result = train(config, out, recipe=recipe, resume=resume, progress=progress)
    if not is_writer():
        return None, result.interrupted
    ended = "interrupted after" if result.interrupted else "trained for"
    said = (
        f"{ended} {result.steps} steps: {result.bits_before:.3f} -> {result.bits_after:.3f} bits "
        f"per sample (best constant distribution {result.constant_bits:.3f})\n"
        f"model: {printable(str(result.model_folder))}"
    )
    return said, result.interrupted
