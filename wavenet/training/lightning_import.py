"""Import Lightning without onnxruntime; to be imported before anything of Lightning.

Lightning imports torchmetrics, which imports onnxruntime where that and librosa are installed, for
a metric (DNSMOS) that nothing here computes. The import takes time, and onnxruntime 1.32 opens a
connection to a telemetry host and writes an identifier of the device into the user's home unless
``ORT_DISABLE_TELEMETRY`` is set (its page Privacy.md). ``import wavenet`` sets that; here the
import is avoided altogether.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without_package(name: str) -> Iterator[None]:
    """Let libraries that ask for an optional package find it missing within this block.

    A package that has been imported already stays, and nothing is changed.

    Args:
        name: a package that ``lightning_utilities.core.imports.RequirementCache`` is asked for.
    """
    from lightning_utilities.core.imports import RequirementCache

    if name in sys.modules:
        yield
        return
    find = RequirementCache.__bool__

    def find_others(requirement: RequirementCache) -> bool:
        if requirement.requirement != name:
            return find(requirement)
        requirement.available = False
        requirement.message = f"{name} was left out when wavenet.training imported Lightning"
        return False

    RequirementCache.__bool__ = find_others  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        RequirementCache.__bool__ = find  # type: ignore[method-assign]


with without_package("onnxruntime"):
    import lightning  # noqa: F401
