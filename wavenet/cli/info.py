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

    model, content = read_model(options.model)
    sizes = _sizes(options.model, content)
    facts = {**_facts(model), **({"submodels": sizes} if sizes else {}), **content}
    if options.json:
        print_result(json.dumps(facts))
        return 0
    lines = []
    if sizes:
        lines = [f"{len(sizes)} sizes of one model; --submodel of other commands takes one:"]
        lines += [f"  {i}: {_size_line(size)}" for i, size in enumerate(sizes)]
        lines.append("the largest:")
    lines += [
        f"{facts['parameters']:,} parameters, {model.multiply_adds:,} multiply-adds per sample",
        f"receptive field: {facts['receptive_field']}",
    ]
    for title in ("config", "provenance"):
        lines += [f"{title}:", *_tree(content[title], indent="  ")]
    print_result("\n".join(lines))
    return 0


def _facts(model: Any) -> dict[str, Any]:
    """Size and receptive field of a model."""
    from wavenet.receptive_fields import receptive_field

    field = receptive_field(model)
    shown = f"unbounded ({'; '.join(field.unbounded)})"
    if field.is_finite:
        shown = f"{field.samples} samples = {field.milliseconds:.3f} ms"
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiply_adds_per_sample": model.multiply_adds,
        "receptive_field": shown,
        "receptive_field_samples": field.samples if field.is_finite else None,
        "receptive_field_ms": field.milliseconds if field.is_finite else None,
    }


def _sizes(source: str, content: dict[str, Any]) -> list[dict[str, Any]]:
    """Facts of each size of an amplifier's model that has several, or none."""
    from wavenet.cli.nam_models import load_whole
    from wavenet.model import ARCHITECTURE
    from wavenet.nam import NamContainer

    if content["architecture"] == ARCHITECTURE:
        return []
    whole = load_whole(source)
    if not isinstance(whole, NamContainer):
        return []
    return [
        {"name": one.name, "max_value": one.max_value, **_facts(one.model)}
        for one in whole.submodels
    ]


def _size_line(size: dict[str, Any]) -> str:
    name = f"{printable(size['name'])}, " if size["name"] else ""
    return f"{name}{size['parameters']:,} parameters, receptive field {size['receptive_field']}"


def _tree(values: dict[str, Any], indent: str) -> Iterator[str]:
    """A line a value that is set, those of a dictionary below its key."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{indent}{printable(str(key))}:"
            yield from _tree(value, indent + "  ")
        elif value is not None:
            yield f"{indent}{printable(str(key))}: {printable(str(value))}"
