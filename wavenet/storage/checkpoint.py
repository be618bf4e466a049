"""The checkpoint: a folder with ``config.json`` and ``model.safetensors``.

``config.json`` contains everything that the output depends on: the format's version, the
architecture, the model's configuration with sample rate, mel settings and output distribution, and
the origin of the weights. ``model.safetensors`` contains the weights and the mel filterbank. With a
``dtype`` the parameters are stored in half precision, and converted to float32 when they are
loaded; the filterbank is always float32. Nothing is unpickled. Both files are written to temporary
names and then renamed, so that the folder stays loadable after a full disk or a killed process.

Wherever a folder is read, the name of a pretrained model of the package is accepted as well
(``wavenet.storage.pretrained``); a folder of that name takes precedence.

This module defines the format; ``wavenet.model.from_checkpoint`` builds the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from wavenet.storage.files import atomic_write
from wavenet.storage.json_files import finite_only, read_json
from wavenet.storage.pretrained import DEFAULT_VOICE, voice_folder, voice_names, voices_in_words
from wavenet.values.text import printable, short

FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
MAX_CONFIG_BYTES = 4 << 20
"""Largest ``config.json`` that is read; with the names of 10,000 speakers it has 300 kB."""
MAX_HEADER_BYTES = 16 << 20
"""Largest header of ``model.safetensors`` that is read; 1000 layers have 700 kB."""
FLOATS = ("F16", "BF16", "F32", "F64")
INTEGERS = ("BOOL", "U8", "I8", "I16", "I32", "I64")
"""Dtypes of stored tensors, by safetensors' names."""
LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "ATTRIBUTION")
LICENCE_FILES = tuple(
    pattern for name in LICENCE_NAMES for pattern in (name, f"{name}*.txt", f"{name}*.md")
)
"""Patterns of the texts that are copied with the weights."""
MAX_LICENCE_BYTES, MAX_LICENCES = 1 << 20, 32
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Values of ``dtype`` in ``config.json``."""


class CheckpointError(ValueError):
    """Raised for a folder without the requested checkpoint.

    >>> load("runs/missing")
    Traceback (most recent call last):
        ...
    wavenet.storage.checkpoint.CheckpointError: runs/missing is no folder here, and ...
    """


def write_checkpoint(
    folder: str | Path,
    *,
    architecture: str,
    config: dict[str, Any],
    tensors: Mapping[str, Tensor],
    provenance: dict[str, Any] | None = None,
    dtype: str | None = None,
    licences: Mapping[str, str] | None = None,
) -> None:
    """Write both files, and licences beside them, into a folder that is made if it is missing.

    Args:
        folder: of the checkpoint.
        architecture: name of the kind of model.
        config: JSON values.
        tensors: weights and buffers, on any device.
        provenance: origin of the weights: corpus, steps, command, loss ... (JSON values).
        dtype: half precision of the parameters, one of ``HALVES``; the caller has converted them.
        licences: texts of licence and attribution by file name, from ``read_licences``.

    Raises:
        ValueError: if the values take more than ``MAX_CONFIG_BYTES``.
        WriteError: if a file cannot be written; the old ones are unchanged.
    """
    folder = Path(folder)
    content = {
        "format_version": FORMAT_VERSION,
        "architecture": architecture,
        **({} if dtype is None else {"dtype": dtype}),
        "config": config,
        "provenance": {**(provenance or {}), "versions": _library_versions()},
    }
    text = json.dumps(content, indent=2) + "\n"
    if len(text) > MAX_CONFIG_BYTES:  # ASCII: as many bytes
        raise ValueError(
            f"config and provenance are {len(text)} bytes of JSON, and at most {MAX_CONFIG_BYTES} "
            "are read; leave out what the output does not depend on"
        )
    weights = save({name: part.detach().cpu().contiguous() for name, part in tensors.items()})
    # Both are on the disk before either is renamed: a full disk must not separate them.
    with atomic_write(folder / CONFIG_NAME) as config_path:
        config_path.write_text(text, encoding="utf-8")
        with atomic_write(folder / WEIGHTS_NAME) as weights_path:
            weights_path.write_bytes(weights)
            for name, licence in (licences or {}).items():
                with atomic_write(folder / name) as path:
                    path.write_text(licence, encoding="utf-8")


def licence_files(folder: Path) -> list[Path]:
    """Find the texts of licence and attribution in a folder, sorted by name."""
    found = {path for pattern in LICENCE_FILES for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def read_licences(folder: str | Path) -> dict[str, str]:
    """Read the texts of licence and attribution beside a checkpoint, by file name.

    Raises:
        CheckpointError: for more than ``MAX_LICENCES`` files, or one over ``MAX_LICENCE_BYTES``.
    """
    found = licence_files(find_checkpoint(folder))
    if len(found) > MAX_LICENCES:
        raise CheckpointError(
            f"{folder} holds {len(found)} texts of licences, more than {MAX_LICENCES}; join them"
        )
    texts = {}
    for path in found:
        if path.stat().st_size > MAX_LICENCE_BYTES:
            raise CheckpointError(f"{path} is longer than {MAX_LICENCE_BYTES} bytes; shorten it")
        texts[path.name] = path.read_text(encoding="utf-8", errors="replace")
    return texts


def find_checkpoint(folder: str | Path) -> Path:
    """Return the folder, or that of the pretrained model of this name if it does not exist."""
    path = Path(folder)
    is_name = not path.exists() and str(folder) in voice_names()
    return voice_folder(str(folder)) if is_name else path


def read_config(folder: str | Path) -> dict[str, Any]:
    """Read ``config.json``: ``architecture``, ``config``, ``provenance``.

    Args:
        folder: of a checkpoint, or the name of a pretrained model.

    Raises:
        CheckpointError: if it is missing, no JSON, too large, or of an unknown format.
    """
    path = find_checkpoint(folder) / CONFIG_NAME
    try:
        content = read_json(path, max_bytes=MAX_CONFIG_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(_missing(folder)) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # of JSON, or of a name that no file can have
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict) or "format_version" not in content:
        raise CheckpointError(f"{path} holds no model configuration; is it another program's?")
    found = content["format_version"]
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format_version {short(found)}, this package reads {FORMAT_VERSION}; "
            "update the package or save the model anew"
        )
    if not isinstance(content.get("architecture"), str):
        raise CheckpointError(
            f"{path} has architecture {short(content.get('architecture'))}, expected a name; "
            "the checkpoint is damaged"
        )
    if not isinstance(content.get("config"), dict):
        raise CheckpointError(f"{path} lacks the model's config; the checkpoint is damaged")
    content.setdefault("provenance", {})
    if not isinstance(content["provenance"], dict):
        raise CheckpointError(
            f"{path} has provenance {short(content['provenance'])}, expected an object; "
            "the checkpoint is damaged"
        )
    content["provenance"] = finite_only(content["provenance"])
    if str(content.get("dtype", "float16")) not in HALVES:
        raise CheckpointError(
            f"{path} has dtype {short(content['dtype'])}, this package reads "
            f"{' and '.join(HALVES)}; update the package or save the model anew"
        )
    return content


def _missing(folder: str | Path) -> str:
    """Reason for a missing checkpoint: a folder without one, or an unknown name."""
    text = f"{folder} holds no {CONFIG_NAME}; name the folder that model.save or training wrote"
    if str(folder) == DEFAULT_VOICE:
        return f"the voice {folder} is not in this version of the package; name a model's folder"
    is_path = Path(folder).exists() or len(Path(folder).parts) != 1
    return text if is_path else f"{text}, or a voice: {voices_in_words()}"


def load_weights(module: torch.nn.Module, folder: str | Path, declared: str | None = None) -> None:
    """Load ``model.safetensors`` into a module, strictly: every tensor, every shape, finite values.

    The module keeps its dtypes: half precision is converted to float32.

    Args:
        module: to be filled.
        folder: of the checkpoint.
        declared: what ``dtype`` in ``config.json`` says.

    Raises:
        CheckpointError: if the file is missing or damaged, its tensors are not the module's, or one
            has values that are not finite.
    """
    path = find_checkpoint(folder) / WEIGHTS_NAME
    weights_bytes(folder)
    try:
        _require_tensors(path, module.state_dict())
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    if declared is not None:
        _require_type(path, declared, {n: tensors[n] for n, _ in module.named_parameters()})
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path}: {name} has values that are not finite; the training that wrote it "
                "diverged, or the file is damaged"
            )
    # Not load_state_dict: for each of n children it iterates over the names of all n.
    with torch.no_grad():
        for name, own in module.state_dict().items():
            own.copy_(tensors[name])


def _require_tensors(path: Path, expected: Mapping[str, Tensor]) -> None:
    """Check the header of a file, before any tensor is read.

    Raises:
        CheckpointError: unless it has the expected tensors, of these shapes and of floats.
        SafetensorError, OSError: if it is damaged.
    """
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path} cannot be read: its header has {header_bytes} bytes")
    with safe_open(path, framework="pt") as file:
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        for name in sorted(expected.keys() | found.keys()):
            if name not in found:
                raise CheckpointError(
                    f"{path} lacks the tensor {name} that the configuration asks for"
                )
            if name not in expected:
                raise CheckpointError(
                    f"{path} has a tensor {printable(name[:100])} that the configuration has not"
                )
            shape = tuple(found[name].get_shape())
            if shape != tuple(expected[name].shape):
                raise CheckpointError(
                    f"{path}: {name} has shape {shape}, but the configuration asks for "
                    f"{tuple(expected[name].shape)}"
                )
            counts = not expected[name].is_floating_point()  # such as batches of a normalization
            types = INTEGERS if counts else FLOATS
            if found[name].get_dtype() not in types:
                raise CheckpointError(
                    f"{path}: {name} is of type {found[name].get_dtype()}, expected "
                    f"{'integers' if counts else 'floats'}: {', '.join(types)}"
                )


def _require_type(path: Path, declared: str, parameters: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for parameters of another dtype than ``config.json`` declares."""
    for name, tensor in parameters.items():
        if tensor.dtype != HALVES[declared]:
            found = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{path}: {name} is {found}, but {CONFIG_NAME} says dtype {declared}; "
                "save the model anew"
            )


def weights_bytes(folder: str | Path) -> int:
    """Return the size of ``model.safetensors``.

    Raises:
        CheckpointError: if it is missing.
    """
    path = find_checkpoint(folder) / WEIGHTS_NAME
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; the checkpoint is incomplete")
    return path.stat().st_size


def _library_versions() -> dict[str, str]:
    """Versions of the libraries that computed the weights."""
    try:
        own = version("wavenet-audio")
    except PackageNotFoundError:  # a checkout that is not installed
        own = "unknown"
    return {"wavenet": own, "torch": torch.__version__}
