"""``wavenet info``: what a checkpoint is and where it comes from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from wavenet.cli.options import add_json
from wavenet.loading import load
from wavenet.receptive_fields import receptive_field
from wavenet.storage.checkpoint import read_config
from wavenet.storage.hub import resolve


def add_arguments(info: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    info.add_argument("model", metavar="MODEL", help="a checkpoint's folder or a voice")
    add_json(info)


def answer(options: argparse.Namespace) -> str:
    """Size, receptive field, configuration and provenance, as text or as JSON.

    Raises:
        CheckpointError: the folder holds no model.
    """
    folder = resolve(options.model)
    model, content = load(folder), read_config(folder)
    field = receptive_field(model)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiply_adds_per_sample": model.multiply_adds,
        "receptive_field_samples": field.samples,
        "receptive_field_ms": field.milliseconds,
        **content,
    }
    if options.json:
        return json.dumps(facts)
    lines = [
        f"{facts['parameters']:,} parameters, {model.multiply_adds:,} multiply-adds per sample",
        f"receptive field: {field.samples} samples = {field.milliseconds:.3f} ms",
    ]
    for title in ("config", "provenance"):
        lines += [f"{title}:", *_tree(content[title], indent="  ")]
    return "\n".join(lines)


def _tree(values: dict[str, Any], indent: str) -> Iterator[str]:
    """A line a value that is set, those of a dictionary below its key."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _tree(value, indent + "  ")
        elif value is not None:
            yield f"{indent}{key}: {value}"
