"""Tensors from a file of torch.save that anybody may have made.

Nothing in it is executed: torch's restricted unpickler builds containers and tensors alone. A
tensor may claim to be larger than its storage (a view with stride 0) and an archive larger than
itself (compression, members that overlap), so both are compared with the size of the file before
anything is computed.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavenet.checkpoint import CheckpointError

# What a damaged or malicious stream makes of torch's reader; it has no exception of its own.
_BROKEN = (
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_saved(path: Path) -> Any:
    """What ``torch.save`` wrote, as containers, numbers and tensors on the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged, asks for code to be run, or says that it
            holds more than it does.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is no file; name a checkpoint that torch.save wrote")
    try:
        _require_plain_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        reason = str(error).strip().split("\n")[-1] if "WeightsUnpickler" not in str(error) else ""
        raise CheckpointError(
            f"{path} holds more than tensors and numbers, or is damaged: nothing of it was run"
            f"{_asked_for(error) or (': ' + reason if reason else '')}"
        ) from None
    except _BROKEN as error:
        first_line = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise CheckpointError(f"{path} cannot be read: {first_line}") from None


def named_tensors(saved: Any, path: Path) -> dict[str, Tensor]:
    """A state dict, whose tensors are whole, dense, finite floats; as float32.

    Raises:
        CheckpointError: for anything else, naming the key.
    """
    if not isinstance(saved, dict) or not all(isinstance(key, str) for key in saved):
        raise CheckpointError(f"{path} holds no state_dict of named tensors")
    for key, tensor in saved.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {key} is a {type(tensor).__name__}, not a tensor")
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not dense or not tensor.is_floating_point():
            raise CheckpointError(
                f"{path}: {key} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}, "
                "expected dense floats"
            )
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in saved.values())
    if claimed > path.stat().st_size:
        raise CheckpointError(
            f"{path}: its tensors claim {claimed} bytes, more than the file's "
            f"{path.stat().st_size}; it is damaged"
        )
    for key, tensor in saved.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path}: {key} has values that are not finite")
    return {key: tensor.detach().float() for key, tensor in saved.items()}


def _require_plain_archive(path: Path) -> None:
    """Refuse archives that unpack to more than they are; torch.save never compresses."""
    if not zipfile.is_zipfile(path):
        return  # the older format, a pickle followed by the storages
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    compressed = [one.filename for one in members if one.compress_type != zipfile.ZIP_STORED]
    if compressed:
        raise CheckpointError(f"{path}: {compressed[0]} is compressed; torch.save compresses none")
    if sum(one.file_size for one in members) > path.stat().st_size:
        raise CheckpointError(f"{path}: its members overlap; it is damaged")


def _asked_for(error: pickle.UnpicklingError) -> str:
    """The name that the file wanted to call, if torch says it."""
    words = str(error).split("GLOBAL ")
    return f" (it asks for {words[1].split()[0]})" if len(words) > 1 else ""
