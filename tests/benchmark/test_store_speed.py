"""``wavenet bench store``: windows from a store beside those from the folder."""

import json
from pathlib import Path

import pytest

from wavenet.benchmark.store_speed import measure_store
from wavenet.cli.main import main

pytest.importorskip("obstore", reason="the extra shard is not installed")


def test_every_way_to_read_is_measured_and_the_shards_are_left_in_the_store(
    tones: Path, tmp_path: Path
) -> None:
    speed = measure_store(str(tones), str(tmp_path / "shards"), n_windows=16, rounds=1)
    found = json.loads(speed.to_json())
    assert list(found["windows_per_second"]) == [
        "folder, mapped",
        "store, fits the cache",
        "store, larger than the cache",
        "the same, empty cache",
    ]
    for spread in found["windows_per_second"].values():
        assert 0 < spread["min"] <= spread["median"] <= spread["max"]
    assert found["gigabytes"] == pytest.approx(8 * 16_000 * 2 / 1e9)
    assert (tmp_path / "shards" / "wavenet-shards.json").is_file()
    assert str(speed).splitlines()[1].endswith("1.00")


def test_a_missing_corpus_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "store", "nowhere"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
