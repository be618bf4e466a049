"""Compiled kernels on disk, in a folder of the user's own; an unusable cache is ignored.

numba caches pickles, which run code when they are read. So the folder must belong to the user, and
no other user may have write permission (checked before every use): ``wavenet/kernels`` in the
user's cache (``$XDG_CACHE_HOME``, or ``~/.cache``), or ``wavenet`` in ``$NUMBA_CACHE_DIR``. A
kernel that cannot be read (a truncated file, a failing disk) is compiled, and one that cannot be
written is compiled again by the next process; one line of the log gives the reason.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import pickle
import stat
import threading
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

logger = logging.getLogger("wavenet")

_SETTINGS: Any = numba.config
_SETTINGS_LOCK = threading.RLock()
"""Held while ``CACHE_DIR`` is another one: numba has one for all threads."""

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
"""Exceptions of numba's reader and writer for damaged pickles and full disks."""


class KernelCache(FunctionCache):
    """Cache of one function's kernels, read and written only if that is safe and possible.

    Args:
        function: the Python function of a kernel.

    Raises:
        OSError: if there is no folder for it; the message gives the reason.
    """

    def __init__(self, function: Any) -> None:
        with _SETTINGS_LOCK:
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
        """Load the kernel for some types; None if it has to be compiled."""
        try:
            require_own(self._folder)
            return super().load_overload(sig, target_context)
        except _UNUSABLE as error:
            report("read", self._folder, error)
            self._forget()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a kernel that has been compiled."""
        try:
            require_own(self._folder)
            super().save_overload(sig, data)
        except _UNUSABLE as error:
            report("written", self._folder, error)

    def _forget(self) -> None:
        """Reset the index, so that the kernel can be saved once it is compiled."""
        try:
            require_own(self._folder)
            self.flush()
        except _UNUSABLE as error:
            report("written", self._folder, error)


def kernel_folder() -> Path:
    """Return the folder of the cache; it need not exist."""
    with _SETTINGS_LOCK:
        given = _SETTINGS.CACHE_DIR
    if given:
        return Path(given) / "wavenet"
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(user) / "wavenet" / "kernels"


def make_own(folder: Path) -> None:
    """Make a folder that no other user can read or write, if it is missing.

    Raises:
        OSError: if it cannot be made, or ``require_own`` refuses it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    require_own(folder)


def require_own(folder: Path) -> None:
    """Raise PermissionError unless a folder is the user's and writable by no other user."""
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError("it is not a folder")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise PermissionError("it belongs to another user")
    if os.name == "posix" and found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("it can be written to by others; chmod 700 it")


def report(action: str, folder: Path, error: Exception) -> None:
    """Warn once per process that kernels are compiled again, and why."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    _warn_once(f"kernels in {folder} cannot be {action} ({' '.join(reason.split())[:120]})")


@functools.cache
def _warn_once(why: str) -> None:
    logger.warning("CPU kernels are compiled anew, as %s", why)
