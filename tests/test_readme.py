"""README and pages do what they say: every Python block and every `wavenet` command is run.

Blocks of ``python`` and ``sh`` run in the order of their page. Those of ``bash`` need a GPU, a
cluster or time: their options are parsed. Those of ``text`` are not for this package.
"""

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import torch

import wavenet
from wavenet.benchmark import training_speed
from wavenet.cli.main import main, whole_parser
from wavenet.nam import NamWaveNet, preset, write_nam
from wavenet.storage import pretrained as voices
from wavenet.training.recipe import parse_training

REPOSITORY = Path(__file__).parents[1]

PAGES = [
    "README.md",
    *sorted(str(p.relative_to(REPOSITORY)) for p in REPOSITORY.glob("docs/**/*.md")),
]

RUN = ("python", "sh")

SHORTER = shlex.split(
    "--max_steps 2 --batch_size 1 --window_s 0.05 --validation_windows 1 --listen_s 0.05"
    " --trainer.accelerator cpu"
)


def blocks(page: str, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page in these languages: language and text."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", (REPOSITORY / page).read_text(), re.DOTALL | re.M)
    return [(language, text) for language, text in found if language in languages]


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `wavenet` in a block."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("wavenet "):
            yield shlex.split(line, comments=True)[1:]


def _link_shortened(samples: Path, to: Path) -> None:
    """Link to the samples, but of the sentences keep the first second: pages vocode whole ones."""
    to.mkdir()
    for path in samples.iterdir():
        if path.name != "prompts-en":
            os.symlink(path, to / path.name)
    (to / "prompts-en").mkdir()
    for path in (samples / "prompts-en").glob("*.flac"):
        audio, rate = soundfile.read(path, frames=16_000, dtype="int16")
        soundfile.write(to / "prompts-en" / path.name, audio, rate)


@pytest.fixture
def workplace(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with recipes and samples, and small models of the names in the pages."""
    os.symlink(repository / "recipes", tmp_path / "recipes")
    _link_shortened(repository / "samples", tmp_path / "samples")
    config = wavenet.WaveNetConfig.preset("tiny", layers_per_stack=3, residual_channels=8)
    wavenet.WaveNet(config).save(tmp_path / "my-voice" / "model")
    monkeypatch.setattr(voices, "FOLDER", tmp_path / "voices")  # quicker ones than those that ship
    bundled = config.replace(
        mel=wavenet.MelConfig(), speakers=3, speaker_names=("en", "fr", "it"), unconditional=True
    )
    wavenet.WaveNet(bundled).save(tmp_path / "voices" / voices.DEFAULT_VOICE)
    write_nam(tmp_path / "amp.nam", NamWaveNet(preset("nano")))
    (tmp_path / "recipe.yaml").write_text("corpus: speech")
    monkeypatch.setattr(training_speed, "_MATRIX", 256)  # and 2048 in slow tests
    monkeypatch.setattr(training_speed, "_COPIED_BYTES", 2**20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def brief(arguments: list[str]) -> list[str]:
    """The same command, done within a second or two."""
    if arguments[0] == "train":
        smaller = [] if "--from" in arguments else ["--model.layers_per_stack", "4"]
        return [*arguments, *SHORTER, *smaller]
    if arguments[0] == "generate":
        return [*arguments, "--seconds", "0.05"]
    if arguments[0] == "evaluate":
        less = "--utterances 1 --baselines none --metrics pesq,stoi --page-utterances 0"
        return [*arguments, *shlex.split(less)]
    if arguments[:2] == ["bench", "sample"]:
        return [*arguments, "--rounds", "1", "--samples", "20"]
    if arguments[:2] == ["bench", "train"]:
        more = "--preset tiny --rounds 1 --window-s 0.01 --batch-size 1"
        return [*arguments, *shlex.split(more)]
    if arguments[0] == "bench":
        return [*arguments, "--rounds", "1"]
    return arguments


def run_page(page: str) -> dict[str, object]:
    """Run the blocks of a page in their order; return the names that its Python code has set."""
    names: dict[str, object] = {}
    for language, text in blocks(page, *RUN):
        if language == "python":
            exec(compile(text, page, "exec"), names)
        else:
            for arguments in commands(text):
                assert main(brief(arguments)) == 0, arguments
    return names


def test_pages_have_blocks_to_run() -> None:
    python = [text for page in PAGES for _, text in blocks(page, "python")]
    given = [words for page in PAGES for _, text in blocks(page, "sh") for words in commands(text)]
    assert len(PAGES) >= 25
    assert len(python) >= 20
    assert len(given) >= 30


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, *RUN)])
def test_python_and_commands_of_a_page_run_in_their_order(page: str, workplace: Path) -> None:
    run_page(page)
    if page == "README.md":
        recorded = soundfile.info("samples/prompts-en/vm-tempgreeting2.flac")
        made = soundfile.info("again.wav")
        assert (made.samplerate, made.frames) == (16000, recorded.frames)


@pytest.mark.slow
def test_training_is_measured_with_the_presets_that_are_named(workplace: Path) -> None:
    given = [
        words
        for _, text in blocks("docs/how-to/doctor.md", "bash")
        for words in commands(text)
        if words[:2] == ["bench", "train"]
    ]
    assert len(given) == 2
    for arguments in given:
        more = "--rounds 1 --window-s 0.01 --batch-size 1"
        assert main([*arguments, *shlex.split(more)]) == 0, arguments


@pytest.mark.slow
def test_the_onnx_example_generates(workplace: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    page = "docs/how-to/interoperability.md"
    given = [words for _, text in blocks(page, "shell") for words in commands(text)]
    assert [arguments[0] for arguments in given] == ["import", "export", "export"]
    for arguments in given[1:]:
        assert main(arguments) == 0, arguments
    ((_, code),) = blocks(page, "py")
    names: dict[str, list[float]] = {}
    exec(compile(code, page, "exec"), names)
    assert len(names["speech"]) == 1600
    assert 0.01 < max(names["speech"]) <= 1
    assert main(given[0]) == 2  # there is no such file here, and that is said


def test_commands_that_are_not_run_have_options_that_exist(workplace: Path) -> None:
    parsers = whole_parser().commands
    n_parsed = 0
    for page in PAGES:
        for _, text in blocks(page, "bash", "shell", "text"):
            for name, *rest in commands(text):
                if name in parsers:
                    parsers[name].parse_args(rest)
                    n_parsed += 1
    assert n_parsed >= 10


def test_commands_for_gpus_and_clusters_name_the_devices(workplace: Path) -> None:
    (text, job) = (text for _, text in blocks("docs/how-to/gpus-and-slurm.md", "bash")[:2])
    lines = [
        line for line in f"{text}\n{job}".replace("\\\n", " ").splitlines() if " train " in line
    ]
    devices = []
    for line in lines:
        config, out, _ = parse_training(shlex.split(line.split(" train ", 1)[1]))
        assert (out, config.corpus, config.trainer["accelerator"]) == ("DIR", "speech", "gpu")
        devices.append((config.trainer.get("num_nodes", 1), config.trainer["devices"]))
    assert devices == [(1, 1), (1, 8), (4, 8), (4, 8)]


def test_commands_that_need_a_gpu_say_so_where_there_is_none(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        words
        for _, text in blocks("docs/how-to/gpus-and-slurm.md", "bash")
        for words in commands(text)
        if words[0] in ("generate", "bench")
    ]
    assert len(given) == 3
    if torch.cuda.is_available():
        return
    for arguments in given:
        assert main(arguments) == 2, arguments
        assert "cuda" in capsys.readouterr().err.lower()


def test_preset_table_states_what_the_models_are() -> None:
    text = (REPOSITORY / "docs" / "how-to" / "train.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)`.*?\| .*? \| .*? \| ([\d,]+) \| ([\d.]+) ms \| ([\d,]+) \|$", text, re.M
    )
    assert [row[0] for row in rows] == ["tiny", "small", "medium", "nv"]
    for name, parameters, milliseconds, multiply_adds in rows:
        model = wavenet.WaveNet(wavenet.WaveNetConfig.preset(name))
        assert f"{sum(p.numel() for p in model.parameters()):,}" == parameters
        assert f"{wavenet.receptive_field(model).milliseconds:.1f}" == milliseconds
        assert f"{model.multiply_adds:,}" == multiply_adds
