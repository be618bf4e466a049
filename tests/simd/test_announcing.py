"""A kernel that has to be compiled is announced; one that is loaded from the cache is not."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba", reason="nothing is compiled without numba")

KERNELS = """
from wavenet.simd.compiling import cached, sources_fingerprint

def _make(fingerprint):
    def double(x):
        return fingerprint != "" and 2 * x[0]

    def half(x):
        return fingerprint != "" and x[0] / 2

    return cached(double), cached(half)

double, half = _make(sources_fingerprint(__file__))
"""


def load(path: Path, name: str) -> Any:
    """The module of kernels, as a new process would import it."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_use_of_a_module_s_kernels_is_one_line_and_none_when_cached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "kernels_to_announce.py"
    path.write_text(KERNELS)
    caplog.set_level(logging.INFO, "wavenet.simd")
    kernels = load(path, "kernels_to_announce")
    assert caplog.messages == []
    kernels.double(np.ones(3, np.float32))
    line = (
        "compiling kernels_to_announce for this CPU takes 10 to 60 s; later runs load it from a "
        "cache"
    )
    assert caplog.messages == [line]
    kernels.double(np.ones(3, np.float32))
    kernels.half(np.ones(3, np.float32))
    assert caplog.messages == [line]
    kernels.double(np.ones(3, np.float64))  # a kernel for other types, compiled anew
    assert caplog.messages == [line, line]
    caplog.clear()
    again = load(path, "kernels_to_announce")
    again.double(np.ones(3, np.float32))
    again.half(np.ones(3, np.float32))
    assert caplog.messages == []
