"""A log line before a kernel is compiled, which takes so long that it may look like a hang.

numba notifies its listeners of compilations, and not of kernels that it loads from its cache. A
kernel calls others, which are compiled with it: only those that Python calls are announced, and of
several in one module only the first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba.core import event

logger = logging.getLogger("wavenet.simd")


class _Announcer(event.Listener):
    """Reports the compilation of kernels that were added."""

    def __init__(self) -> None:
        self._names: set[tuple[str, str]] = set()
        self._compiled: dict[str, set[str]] = {}

    def add(self, function: Callable[..., Any]) -> None:
        """Announce the compilation of a kernel from now on."""
        self._names.add((function.__module__, function.__qualname__))

    def on_start(self, event: Any) -> None:
        """Log a line before numba compiles the first kernel of a module."""
        function = event.data["dispatcher"].py_func
        module, name = function.__module__, function.__qualname__
        if (module, name) not in self._names:
            return
        before = self._compiled.setdefault(module, set())
        if not before or name in before:  # the module's first kernel, or a kernel for other types
            logger.info(
                "compiling %s for this CPU takes 10 to 60 s; later runs load it from a cache",
                module,
            )
        before.add(name)

    def on_end(self, event: Any) -> None:
        """Ignore the end of a compilation."""


_ANNOUNCER = _Announcer()
event.register("numba:compile", _ANNOUNCER)
announce = _ANNOUNCER.add
