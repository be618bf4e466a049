"""The files of ``examples/`` run, and what they add works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def printed(name: str) -> list[float]:
    """Run an example in a process of its own; return the numbers in the line it prints."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    (line,) = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", line)]


@pytest.mark.slow
def test_a_distribution_of_ones_own_is_learnt() -> None:
    before, after, n_samples = printed("new_distribution")
    assert after < before - 4
    assert n_samples == 800


@pytest.mark.slow
def test_a_conditioning_of_ones_own_reaches_the_samples() -> None:
    given_loud, loud, given_low, low = printed("new_condition")
    assert loud == pytest.approx(given_loud, rel=0.3)
    assert low < 20 * given_low


@pytest.mark.slow
def test_a_block_of_ones_own_streams() -> None:
    past, chunk_difference = printed("new_block")
    assert past == 6
    assert chunk_difference < 1e-5


def test_the_page_names_every_example() -> None:
    page = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"`(\w+\.py)`", page)) == {path.name for path in EXAMPLES.glob("*.py")}
