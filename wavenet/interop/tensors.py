"""Tensors from an untrusted file of torch.save.

Nothing in it is executed: torch's restricted unpickler builds containers, numbers and tensors
alone, and ``pickles`` has looked before at what it will be asked for.
"""

from __future__ import annotations

import _codecs
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor

from wavenet.interop.pickles import Refused, scan_pickle
from wavenet.storage.checkpoint import CheckpointError
from wavenet.values.text import printable

# What a damaged or malicious file makes of Python's and torch's readers.
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
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
# Learning rates in the state of an optimiser are often numbers of numpy.
_NUMBERS: list[Any] = [
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
    (_codecs.encode, "_codecs.encode"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
]


def read_saved(path: Path) -> Any:
    """Read a file of ``torch.save`` as containers, numbers and tensors on the CPU.

    Raises:
        CheckpointError: if the file is missing, damaged, asks for code to be run, or for more
            memory than its size.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is no file; name a checkpoint that torch.save wrote")
    try:
        scan_pickle(path)
        with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a protocol that only damage writes
            return torch.load(path, map_location="cpu", weights_only=True)
    except Refused as error:
        raise CheckpointError(
            f"{path} holds more than tensors and numbers, or is damaged: {error}; nothing was run"
        ) from None
    except _BROKEN as error:
        raise CheckpointError(f"{path} cannot be read, it is damaged: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """The first sentence of an error, without the advice that libraries give behind it.

    What torch's restricted unpickler refuses comes with the advice to unpickle without
    restrictions, which is the last thing to do with a damaged file.
    """
    first = printable(str(error).strip().split("\n")[0].split(". ")[0])[:120]
    if isinstance(error, pickle.UnpicklingError) and "weights" in first.lower():
        return "torch finds in it more than tensors and numbers"
    return first or type(error).__name__


def named_tensors(saved: Any, path: Path) -> dict[str, Tensor]:
    """A state dict, whose tensors are finite floats; as float32.

    Raises:
        CheckpointError: for anything else, naming the key.
    """
    if not isinstance(saved, dict) or not all(isinstance(key, str) for key in saved):
        raise CheckpointError(f"{path} holds no state_dict of named tensors")
    for key, tensor in saved.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path}: {key} is a {type(tensor).__name__}, not a tensor")
        if not tensor.is_floating_point():
            raise CheckpointError(f"{path}: {key} is of {tensor.dtype}, expected floats")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in saved.values())
    if claimed > path.stat().st_size:  # views of one storage
        raise CheckpointError(
            f"{path}: its tensors claim {claimed} bytes, more than the file's "
            f"{path.stat().st_size}; it is damaged"
        )
    for key, tensor in saved.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"{path}: {key} has values that are not finite")
    return {key: tensor.detach().float() for key, tensor in saved.items()}
