"""A server of a small model that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="what is served has the same bits on the compiled engine alone")
pytest.importorskip("starlette", reason="the server needs the extra serve")
from served import Server, make_model, running

from wavenet import WaveNet


@pytest.fixture(scope="session")
def voice() -> WaveNet:
    return make_model()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, voice: WaveNet) -> Path:
    """The checkpoint of the model."""
    folder = tmp_path_factory.mktemp("voice") / "small"
    voice.save(folder)
    return folder


@pytest.fixture(scope="session")
def served(voice: WaveNet) -> Iterator[Server]:
    with running(voice) as server:
        yield server
