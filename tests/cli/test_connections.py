"""No command opens a connection on local input, or writes into the home beyond its own cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import wavenet

# Runs commands, one a line of standard input, in a fresh interpreter, and reports what they did:
# names looked up, connections, and the import of onnxruntime with its telemetry on, as its compiled
# code opens connections that no audit hook sees. (DNSMOS, in `evaluate`, runs under onnxruntime.)
GUARDED = """
import json, os, shlex, sys

found = []

def watch(event, arguments):
    asks = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
    if event in asks:
        found.append([event, repr(arguments[-1])])
        raise ConnectionRefusedError("no connection is allowed here")
    telemetry = os.environ.get("ORT_DISABLE_TELEMETRY") != "1"
    if event == "import" and arguments[0] == "onnxruntime" and telemetry:
        found.append([event, arguments[0]])

sys.addaudithook(watch)
from wavenet.cli.main import main

codes = [main(shlex.split(line)) for line in sys.stdin.read().splitlines()]
with open("found.json", "w") as file:
    json.dump({"codes": codes, "found": found}, file)
"""


def test_importing_what_trains_sets_telemetry_off_and_leaves_onnxruntime_out(
    start_python: Callable[..., BaseProcess], tmp_path: Path
) -> None:
    program = (
        "import os, sys, wavenet.training.run;"
        "print('onnxruntime' in sys.modules, os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    process = start_python(tmp_path / "out", program)
    process.join()
    assert (tmp_path / "out").read_text() == "False 1\n"


@pytest.mark.slow
def test_no_command_opens_a_connection_or_writes_into_the_home_beyond_the_cache(
    tmp_path: Path, tones: Path, samples: Path, repository: Path
) -> None:
    config = wavenet.WaveNetConfig(
        layers_per_stack=2,
        stacks=1,
        residual_channels=4,
        skip_channels=4,
        sample_rate=8000,
        distribution="gaussian",
        mel=wavenet.MelConfig(
            sample_rate=8000, n_fft=256, win_samples=200, hop_samples=100, n_mels=8, f_max_hz=4000
        ),
    )
    wavenet.WaveNet(config).save(tmp_path / "model")
    nam = wavenet.nam
    nam.write_nam(tmp_path / "amp.nam", nam.NamWaveNet(nam.preset("nano")))
    tone = tones / "tone-0.wav"
    small = "--model.preset tiny --model.sample_rate 8000 --model.layers_per_stack 2"
    commands = [
        f"mel {tone} tone.npz --model model",
        f"vocode {tone} copy.wav --model model",
        "generate made.wav --seconds 0.01",
        "info model",
        "receptive-field model --plot field.png",
        "export model step.onnx",
        "export model step.pt2",
        "import amp.nam amp",
        f"process {tone} amp.wav --model amp",
        f"evaluate model {tone} --out report --baselines none --metrics dnsmos",
        f"train --corpus {tones} --out run {small} --max_steps 1 --validation_windows 1"
        " --batch_size 1 --window_s 0.05 --listen_every 1 --listen_s 0.01",
    ]
    (tmp_path / "home").mkdir()
    environment = {
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(repository),
    }
    done = subprocess.run(
        [sys.executable, "-c", GUARDED],
        cwd=tmp_path,
        env=environment,
        input="\n".join(commands),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "found.json").exists(), done.stderr
    report = json.loads((tmp_path / "found.json").read_text())
    assert report == {"codes": [0] * len(commands), "found": []}, done.stderr
    written = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert written
    cache = tmp_path / "home" / ".cache" / "wavenet"
    assert [path for path in written if not path.is_relative_to(cache)] == []
