"""recipes/: every one of them is understood and trains; the demo does all that it says."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

import wavenet
from wavenet.training.config import parse_training
from wavenet.training.run import train

RECIPES = ["demo"]
"""All there are: a new recipe adds its name here."""


def test_these_are_all_recipes(repository: Path) -> None:
    found = (repository / "recipes").glob("*/config.yaml")
    assert sorted(path.parent.name for path in found) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_speaks(
    repository: Path, samples: Path, tmp_path: Path, name: str
) -> None:
    recipe, out, _ = parse_training([str(repository / "recipes" / name / "config.yaml")])
    assert out is None
    assert recipe.init_from is None
    brief = dataclasses.replace(
        recipe,
        corpus=str(samples),
        window_s=0.02,
        batch_size=1,
        max_steps=3,
        validation_windows=1,
        listen_s=0.1,
        workers=0,
        trainer={**recipe.trainer, "accelerator": "cpu", "devices": 1},
    )
    result = train(brief, tmp_path)
    assert result.steps == 3
    assert math.isfinite(result.bits_after)
    model = wavenet.load(result.model_folder)
    assert model.config == recipe.model_config()


@pytest.mark.slow
def test_the_demo_trains_speaks_draws_and_says_where(repository: Path, tmp_path: Path) -> None:
    brief = "--max_steps 2 --batch_size 1 --window_s 0.05 --validation_windows 2"
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "config.json").write_text("of an earlier demo")
    (tmp_path / "out" / "notes.txt").write_text("not the demo's")
    script = str(repository / "recipes" / "demo" / "demo.py")
    done = subprocess.run(
        [sys.executable, script, "--out", "out", "--seconds", "0.2", *brief.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "receptive field: 1023 samples = 63.938 ms at 16000 Hz" in done.stdout
    assert "validation before training: " in done.stderr
    assert "trained for 2 steps: " in done.stdout
    assert "generated.wav: 0.200 s at 16000 Hz" in done.stdout
    assert done.stdout.endswith(
        "listen: out/generated.wav\nlook:   out/generated.png\nmodel:  out/model\n"
    )
    assert soundfile.info(tmp_path / "out" / "generated.wav").frames == 3200
    assert (tmp_path / "out" / "generated.png").read_bytes().startswith(b"\x89PNG")
    assert wavenet.load(tmp_path / "out" / "model").config.sample_rate == 16000
    assert (tmp_path / "out" / "notes.txt").read_text() == "not the demo's"
