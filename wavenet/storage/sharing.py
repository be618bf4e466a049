"""Shareable ``config.json`` of a checkpoint: without local paths and command line.

Training records its whole configuration and the command that started it. When a checkpoint leaves
the machine (pushed to a hub, exported, shipped with the package), the folders of that machine and
the name of its user are removed; the last part of each path stays.
"""

from __future__ import annotations

import re
from typing import Any

_WHOLE = re.compile(r"(?:file://|~[\w.-]*[/\\]|[/\\]|[A-Za-z]:[/\\])(?=.*\S)", re.DOTALL)
_WITHIN = re.compile(
    r"""(?<![^\s=:,;'"(\[])"""  # what precedes a path in a command or a sentence
    r"""(?:file://|~[\w.-]*[/\\]|(?:[A-Za-z]:)?(?:/(?!/)|\\))(?=\S)"""  # where a path begins
    r"""(?:[^\s'",;:)\]]*[/\\])?([^\s'",;:)\]/\\]*)[/\\]?"""  # its folders, and its name
)


def shareable(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a ``config.json`` without local paths and without the command line.

    Args:
        content: from ``wavenet.storage.checkpoint.read_config``; it is not changed.
    """
    kept = {key: value for key, value in content["provenance"].items() if key != "command"}
    return {**content, "provenance": without_local_paths(kept)}


def without_local_paths(value: Any) -> Any:
    """Return JSON values in which every absolute path is replaced by its last part.

    >>> without_local_paths({"corpus": "/data/ann/voices", "note": "made by ~/bin/x --out=/x/y"})
    {'corpus': 'voices', 'note': 'made by x --out=y'}
    """
    if isinstance(value, dict):
        return {without_local_paths(key): without_local_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_local_paths(part) for part in value]
    if not isinstance(value, str):
        return value
    if _WHOLE.match(value) and not re.search(r"\s[-/~]", value):  # else it is a command
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return _WITHIN.sub(lambda found: found[1], value)
