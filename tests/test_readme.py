"""The README's examples do what they say: every Python block and every `wavenet` command is run."""

import os
import re
import shlex
from pathlib import Path

import pytest
import soundfile
import torch

import wavenet
from wavenet.benchmark import training_speed
from wavenet.cli.main import main
from wavenet.nam import NamWaveNet, preset, write_nam
from wavenet.storage import pretrained as voices
from wavenet.training.recipe import parse_training

SHORTER = shlex.split(
    "--max_steps 2 --batch_size 1 --window_s 0.05 --validation_windows 1 --listen_s 0.05"
    " --model.layers_per_stack 4 --trainer.accelerator cpu"
)


def blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with recipes and samples, and the small models that the README speaks of."""
    for name in ("recipes", "samples"):
        os.symlink(repository / name, tmp_path / name)
    config = wavenet.WaveNetConfig.preset("tiny", layers_per_stack=3, residual_channels=8)
    wavenet.WaveNet(config).save(tmp_path / "demo-out" / "model")
    monkeypatch.setattr(voices, "FOLDER", tmp_path / "voices")  # quicker ones than those that ship
    spoken = config.replace(
        mel=wavenet.MelConfig(), speakers=3, speaker_names=("en", "fr", "it"), unconditional=True
    )
    wavenet.WaveNet(spoken).save(tmp_path / "voices" / voices.DEFAULT_VOICE)
    write_nam(tmp_path / "amp.nam", NamWaveNet(preset("nano")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_blocks_run_one_after_another(
    repository: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = blocks(repository, "python")
    assert len(code) == 7
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, "README.md", "exec"), names)
    recorded = workplace / "samples" / "voice" / "reference" / "en" / "queue-youarenext.flac"
    made = soundfile.info(workplace / "again.wav")
    assert (made.samplerate, made.frames) == (16000, soundfile.info(recorded).frames)
    assert "receptive field: 129 samples" in capsys.readouterr().out


def commands(repository: Path) -> list[list[str]]:
    """The arguments of every `wavenet` in the blocks of shell commands."""
    lines = "\n".join(blocks(repository, "sh")).splitlines()
    given = [shlex.split(line, comments=True) for line in lines if line.startswith("wavenet ")]
    return [words[1:] for words in given]


def brief(arguments: list[str]) -> list[str]:
    """The same command, done within a second or two."""
    if arguments[0] == "train":
        return [*arguments, *SHORTER]
    if arguments[0] == "generate":
        return [*arguments, "--seconds", "0.05"]
    if arguments[0] == "evaluate":
        return [*arguments, *shlex.split("--utterances 1 --baselines none --page-utterances 0")]
    if arguments[:2] == ["bench", "sample"]:
        return [*arguments, "--rounds", "1", "--samples", "20"]
    if arguments[:2] == ["bench", "train"]:
        return [*arguments, "--rounds", "1", "--window-s", "0.01", "--batch-size", "1"]
    if arguments[0] == "bench":
        return [*arguments, "--rounds", "1"]
    return arguments


def test_commands_run_one_after_another(
    repository: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_speed, "_MATRIX", 256)  # and 2048 in slow tests
    monkeypatch.setattr(training_speed, "_COPIED_BYTES", 2**20)
    given = commands(repository)
    assert len(given) == 32
    for arguments in given:
        if arguments[:2] == ["bench", "train"]:
            assert arguments[2:4] == ["--preset", "medium"]
            arguments = [*arguments, "--preset", "tiny"]
        assert main(brief(arguments)) == 0, arguments


@pytest.mark.slow
def test_training_is_measured_with_the_presets_that_are_named(
    repository: Path, workplace: Path
) -> None:
    given = [arguments for arguments in commands(repository) if arguments[:2] == ["bench", "train"]]
    assert len(given) == 2
    for arguments in given:
        assert main(brief(arguments)) == 0, arguments


@pytest.mark.slow
def test_the_onnx_example_speaks(repository: Path, workplace: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    lines = "\n".join(blocks(repository, "shell")).splitlines()
    given = [shlex.split(line)[1:] for line in lines]
    assert [arguments[0] for arguments in given] == ["import", "export", "export"]
    os.rename("demo-out", "my-voice")
    for arguments in given[1:]:
        assert main(arguments) == 0, arguments
    (code,) = blocks(repository, "py")
    names: dict[str, list[float]] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["speech"]) == 1600
    assert 0.01 < max(names["speech"]) <= 1
    assert main(given[0]) == 2  # there is no such file here, and that is said


def test_commands_for_gpus_and_clusters_have_keys_that_exist(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("corpus: speech")
    text = "\n".join(blocks(repository, "bash")).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if " train " in line]
    devices = []
    for line in lines:
        config, out, _ = parse_training(shlex.split(line.split(" train ", 1)[1]))
        assert (out, config.corpus, config.trainer["accelerator"]) == ("DIR", "speech", "gpu")
        devices.append((config.trainer.get("num_nodes", 1), config.trainer["devices"]))
    assert devices == [(1, 1), (1, 8), (4, 8), (4, 8)]


def test_commands_that_need_a_gpu_say_so_where_there_is_none(
    repository: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wavenet.load("demo-out/model").save("my-voice/model")
    lines = "\n".join(blocks(repository, "bash")).splitlines()
    given = [line for line in lines if line.startswith(("wavenet generate", "wavenet bench"))]
    assert len(given) == 3
    if torch.cuda.is_available():
        return
    for line in given:
        assert main(shlex.split(line)[1:]) == 2, line
        assert "cuda" in capsys.readouterr().err.lower()


def test_preset_table_states_what_the_models_are(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)`.*?\| .*? \| .*? \| ([\d,]+) \| ([\d.]+) ms \| ([\d,]+) \|$", text, re.M
    )
    assert [row[0] for row in rows] == ["tiny", "small", "medium", "nv"]
    for name, parameters, milliseconds, multiply_adds in rows:
        model = wavenet.WaveNet(wavenet.WaveNetConfig.preset(name))
        assert f"{sum(p.numel() for p in model.parameters()):,}" == parameters
        assert f"{wavenet.receptive_field(model).milliseconds:.1f}" == milliseconds
        assert f"{model.multiply_adds:,}" == multiply_adds
