"""A type checker sees the classes of the package in a user's script, and no name of type Any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wavenet


@pytest.mark.slow
def test_a_strict_script_sees_a_type_of_every_public_name(tmp_path: Path, repository: Path) -> None:
    listed = "".join(f"reveal_type(wavenet.{name})\n" for name in wavenet.__all__)
    script = (repository / "tests" / "typed_usage.py").read_text()
    (tmp_path / "script.py").write_text(script + listed)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            "--follow-imports=silent",
            "script.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(repository), "MYPY_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    told = [line for line in done.stdout.splitlines() if "Revealed type" in line]
    assert len(told) == len(wavenet.__all__)
    assert not [line for line in told if line.endswith('is "Any"')]
