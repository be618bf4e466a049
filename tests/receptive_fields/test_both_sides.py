"""The recipes with context on both sides: their networks keep the size, and their scripts run."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from wavenet.receptive_fields import receptive_field

RECIPES = {"segment": (1, 1457), "inpaint": (3, 1025)}


@pytest.mark.parametrize("name", RECIPES)
def test_the_network_keeps_the_size_and_its_field_is_symmetric(repository: Path, name: str) -> None:
    channels, samples = RECIPES[name]
    network = runpy.run_path(str(repository / "recipes" / name / f"{name}.py"))["network"]()
    assert network(torch.zeros(1, channels, 700)).shape == (1, 1, 700)
    field = receptive_field(network, 8000, input_shape=(1, channels, 4000), verify=True)
    assert field.samples == samples
    assert field.look_back == field.look_ahead == (samples - 1) // 2
    assert f"{samples} samples" in (repository / "recipes" / name / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_trains_measures_and_draws(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script = str(repository / "recipes" / name / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, "--out", str(tmp_path), "--steps", "4"])
    runpy.run_path(script, run_name="__main__")
    assert json.loads((tmp_path / "results.json").read_text())["steps"] == 4
    assert (tmp_path / f"{name}.png").stat().st_size > 1000
