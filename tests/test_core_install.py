"""Where no extra is installed, a command works or its one line names the extra that it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import wavenet
from wavenet.audio import read_audio, write_audio
from wavenet.benchmark.doctor.runner import run_doctor
from wavenet.cli.main import main

# Hides every distribution that torch, numpy and safetensors do not bring, as if it were not
# installed, and runs commands, one a line of standard input.
WITHOUT_EXTRAS = """
import importlib.machinery, importlib.metadata, io, json, re, shlex, sys
from contextlib import redirect_stderr, redirect_stdout

def brought_by(names):
    found = set()
    while names:
        name = re.sub("[-_.]+", "-", names.pop()).lower()
        if name in found:
            continue
        try:
            needed = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(name)
        names += [re.match(r"[\\w.-]+", line)[0] for line in needed if "extra ==" not in line]
    return found

core = brought_by(["torch", "numpy", "safetensors"])
owners = importlib.metadata.packages_distributions()
hidden = {
    module
    for module, names in owners.items()
    if not {re.sub("[-_.]+", "-", name).lower() for name in names} & (core | {"wavenet-audio"})
}

class Hiding(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in hidden else super().find_spec(name, path, target)

sys.meta_path = [Hiding if f is importlib.machinery.PathFinder else f for f in sys.meta_path]
from wavenet.cli.main import main

said = []
for line in sys.stdin.read().splitlines():
    err = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(err):
        code = main(shlex.split(line))
    said.append([code, err.getvalue()])
print(json.dumps(said))
"""

AUDIO = """pip install "wavenet-audio[audio]\""""
TRAIN = """pip install "wavenet-audio[train]\""""


MEL = wavenet.MelConfig(
    sample_rate=8000, n_fft=64, win_samples=40, hop_samples=20, n_mels=4, f_max_hz=4000
)


def test_without_tqdm_there_is_no_bar_and_the_same_sound(
    tmp_path: Path, tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = wavenet.WaveNetConfig(
        layers_per_stack=2,
        stacks=1,
        residual_channels=4,
        skip_channels=4,
        sample_rate=8000,
        mel=MEL,
    )
    wavenet.WaveNet(config).save(tmp_path / "model")
    start, _ = read_audio(tones / "tone-0.wav", 8000)
    write_audio(tmp_path / "start.wav", start[:200], 8000)
    model = ["--model", str(tmp_path / "model"), "--engine", "eager"]
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        if name == "without":
            monkeypatch.setitem(sys.modules, "tqdm", None)
        copies = ["vocode", str(tmp_path / "start.wav"), str(tmp_path / name / "copy.wav")]
        assert main([*copies, *model]) == 0
        made = ["generate", str(tmp_path / name / "made.wav")]
        assert main([*made, *model, "--mel-from", str(tmp_path / "start.wav")]) == 0
    for name in ("copy.wav", "made.wav"):
        expected = (tmp_path / "with" / name).read_bytes()
        assert (tmp_path / "without" / name).read_bytes() == expected


@pytest.mark.slow
def test_without_extras_a_command_works_or_names_the_extra(
    tmp_path: Path, tones: Path, repository: Path
) -> None:
    config = wavenet.WaveNetConfig(
        layers_per_stack=2, stacks=1, residual_channels=4, skip_channels=4, distribution="gaussian"
    )
    wavenet.WaveNet(config).save(tmp_path / "model")
    nam = wavenet.nam
    nam.write_nam(tmp_path / "amp.nam", nam.NamWaveNet(nam.preset("nano")))
    tone = tones / "tone-0.wav"
    expected = {
        "info model": None,
        "receptive-field model": None,
        "receptive-field --layers 3": None,
        "import amp.nam amp": None,
        "export amp again.nam": None,
        f"mel {tone} tone.npz": AUDIO,
        f"vocode {tone} copy.wav": AUDIO,
        f"vocode {tones} copies": AUDIO,
        f"process {tone} amp.wav --model amp": AUDIO,
        f"inspect {tones}": AUDIO,
        f"shard {tones} out": "pip install 'wavenet-audio[shard]'",
        "generate made.wav --seconds 0.001 --model model --engine eager": AUDIO,
        f"evaluate prompts-16k {tone} --out report": AUDIO,
        "receptive-field model --plot field.png": TRAIN,
        f"train --corpus {tones} --out run": TRAIN,
        f"train {repository / 'recipes/demo/config.yaml'} --out run": TRAIN,
        f"receptive-field {repository / 'recipes/demo/config.yaml'}": TRAIN,
        "export model step.onnx": "pip install 'wavenet-audio[onnx]'",
        "info hf://ann/voice": "pip install 'wavenet-audio[hub]'",
    }
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(repository)},
        input="\n".join(expected),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for (command, remedy), (code, said) in zip(
        expected.items(), json.loads(done.stdout), strict=True
    ):
        assert code == (0 if remedy is None else 2), (command, said)
        if remedy is not None:
            assert said.count("\n") == 1, (command, said)
            assert remedy in said, (command, said)


@pytest.mark.slow
def test_without_extras_the_doctor_runs_what_it_can_and_names_what_is_missing(
    tmp_path: Path, repository: Path
) -> None:
    hiding = WITHOUT_EXTRAS.partition("from wavenet.cli.main")[0]
    run = "from wavenet.benchmark.doctor.parts import main\nsys.exit(main(sys.argv[1:]))"
    names = ("blocks", "engines", "sampling_voice", "training", "resumed_training")
    found = run_doctor("cpu", tmp_path, parts=names, command=(sys.executable, "-c", hiding + run))[
        "parts"
    ]
    states = {name: found[name]["status"] for name in names}
    missing = dict.fromkeys(("training", "resumed_training"), "missing")
    assert states == {**dict.fromkeys(names, "ok"), **missing}, found
    assert "lightning" in found["training"]["missing"]
    assert "needs numba" in found["engines"]["checks"]["mel cpu"]["refused"]
    assert [row["engine"] for row in found["sampling_voice"]["rows"]] == ["eager"]
