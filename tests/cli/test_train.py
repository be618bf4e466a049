"""``wavenet train``: how threads wait is set before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from wavenet.__main__ import main
early = "torch" in sys.modules
sys.argv = ["wavenet", "train"]
code = main()
print(code, early, os.environ["OMP_WAIT_POLICY"])
"""


@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_of_a_training_do_not_spin_unless_asked_to(
    repository: Path, given: str | None, found: str
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"2 False {found}\n"
