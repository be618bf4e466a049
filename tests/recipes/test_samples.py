"""recipes/prompts/samples.py: the sounds of a voice, of sentences that it was not trained on."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import soundfile

import wavenet
from wavenet.audio import read_audio
from wavenet.cli.main import main

SIZES = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 4, "skip_channels": 4}


@pytest.fixture(scope="module")
def script(repository: Path) -> ModuleType:
    path = repository / "recipes" / "prompts" / "samples.py"
    spec = importlib.util.spec_from_file_location("prompts_samples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def workplace(
    script: ModuleType, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """With ``corpus``, a second of each sentence and of one trained on, and ``quick``, a voice."""
    monkeypatch.chdir(tmp_path)
    sources = {name: samples / "voice" / "reference" / name for name in script.SENTENCES}
    sources["en/agent-user.flac"] = samples / "prompts-en" / "agent-user.flac"
    for name, source in sources.items():
        speech, rate = read_audio(source, count=16000)
        Path("corpus", name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(Path("corpus", name), speech.numpy(), rate)
    config = wavenet.WaveNetConfig.preset(
        "tiny",
        **SIZES,
        mel=wavenet.MelConfig(),
        speakers=3,
        speaker_names=("en", "fr", "it"),
        unconditional=True,
    )
    wavenet.WaveNet(config).save("quick")
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_a_sentence_that_is_trained_on_is_refused_in_one_line(
    script: ModuleType, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("corpus/en/agent-user.flac").unlink()  # one of the sentences must now be trained on
    assert script.main(["quick", "corpus"]) == 2
    message = capsys.readouterr().err
    assert re.fullmatch(r"samples.py: corpus: \w\w/[\w-]+\.flac is not held out from .*\n", message)
    assert not Path("samples").exists()


@pytest.mark.slow
def test_every_sound_is_made_linked_and_made_again_by_the_command_beside_it(
    script: ModuleType, workplace: Path
) -> None:
    for module in ("librosa", "pyworld"):
        pytest.importorskip(module, reason="a baseline that cannot be made here")
    assert script.main(["quick", "corpus"]) == 0
    first = files(workplace / "samples")
    page = first["voice/README.md"].decode()
    sounds = [f"voice/{link}" for link in re.findall(r"\]\(([^)]+\.flac)\)", page)]
    assert sorted([*sounds, "voice/README.md", "pictures/voice.png"]) == sorted(first)
    assert len(sounds) == 16  # five of each sentence, and an unconditional one
    for name in script.SENTENCES:
        assert first[f"voice/reference/{name}"] == Path("corpus", name).read_bytes()
        for system in ("griffin-lim", "world", "quick", "quick-network-alone"):
            assert soundfile.info(f"samples/voice/{system}/{name}").frames == 16000
    commands = [shlex.split(line)[1:] for line in page.splitlines() if line.startswith("wavenet ")]
    assert len(commands) == 7
    for arguments in commands:
        Path(arguments[2] if arguments[0] == "vocode" else arguments[1]).unlink()
        assert main(arguments) == 0
    assert files(workplace / "samples") == first
    assert script.main(["quick", "corpus"]) == 0
    assert files(workplace / "samples") == first
