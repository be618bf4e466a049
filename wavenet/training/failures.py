"""Failures of a run in one line: a full disk, memory that is short, a store that fails."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from wavenet.storage.files import WriteError
from wavenet.storage.object_store import StoreError
from wavenet.training.config import ConfigError, TrainingConfig


@contextlib.contextmanager
def full_disk_in_one_line(out: Path) -> Iterator[None]:
    """Name the folder when the logs meet a full disk, and keep their thread's traceback quiet."""
    show = threading.excepthook

    def show_others(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, OSError):  # those reach the main thread, too
            show(arguments)

    threading.excepthook = show_others
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise WriteError(f"{out}: logs cannot be written: {error.strerror}; free some space") from (
            error
        )
    finally:
        threading.excepthook = show


@contextlib.contextmanager
def short_memory_in_one_line(config: TrainingConfig) -> Iterator[None]:
    """Report in one line that memory is exhausted, with the settings that need it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ConfigError(
            f"not enough memory for batch_size={config.batch_size} windows of "
            f"window_s={config.window_s:g}; lower one of them, set recompute, or take a smaller "
            "model"
        ) from error


@contextlib.contextmanager
def store_failure_in_one_line() -> Iterator[None]:
    """Leave out the traceback that a data loader puts before the error of its worker."""
    try:
        yield
    except StoreError as error:
        last = str(error).strip().splitlines()[-1]
        raise StoreError(last.partition("StoreError: ")[2] or last) from None


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory is exhausted; on a CPU torch has no exception type for it."""
    by_type = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return by_type or "DefaultCPUAllocator" in str(error)
