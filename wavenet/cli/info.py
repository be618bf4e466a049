"""``wavenet info``: what a checkpoint is and where it comes from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from wavenet.cli.options import MODEL_HELP, add_json, any_name
from wavenet.cli.standard_streams import print_result
from wavenet.values.text import printable


def add_arguments(info: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    info.add_argument(
        "model",
        type=any_name,
        metavar="MODEL",
        help=f"describe this model: {MODEL_HELP}, or a .nam file",
    )
    add_json(info)


def run(options: argparse.Namespace) -> int:
    """Print size, receptive field, configuration and provenance, as text or as JSON.

    Raises:
        CheckpointError: the folder holds no model.
    """
    from wavenet.loading import read_model
    from wavenet.receptive_fields import receptive_field

    model, content = read_model(options.model)
    field = receptive_field(model)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiply_adds_per_sample": model.multiply_adds,
        "receptive_field_samples": field.samples if field.is_finite else None,
        "receptive_field_ms": field.milliseconds if field.is_finite else None,
        **content,
    }
    if options.json:
        print_result(json.dumps(facts))
        return 0
    lines = [
        f"{facts['parameters']:,} parameters, {model.multiply_adds:,} multiply-adds per sample",
        "receptive field: "
        + (
            f"{field.samples} samples = {field.milliseconds:.3f} ms"
            if field.is_finite
            else f"unbounded ({'; '.join(field.unbounded)})"
        ),
    ]
    for title in ("config", "provenance"):
        lines += [f"{title}:", *_tree(content[title], indent="  ")]
    print_result("\n".join(lines))
    return 0


def _tree(values: dict[str, Any], indent: str) -> Iterator[str]:
    """A line a value that is set, those of a dictionary below its key."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{printable(str(key))}:"
            yield from _tree(value, indent + "  ")
        elif value is not None:
            yield f"{indent}{printable(str(key))}: {printable(str(value))}"
