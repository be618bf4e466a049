"""The keys below ``model`` in a recipe: names, types and meanings of the settings of a model.

They are those of ``WaveNetConfig``, read from its source: importing the class takes torch, for
which ``wavenet train --help`` shall not wait.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).parents[1] / "model" / "config.py"

_TYPES: dict[str, Any] = {
    "MelConfig | None": str | dict[str, Any] | None,  # the name of a preset, or all settings
    "FeatureConfig | None": dict[str, Any] | None,
    "bool": bool,
    "float": float,
    "float | None": float | None,
    "int": int,
    "int | None": int | None,
    "str": str,
    "str | None": str | None,
    "tuple[float, ...]": list[float],
    "tuple[int, ...]": list[int],
    "tuple[str, ...]": list[str],
}
"""Types of values in a recipe, by the annotation of the setting; of others, any value is taken,
and ``WaveNetConfig.from_dict`` checks it."""


@dataclass(frozen=True)
class ModelKey:
    """One key.

    Attributes:
        name: as in a recipe.
        type: of its value.
        meaning: of the setting.
    """

    name: str
    type: Any
    meaning: str


@functools.cache
def model_keys() -> tuple[ModelKey, ...]:
    """Return ``preset`` and every setting of ``WaveNetConfig``; needs docstring_parser."""
    from docstring_parser import parse

    (config,) = (
        node
        for node in ast.parse(_SOURCE.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == "WaveNetConfig"
    )
    documented = parse(ast.get_docstring(config) or "").params
    meanings = {each.arg_name: each.description or "" for each in documented}
    keys = [
        ModelKey(
            node.target.id, _TYPES.get(ast.unparse(node.annotation), Any), meanings[node.target.id]
        )
        for node in config.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    preset = "start from this size, which the other settings change: tiny, small, medium or nv."
    return ModelKey("preset", str, preset), *keys
