"""The former place of ``wavenet.nam``; its names can be imported from here for one more release."""

from __future__ import annotations

import warnings
from typing import Any

from wavenet import nam


def __getattr__(name: str) -> Any:
    """Return a name of ``wavenet.nam``, with a warning.

    Raises:
        AttributeError: if it has no such name.
    """
    value = getattr(nam, name)
    warnings.warn(
        f"wavenet.interop.nam is now wavenet.nam ({name})", DeprecationWarning, stacklevel=2
    )
    return value
