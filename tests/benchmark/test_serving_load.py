"""The load test: a server keeps its streams whole among clients that misbehave, and frees all."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the eager engine is too slow for a load")
pytest.importorskip("starlette", reason="the server needs the extra serve")
from served import make_model

from wavenet.benchmark.serving_load import Load, measure_serving


@pytest.mark.slow
def test_streams_stay_whole_beside_clients_that_leave_or_send_junk(tmp_path: Path) -> None:
    make_model().save(tmp_path / "small")
    load = Load(model=str(tmp_path / "small"), rows=6, seconds=0.5, rounds=2, misbehaving_s=1.5)
    found = measure_serving(load)
    assert found.broken == 0
    assert len(found.first_audio_ms) > 2 * load.rows
    answers = {what for what in found.misused if what.startswith("malformed")}
    assert answers <= {
        f"malformed {what}, {status}" for what in ("body", "message") for status in (400, 415, 422)
    }
    assert sum(found.misused.values()) >= 6
    assert len(found.real_time) == len(found.alone) == 2
    assert len(found.shares) >= 2
    begin, end = found.held[0], found.held[-1]
    assert (end.rows, end.waiting) == (0, 0)
    assert end.resident_mb < begin.resident_mb + 60  # an allocator keeps some of what it was given
    assert end.files <= begin.files + 2
    assert end.threads <= begin.threads + 8  # pools grow to their size
    assert "streams in real time" in str(found)
