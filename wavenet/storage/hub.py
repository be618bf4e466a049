"""Checkpoints on the Hugging Face Hub: fetched by name, pushed with a model card.

A repository holds what a checkpoint folder holds, ``config.json`` and ``model.safetensors``, and a
``README.md``. No other file is ever fetched, so there is nothing that could be unpickled or run.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from wavenet.storage.checkpoint import CONFIG_NAME, WEIGHTS_NAME, CheckpointError, read_config

CARD_NAME = "README.md"
FILES = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME)
"""All that is fetched and all that is pushed."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_EXTRA = "pip install 'wavenet-audio[hub]'"


def resolve(name: str | Path, revision: str | None = None) -> Path:
    """The folder that a name stands for: one that exists, or else ``owner/name`` on the Hub.

    What was fetched once is kept in the Hub's own cache, and used from there without a network.

    Args:
        name: a folder (a ``Path`` always is one), or ``owner/name``.
        revision: branch, tag or commit on the Hub.

    Returns:
        A folder; it need not exist if the name has another form than ``owner/name``.

    Raises:
        CheckpointError: if neither a folder nor the Hub has it, in one line.
        ValueError: for a revision of a folder.
    """
    is_folder = isinstance(name, Path) or Path(name).exists() or not _NAME.fullmatch(name)
    if is_folder and revision is not None:
        raise ValueError(f"revision={revision!r} of {name}: only what is on the Hub has revisions")
    return Path(name) if is_folder else _fetch(str(name), revision)


def push(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    message: str = "Upload a WaveNet",
) -> str:
    """Put a checkpoint folder on the Hub, in a repository that is made if it is missing.

    A ``README.md`` in the folder is the model card; otherwise one is written from ``config.json``.

    Args:
        folder: a checkpoint.
        name: ``owner/name``.
        private: whether a repository that has to be made is.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: if the folder holds no checkpoint.
        ValueError: if the name has another form, or the Hub refuses.
        ModuleNotFoundError: without the package of the extra ``hub``.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name={name!r} is no repository of the Hub; give owner/name")
    folder = Path(folder)
    content = read_config(folder)
    if not (folder / WEIGHTS_NAME).is_file():
        raise CheckpointError(f"{folder / WEIGHTS_NAME} is missing; the checkpoint is incomplete")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"pushing {name} needs huggingface_hub; {_EXTRA}") from None
    with tempfile.TemporaryDirectory() as staging:
        for file in FILES:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, Path(staging) / file)
        card = Path(staging) / CARD_NAME
        if not card.exists():
            card.write_text(model_card(name, content), encoding="utf-8")
        api = HfApi()
        try:
            api.create_repo(name, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name,
                folder_path=staging,
                allow_patterns=list(FILES),
                commit_message=message,
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise ValueError(f"{name} could not be pushed: {_one_line(error)}") from None
    return str(commit)


def model_card(name: str, content: dict[str, Any]) -> str:
    """The text of a model card, from what ``config.json`` says.

    Args:
        name: ``owner/name``.
        content: as ``read_config`` gives it.
    """
    settings = "\n".join(
        f"| {key} | `{value}` |"
        for key, value in content["config"].items()
        if value not in (None, [], 0, False)
    )
    origin = "\n".join(
        f"- {key}: `{value}`" for key, value in content.get("provenance", {}).items()
    )
    return f"""---
library_name: wavenet-audio
tags:
- audio
- wavenet
---

# {name.split("/")[1]}

A WaveNet of the package `wavenet-audio`, as `config.json` and `model.safetensors`.

```python
import wavenet

model = wavenet.load("{name}")
```

| setting | value |
| --- | --- |
{settings}

Where the weights come from:

{origin}
"""


def _fetch(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{name} is no folder here; to look for it on the Hugging Face Hub, {_EXTRA}"
        ) from None
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(FILES))
    except (HfHubHTTPError, OSError, ValueError) as error:
        at = "" if revision is None else f" at revision {revision}"
        raise CheckpointError(
            f"{name} is no folder here, and could not be fetched from the Hugging Face Hub{at}: "
            f"{_one_line(error)}"
        ) from None
    return Path(folder)


def _one_line(error: Exception) -> str:
    """The first sentence of what the Hub's client says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.split('. ')[0]}" if text else type(error).__name__
