"""Compiled kernels on disk: in a folder of the user's own, and passed over where it cannot serve.

What numba keeps is a pickle, which runs code when it is read. So it lies in a folder that belongs
to the user and that nobody else may write to (checked before every use): ``wavenet/kernels``
in the user's cache (``$XDG_CACHE_HOME``, or ``~/.cache``), or ``wavenet`` in ``$NUMBA_CACHE_DIR``.
A kernel that cannot be read from there (a file cut short, a disk that fails) is compiled, and one
that cannot be written is compiled again by the next process; one line of the log says why.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

logger = logging.getLogger("wavenet")

_SETTINGS: Any = numba.config

_UNUSABLE = (
    pickle.UnpicklingError,
    ArithmeticError,
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
"""What damaged pickles and full disks make of numba's own reader and writer."""


class KernelCache(FunctionCache):
    """What numba keeps of one function, read and written only where that is safe and possible.

    Args:
        function: the Python function of a kernel.

    Raises:
        OSError: if there is no folder for it; the message says why.
    """

    def __init__(self, function: Any) -> None:
        self._folder = kernel_folder()
        make_own(self._folder)
        given, _SETTINGS.CACHE_DIR = _SETTINGS.CACHE_DIR, str(self._folder)
        try:
            super().__init__(function)
        finally:
            _SETTINGS.CACHE_DIR = given
        if not Path(self.cache_path).is_relative_to(self._folder):  # numba could not write to it
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self._folder))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Called by numba: the kernel for some types, or None if it has to be compiled."""
        try:
            require_own(self._folder)
            return super().load_overload(sig, target_context)
        except _UNUSABLE as error:
            report("read", self._folder, error)
            self._forget()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Called by numba: keep a kernel that has been compiled."""
        try:
            require_own(self._folder)
            super().save_overload(sig, data)
        except _UNUSABLE as error:
            report("written", self._folder, error)

    def _forget(self) -> None:
        """Begin the index anew, so that the kernel can be kept once it is compiled."""
        try:
            require_own(self._folder)
            self.flush()
        except _UNUSABLE as error:
            report("written", self._folder, error)


def kernel_folder() -> Path:
    """Return where kernels are kept; it need not exist."""
    if _SETTINGS.CACHE_DIR:
        return Path(_SETTINGS.CACHE_DIR) / "wavenet"
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(user) / "wavenet" / "kernels"


def make_own(folder: Path) -> None:
    """Make a folder that nobody else can write to or look into, if it is not there.

    Raises:
        OSError: if it cannot be made, or is as ``require_own`` refuses it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    require_own(folder)


def require_own(folder: Path) -> None:
    """Raise PermissionError unless a folder is the user's and nobody else may write to it."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{folder} is no folder")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if os.name == "posix" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written to by others; chmod 700 it")


def report(action: str, folder: Path, error: Exception) -> None:
    """Say once in a process that kernels are compiled anew, and why."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    _say_once(f"kernels in {folder} cannot be {action} ({' '.join(reason.split())[:120]})")


@functools.cache
def _say_once(why: str) -> None:
    logger.warning("CPU kernels are compiled anew, as %s", why)
