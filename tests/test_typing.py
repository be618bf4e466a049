"""A type checker sees the classes of the package in a user's script, and no name of type Any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import wavenet
from wavenet.loading import LOADERS, Loaded, Voice


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


def test_the_types_of_load_are_those_that_its_loaders_and_voices_have() -> None:
    assert list(get_args(Voice)) == wavenet.voice_names()
    assert all(isinstance(wavenet.load(name), wavenet.WaveNet) for name in wavenet.voice_names())
    returned = {get_type_hints(loader)["return"] for loader in LOADERS.values()}
    assert returned < set(get_args(Loaded))
