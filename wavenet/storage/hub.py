"""Checkpoints on the Hugging Face Hub: fetched by name, pushed with a model card and a licence.

A repository contains the files of a checkpoint folder, ``config.json`` and ``model.safetensors``, a
``README.md``, and the texts of licence and attribution. No other file is fetched, so nothing could
be unpickled or run.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from wavenet.storage.checkpoint import (
    CONFIG_NAME,
    LICENCE_FILES,
    LICENCE_NAMES,
    WEIGHTS_NAME,
    CheckpointError,
    find_checkpoint,
    licence_files,
    read_config,
    weights_bytes,
)
from wavenet.storage.pretrained import CARD_NAME as VOICE_CARD_NAME
from wavenet.storage.sharing import shareable
from wavenet.values.text import printable

logger = logging.getLogger("wavenet")

CARD_NAME = "README.md"
FILES = (CONFIG_NAME, WEIGHTS_NAME, CARD_NAME)
ADDRESS = "hf://"
"""Prefix of a name that always means a repository of the Hub, never a folder."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LICENCE_ID = re.compile(r"LICEN[SC]E-((?:CC-BY|CC0|Apache|MIT|BSD)[\w.-]*)", re.ASCII | re.I)
_EXTRA = "pip install 'wavenet-audio[hub]'"


def resolve(name: str | Path, revision: str | None = None) -> Path:
    """Resolve a name to a folder: a local one, or a repository of the Hub, which is fetched.

    ``hf://owner/name``, or a name with a revision, is a repository. Plain ``owner/name`` is one as
    well, but only where no folder ``owner`` exists: a folder whose name is mistyped is not looked
    up elsewhere. A line of the log names the repository. The Hub's own cache keeps fetched
    repositories, which are used from there without a network.

    Args:
        name: a folder (a ``Path`` always is one), ``hf://owner/name`` or ``owner/name``.
        revision: branch, tag or commit on the Hub.

    Returns:
        A folder; it need not exist if the name is not that of a repository.

    Raises:
        CheckpointError: if the Hub has no such repository or it cannot be reached, in one line.
        ValueError: for a revision of a folder, and for ``hf://`` before anything but owner/name.
    """
    text = str(name)
    if isinstance(name, str) and text.startswith(ADDRESS):
        repository = text.removeprefix(ADDRESS)
        if not _NAME.fullmatch(repository):
            raise ValueError(f"{text} is no repository of the Hub; give {ADDRESS}owner/name")
        return _fetch(repository, revision, text)
    is_folder = isinstance(name, Path) or os.path.exists(text) or not _NAME.fullmatch(text)
    if is_folder and revision is not None:
        raise ValueError(f"revision={revision!r} of {name}: only what is on the Hub has revisions")
    if is_folder or (revision is None and os.path.lexists(text.split("/")[0])):
        return Path(name)
    return _fetch(text, revision, f"{text} is no folder here, and")


def push(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    message: str = "Upload a WaveNet",
) -> str:
    """Push a checkpoint to the Hub, to a repository that is made if it is missing.

    The texts of licence and attribution in the folder are included. A ``README.md`` in the folder
    is the model card; otherwise one is made from ``config.json`` and the card of a pretrained
    model. The origin of the weights is pushed without local paths and without the command.

    >>> push("runs/me/model", "ann/my-voice", private=True)  # doctest: +SKIP

    Args:
        folder: a checkpoint, or the name of a pretrained model.
        name: ``owner/name``.
        private: whether a new repository is private.
        message: of the commit.

    Returns:
        The URL of the commit.

    Raises:
        CheckpointError: if the folder is no checkpoint.
        ValueError: if the name has another form, or the Hub refuses.
        ModuleNotFoundError: without the package of the extra ``hub``.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"name={name!r} is no repository of the Hub; give owner/name")
    content = shareable(read_config(folder))
    weights_bytes(folder)
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"pushing {name} needs huggingface_hub; {_EXTRA}") from None
    with tempfile.TemporaryDirectory() as staging:
        sent = _stage(find_checkpoint(folder), Path(staging), name, content)
        api = HfApi()
        try:
            api.create_repo(name, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=name,
                folder_path=staging,
                allow_patterns=sent,
                commit_message=message,
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise ValueError(f"{name} could not be pushed: {_one_line(error)}") from None
    return str(commit)


def model_card(name: str, content: dict[str, Any], licences: list[str] | None = None) -> str:
    """Write the text of a model card from the content of ``config.json``.

    Args:
        name: ``owner/name``.
        content: from ``read_config``.
        licences: names of the texts of licence and attribution beside it.
    """
    settings = "\n".join(
        f"| {_plain(key)} | `{_plain(value)}` |"
        for key, value in content["config"].items()
        if value not in (None, [], 0, False)
    )
    origin = "\n".join(
        f"- {_plain(key)}: `{_plain(value)}`"
        for key, value in shareable(content)["provenance"].items()
    )
    licence = f"\nLicence and attribution: {', '.join(licences)}\n" if licences else ""
    return f"""{_front_matter(licences or [], content)}
# {name.split("/")[1]}

A WaveNet of the package `wavenet-audio`, as `config.json` and `model.safetensors`.

{_usage(name)}
| setting | value |
| --- | --- |
{settings}

Where the weights come from:

{origin}
{licence}"""


def _stage(folder: Path, staging: Path, name: str, content: dict[str, Any]) -> list[str]:
    """Copy the files to push into a folder, and return their names."""
    licences = licence_files(folder)
    for path in (folder / WEIGHTS_NAME, folder / CARD_NAME, *licences):
        if path.is_file():
            shutil.copyfile(path, staging / path.name)
    (staging / CONFIG_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    names = [path.name for path in licences]
    if not (staging / CARD_NAME).exists():
        if (folder / VOICE_CARD_NAME).is_file():
            own = (folder / VOICE_CARD_NAME).read_text(encoding="utf-8")
            card = f"{_front_matter(names, content)}\n{own}\n## How to load it\n\n{_usage(name)}"
        else:
            card = model_card(name, content, names)
        (staging / CARD_NAME).write_text(card, encoding="utf-8")
    return [*FILES, *names]


def _front_matter(licences: list[str], content: dict[str, Any]) -> str:
    """Format the YAML that the Hub reads; the licence by the Hub's identifier where it has one."""
    lines = ["library_name: wavenet-audio", "tags:", "- audio", "- wavenet"]
    if content["config"].get("mel") is not None:
        lines = ["pipeline_tag: audio-to-audio", *lines, "- vocoder"]
    for file in licences:
        known = _LICENCE_ID.match(Path(file).stem if file.endswith((".txt", ".md")) else file)
        if known:
            lines.append(f"license: {known[1].lower()}")
            break
    else:
        named = [file for file in licences if file.startswith(LICENCE_NAMES[:3])]
        if named:
            lines += ["license: other", f"license_link: {json.dumps(named[0])}"]
    return "\n".join(["---", *lines, "---", ""])


def _usage(name: str) -> str:
    return f'```python\nimport wavenet\n\nmodel = wavenet.load("{ADDRESS}{name}")\n```\n'


def _plain(value: Any) -> str:
    """Format a value for a table and between backticks."""
    return printable(str(value)).replace("`", "'").replace("|", "\\|")


def _fetch(name: str, revision: str | None, subject: str) -> Path:
    """Fetch a repository; ``subject`` begins the error message."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError:
        raise CheckpointError(
            f"{subject} could not be fetched from the Hugging Face Hub without huggingface_hub; "
            f"{_EXTRA}"
        ) from None
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=[*FILES, *LICENCE_FILES])
    except (HfHubHTTPError, OSError, ValueError) as error:
        at = "" if revision is None else f" at revision {revision}"
        raise CheckpointError(
            f"{subject} could not be fetched from the Hugging Face Hub{at}: {_one_line(error)}"
        ) from None
    logger.info("%s%s is a model of the Hugging Face Hub, kept in %s", ADDRESS, name, folder)
    return Path(folder)


def _one_line(error: Exception) -> str:
    """Return the first sentence of an error of the Hub's client."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.split('. ')[0]}" if text else type(error).__name__
