"""Several sizes of one model are kept whole: read, imported, described, chosen and written."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import wavenet
from wavenet.cli.main import main
from wavenet.nam import NamContainer, NamWaveNet, read_nam_whole, write_nam
from wavenet.storage.checkpoint import CheckpointError

DATA = Path(__file__).parent / "data"
CONTENT: dict[str, Any] = json.loads((DATA / "nam_golden.json").read_text())["container"]
ANSWERS = load_file(DATA / "nam_golden.safetensors")
PEER = 1e-6
"""Largest difference from the package, whose answers are of size 1: float32 sums in its order."""
FIELD = "15 samples = 0.312 ms"


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """The package's own, with names and a limit of its own for the first."""
    content = copy.deepcopy(CONTENT)
    content["metadata"]["name"] = "my amp"
    for entry, name in zip(content["config"]["submodels"], ("small", "large"), strict=True):
        entry["model"]["metadata"]["name"] = name
    content["config"]["submodels"][0]["max_value"] = 0.3
    path = tmp_path / "amp.nam"
    path.write_text(json.dumps(content))
    return path


def require_answers(model: Any, position: int) -> None:
    with torch.no_grad():
        got = model(ANSWERS["input"][None, None])[0, 0]
    torch.testing.assert_close(got, ANSWERS[f"container-{position}"], rtol=0, atol=PEER)


def require_all(whole: Any) -> None:
    assert isinstance(whole, NamContainer)
    assert [(one.name, one.max_value) for one in whole.submodels] == [("small", 0.3), ("large", 1)]
    assert whole.metadata["name"] == "my amp"
    for i, one in enumerate(whole.submodels):
        require_answers(one.model, i)


def test_all_sizes_are_read_and_written_again(container: Path, tmp_path: Path) -> None:
    whole = read_nam_whole(container)
    require_all(whole)
    write_nam(tmp_path / "again.nam", whole)
    require_all(read_nam_whole(tmp_path / "again.nam"))
    weights = [
        [entry["model"]["weights"] for entry in json.loads(path.read_text())["config"]["submodels"]]
        for path in (container, tmp_path / "again.nam")
    ]
    assert weights[0] == weights[1]
    with pytest.raises(ValueError, match=r"0\.5\.4 has no files of several sizes; use 0\.7\.0"):
        write_nam(tmp_path / "old.nam", whole, version="0.5.4")


def test_a_folder_keeps_all_sizes_and_gives_each(
    container: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, again = str(tmp_path / "folder"), str(tmp_path / "again.nam")
    assert main(["import", str(container), folder]) == 0
    printed = capsys.readouterr().out
    assert "2 sizes of one model\n  0: 'small', 72 weights" in printed
    assert main(["export", folder, again]) == 0
    require_all(read_nam_whole(again))
    require_answers(wavenet.load(folder), 1)
    for name, position in (("small", 0), ("1", 1)):
        assert main(["export", folder, again, "--submodel", name]) == 0
        require_answers(wavenet.load(again), position)
    assert main(["receptive-field", folder]) == 0
    assert f"receptive field: {FIELD}" in capsys.readouterr().out
    for command in (["export", folder, again], ["export", folder, str(tmp_path / "a.onnx")]):
        assert main([*command, "--submodel", "huge"]) == 2
        found = capsys.readouterr().err
        assert "has no submodel 'huge'; it has 0 (small), 1 (large)" in found
        assert folder in found


@pytest.mark.parametrize("imported", [False, True])
def test_info_lists_all_sizes(
    imported: bool, container: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(container)
    if imported:
        source = str(tmp_path / "folder")
        assert main(["import", str(container), source]) == 0
    capsys.readouterr()
    assert main(["info", source]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        f"  0: small, 71 parameters, receptive field {FIELD}",
        f"  1: large, 237 parameters, receptive field {FIELD}",
    ]
    assert main(["info", "--json", source]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in facts["submodels"]] == ["small", "large"]
    assert facts["parameters"] == 237


def test_one_size_alone_can_be_imported(container: Path, tmp_path: Path) -> None:
    assert main(["import", str(container), str(tmp_path / "one"), "--submodel", "small"]) == 0
    model = wavenet.load(tmp_path / "one")
    assert isinstance(model, NamWaveNet)
    require_answers(model, 0)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"submodels": []}, "config.submodels is a list of 0, expected a list of sizes"),
        ({"submodels": [3]}, "config.submodels[0] is 3, expected an object"),
        ({"submodels": [{"config": {}}]}, "config.submodels[0].config"),
        ({}, "config.submodels is None, expected a list of sizes"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(
    change: dict[str, Any], line: str, container: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    assert main(["import", str(container), str(folder)]) == 0
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "config": change}))
    with pytest.raises(CheckpointError) as caught:
        wavenet.load(folder)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
