"""recipes/: every one of them is understood and trains, and does what its page says."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet.audio import read_audio
from wavenet.cli.main import main
from wavenet.data import Corpus, find_corpus, write_shards
from wavenet.storage import pretrained as voices
from wavenet.training.config import TrainingConfig
from wavenet.training.recipe import parse_training

RECIPES = [
    "demo",
    "folder",
    "ljspeech",
    "music",
    "prompts",
    "tts",
    "unconditional",
    "vctk",
    "yesno",
]
"""All there are: a new recipe adds its name here."""

SPEAKERS = {"prompts": 3, "unconditional": 3, "vctk": 108}
"""Of the real corpus, where a recipe tells them apart; VCTK: those with a second microphone."""

SHORTER = shlex.split("--max_steps 2 --batch_size 1 --window_s 0.02 --validation_windows 1")
SMALLER = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 4, "skip_channels": 4}

Write = Callable[..., None]


@pytest.fixture
def workplace(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with recipes and samples, from which a page's commands are given."""
    for name in ("recipes", "samples"):
        (tmp_path / name).symlink_to(repository / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(workplace: Path, samples: Path) -> Write:
    """``write("a/b.wav", 22050)``: half a second of speech there, another sentence each time."""
    sentences: Iterator[Path] = itertools.cycle(sorted((samples / "prompts-en").glob("*.flac")))

    def half_a_second(name: str, sample_rate: int = 16000) -> None:
        speech, _ = read_audio(next(sentences), sample_rate)
        (workplace / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(workplace / name, speech[: sample_rate // 2].numpy(), sample_rate)

    return half_a_second


def lay_out(recipe: str, write: Write) -> None:
    """A small copy of a recipe's corpus where its page expects it."""
    if recipe in ("prompts", "unconditional"):
        for speaker, name in itertools.product(("en", "fr", "it"), ("invalid", "vm-goodbye")):
            write(f"corpora/prompts/{speaker}/{name}.flac")
    elif recipe == "folder":
        write("my-wavs/monday/one.wav", 44100)
        write("my-wavs/two.flac")
        for name in ("three", "four"):
            write(f"new-voice/{name}.wav", 22050)
    elif recipe == "ljspeech":
        for name in ("LJ001-0001", "LJ001-0002", "LJ050-0278"):
            write(f"corpora/LJSpeech-1.1/wavs/{name}.wav", 22050)
    elif recipe == "music":
        for name in ("macroform-cold_day", "macroform-robot_dity", "reno_project-system"):
            write(f"corpora/music/{name}.flac")
    elif recipe == "tts":
        for name in ("one", "two"):
            write(f"my-wavs/{name}.wav", 22050)
            write(f"new-voice/{name}.wav", 44100)
        settings = {"sampling_rate": 22050, "n_fft": 1024, "hop_size": 256, "win_size": 1024}
        bands = {"num_mels": 80, "fmin": 0, "fmax": 8000}
        Path("voice").mkdir()
        Path("voice/config.json").write_text(json.dumps({**settings, **bands}))
        np.save("voice/hello.npy", np.full((80, 9), -5, np.float32))
    elif recipe == "vctk":
        for speaker, name in itertools.product(("p225", "p226", "s5"), ("001", "002")):
            folder = f"corpora/VCTK-Corpus-0.92/wav48_silence_trimmed/{speaker}"
            for microphone in ("mic1", "mic2"):
                write(f"{folder}/{speaker}_{name}_{microphone}.flac", 48000)
    elif recipe == "yesno":
        for name in ("0_0_0_0_1_1_1_1", "0_1_0_1_1_0_0_1", "1_0_0_0_0_0_1_1"):
            write(f"corpora/waves_yesno/{name}.wav", 8000)


def page(repository: Path, recipe: str) -> str:
    return (repository / "recipes" / recipe / "README.md").read_text()


def commands(text: str, language: str) -> list[list[str]]:
    """The arguments of every ``wavenet`` in the blocks of a page."""
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    given = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in given if words[:1] == ["wavenet"]]


def brief(arguments: list[str]) -> list[str]:
    """The same command, done within a second."""
    if arguments[0] == "train":
        config, _, _ = parse_training(arguments[1:])
        small = json.dumps({**config.model, **SMALLER})
        return [*arguments, *SHORTER, "--model", small, "--trainer.accelerator", "cpu"]
    if arguments[0] == "generate":
        if "--device" in arguments:
            arguments[arguments.index("--device") + 1] = "cpu"
        return [*arguments, "--seconds", "0.02", "--engine", "eager"]
    if arguments[0] == "evaluate":
        return [*arguments, *shlex.split("--baselines none --metrics pesq,stoi")]
    return arguments


def read_recipe(repository: Path, recipe: str) -> TrainingConfig:
    config, out, _ = parse_training([str(repository / "recipes" / recipe / "config.yaml")])
    assert out is None
    return config


def test_these_are_all_recipes(repository: Path) -> None:
    found = (repository / "recipes").glob("*/config.yaml")
    assert sorted(path.parent.name for path in found) == RECIPES


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(name, marks=[] if name in ("folder", "yesno") else [pytest.mark.slow], id=name)
        for name in RECIPES
    ],
)
def test_the_commands_of_a_recipe_train_and_generate(
    repository: Path, workplace: Path, write: Write, recipe: str
) -> None:
    lay_out(recipe, write)
    text = page(repository, recipe)
    given = commands(text, "sh")
    names = {arguments[0] for arguments in given}
    assert "train" in names
    assert names & {"generate", "vocode"}
    for arguments in given:
        assert main(brief(arguments)) == 0, arguments
    for arguments in commands(text, "bash"):  # on a GPU
        if arguments[0] == "generate":
            assert "cuda" in arguments
            assert main(brief(arguments)) == 0, arguments
    trained = [words[words.index("--out") + 1] for words in given if words[0] == "train"]
    for folder in trained:
        model = wavenet.load(workplace / folder / "model")
        wanted = read_recipe(repository, recipe).model_config()
        assert (model.config.mel, model.config.sample_rate) == (wanted.mel, wanted.sample_rate)
        assert model.config.distribution == wanted.distribution
        assert (model.config.speakers > 0) == (recipe in SPEAKERS)


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "demo"])
def test_the_commands_for_gpus_have_keys_that_exist(
    repository: Path, workplace: Path, recipe: str
) -> None:
    lines = [words for words in commands(page(repository, recipe), "bash") if words[0] == "train"]
    devices = []
    for arguments in lines:
        config, out, _ = parse_training(arguments[1:])
        assert out is not None
        assert config.trainer["accelerator"] == "gpu"
        devices.append(config.trainer["devices"])
        assert config.batch_size % config.trainer["devices"] == 0
    assert devices == [1, 8]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_model_of_a_recipe_is_what_its_page_says(repository: Path, recipe: str) -> None:
    recipe_config = read_recipe(repository, recipe)
    config = recipe_config.model_config()
    assert recipe_config.speakers_by_folder == (recipe in SPEAKERS)
    if recipe in SPEAKERS:
        config = config.replace(speakers=SPEAKERS[recipe])
    model = wavenet.WaveNet(config)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    field = wavenet.receptive_field(model)
    reach = f"receptive field {field.samples} samples = {field.milliseconds:.1f} ms"
    text = " ".join(page(repository, recipe).split())
    assert f"{n_parameters:,} parameters; {reach}" in text


def script(path: Path) -> ModuleType:
    """A script of the recipes as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- two samples a step ---


def test_a_model_of_two_samples_a_step_begins_with_the_weights_of_one(
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = script(repository / "recipes" / "prompts" / "two_samples.py")
    torch.manual_seed(0)
    one = wavenet.WaveNet(wavenet.WaveNetConfig(layers_per_stack=3, stacks=2, residual_channels=4))
    one.licences = {"LICENSE.txt": "a licence"}
    one.save(tmp_path / "one")
    monkeypatch.setattr(
        sys, "argv", ["two_samples.py", str(tmp_path / "one"), str(tmp_path / "two")]
    )
    assert begin.main() == 0
    two = wavenet.load(tmp_path / "two")
    assert two.licences == one.licences
    assert two.config == one.config.replace(samples_per_step=2)
    assert two.stack.dilations == (2, 4, 8, 2, 4, 8)
    by_dilation = {2: 1, 4: 2, 8: None}  # the layer of one sample a step that had it
    for number, block in enumerate(two.stack.blocks):
        old = by_dilation[block.conv.dilation]
        if old is not None:
            other = one.stack.blocks[number // 3 * 3 + old]
            for name, weight in block.state_dict().items():
                assert torch.equal(weight, other.state_dict()[name])
    assert torch.equal(two.head[1].weight, one.head[1].weight)
    assert torch.equal(two.input_projection.weight[:, 1:], one.input_projection.weight)
    monkeypatch.setattr(sys, "argv", ["two_samples.py", str(tmp_path / "two"), str(tmp_path / "x")])
    capsys.readouterr()
    assert begin.main() == 2
    message = "samples_per_step=2 already; name a model with samples_per_step=1"
    assert capsys.readouterr().err == f"two_samples.py: {tmp_path / 'two'}: {message}\n"
    assert not (tmp_path / "x").exists()
    below_a_file = tmp_path / "one" / "config.json" / "x"
    monkeypatch.setattr(sys, "argv", ["two_samples.py", str(tmp_path / "one"), str(below_a_file)])
    assert begin.main() == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- curves ---


@pytest.fixture(scope="module")
def curve(repository: Path) -> ModuleType:
    """The script recipes/curve.py."""
    return script(repository / "recipes" / "curve.py")


def test_a_curve_has_every_validation_of_its_run_and_the_constant_that_the_run_printed(
    tones: Path, tmp_path: Path, curve: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = "--max_steps 5 --validate_every 2 --trainer.log_every_n_steps 1"
    model = json.dumps({"preset": "tiny", "sample_rate": 8000, **SMALLER})
    arguments = ["--corpus", str(tones), "--out", str(tmp_path / "run"), "--model", model]
    assert main(["train", *arguments, *SHORTER, *keys.split()]) == 0
    said = capsys.readouterr().out
    printed = re.search(r"-> ([\d.]+) bits per sample \(best constant distribution ([\d.]+)", said)
    assert printed is not None
    table = tmp_path / "page" / "curve.csv"
    assert curve.main([str(tmp_path / "run"), str(table)]) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["step"] for row in rows] == ["0", "2", "4", "5"]
    assert float(rows[-1]["validation_bits_per_sample"]) == pytest.approx(float(printed[1]), 1e-4)
    assert capsys.readouterr().out.endswith(f"best constant distribution {float(printed[2]):.2f}\n")
    assert table.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_constant_of_a_run_on_a_stored_corpus_is_that_of_its_folder(
    tones: Path, tmp_path: Path, curve: ModuleType
) -> None:
    write_shards(find_corpus(str(tones)), str(tmp_path / "store"), 8000)
    model = json.dumps({"preset": "tiny", "sample_rate": 8000, **SMALLER})
    found = {}
    for name, corpus in {"a": str(tones), "b": f"file://{tmp_path}/store"}.items():
        arguments = ["--corpus", corpus, "--out", str(tmp_path / name), "--model", model]
        assert main(["train", *arguments, *SHORTER]) == 0
        found[name] = curve.best_constant(tmp_path / name)
    assert found["a"] == found["b"]


def test_a_run_in_a_store_is_one_line(
    tmp_path: Path, curve: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curve.main(["s3://bucket/run", str(tmp_path / "curve.csv")]) == 2
    assert capsys.readouterr().err == (
        "curve: s3://bucket/run is a URL; copy the folder of the run to this machine\n"
    )


def test_a_folder_without_a_run_is_one_line(
    tmp_path: Path, curve: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curve.main([str(tmp_path), str(tmp_path / "curve.csv")]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"curve: {tmp_path}/logs holds no valid/bits; name the --out of a")
    assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- decoding ---


def test_decoding_a_folder_that_is_not_there_is_one_line(repository: Path, tmp_path: Path) -> None:
    script = str(repository / "recipes" / "decode_g722.sh")
    done = subprocess.run(
        ["bash", script, str(tmp_path / "nowhere"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "decode_g722.sh: give the folder with .g722 files, and the folder to write to\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg, which is not here")
def test_sounds_are_decoded_into_one_folder_at_16_khz(
    repository: Path, samples: Path, tmp_path: Path
) -> None:
    speech = str(samples / "prompts-en" / "agent-user.flac")
    for name in ("a.g722", "digits/1.g722"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        encoded = str(tmp_path / "in" / name)
        subprocess.run(["ffmpeg", "-loglevel", "error", "-i", speech, encoded], check=True)
    script = str(repository / "recipes" / "decode_g722.sh")
    subprocess.run(["bash", script, str(tmp_path / "in"), str(tmp_path / "out")], check=True)
    decoded = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in decoded] == ["a.flac", "digits__1.flac"]
    for path in decoded:
        found, given = read_audio(path)[0], read_audio(speech)[0]
        assert soundfile.info(path).samplerate == 16000
        # power, as the codec delays the sound; 64 kbit/s keep it within far less than a decibel
        level = given.square().mean()
        assert abs(found.square().mean() / level - 1) < 0.1


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ([], "give the folder in which the packages were unpacked (dpkg -x), and the folder to "),
        (["gcin-voice"], "packages/usr/share/games/megaglest is missing: unpack its package there"),
    ],
)
@pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("unzip") is None,
    reason="needs ffmpeg and unzip, which are not here",
)
def test_packages_that_were_not_unpacked_are_one_line(
    repository: Path, tmp_path: Path, folders: list[str], message: str
) -> None:
    for folder in folders:
        (tmp_path / "packages" / "usr" / "share" / folder).mkdir(parents=True)
    script = str(repository / "recipes" / "prompts" / "more_speakers.sh")
    done = subprocess.run(
        ["bash", script, "packages", "out"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"more_speakers.sh: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("unzip") is None,
    reason="needs ffmpeg and unzip, which are not here",
)
def test_voices_of_packages_are_decoded_once_and_no_other_sounds(
    repository: Path, tmp_path: Path
) -> None:
    share = tmp_path / "packages" / "usr" / "share"
    time = np.arange(22050) / 44100
    units = "games/megaglest/techs/megapack/factions/tech/units"
    sounds = {
        "gcin-voice/ogg/ba1/5.ogg": 100,
        "gcin-voice/ogg/ba1/3.ogg": 110,
        f"{units}/archer/sounds/archer_ack1.wav": 120,
        f"{units}/guard/sounds/archer_ack1.wav": 120,  # a copy
        f"{units}/archer/sounds/archer_attack1.wav": 130,
        f"{units}/dragon/sounds/dragon_select1.wav": 140,
        "unknown-horizons/content/audio/voice/en/0/new_world/0.ogg": 150,
        "voice/greek/civ/civ_female_walk_1.ogg": 160,
        "voice/global/civ_dog_bark.ogg": 170,
    }
    for name, hertz in sounds.items():
        (share / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(share / name, 0.5 * np.sin(2 * np.pi * hertz * time), 44100)
    archive = share / "games" / "0ad" / "mods" / "public" / "public.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as file:
        for name in sounds:
            if name.startswith("voice/"):
                file.write(share / name, f"audio/{name}")
    script = str(repository / "recipes" / "prompts" / "more_speakers.sh")
    subprocess.run(["bash", script, "packages", "out", "0"], check=True, cwd=tmp_path)
    made = sorted(path.relative_to(tmp_path / "out") for path in tmp_path.glob("out/*/*"))
    assert [str(path) for path in made] == [
        "games/0ad__greek__civ__civ_female_walk_1.flac",
        "games/megaglest__factions__tech__units__archer__sounds__archer_ack1.flac",
        "games/unknown-horizons__en__0__new_world__0.flac",
        "zh/ba1.flac",
    ]
    for path, hertz in zip(made, (160, 120, 150, 100), strict=True):
        found = soundfile.read(tmp_path / "out" / path)[0]
        assert soundfile.info(tmp_path / "out" / path).samplerate == 16000
        loudest = np.abs(np.fft.rfft(found)).argmax() * 16000 / len(found)
        assert abs(loudest - hertz) <= 2, path


# --- the demo ---


@pytest.fixture(scope="module")
def demo(repository: Path) -> ModuleType:
    """The script recipes/demo/demo.py."""
    return script(repository / "recipes" / "demo" / "demo.py")


@pytest.fixture
def no_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of voices, with none in it; work is done beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(voices, "FOLDER", tmp_path / "voices")
    return tmp_path / "voices"


@pytest.fixture
def small_voice(no_voice: Path) -> None:
    """A quick voice instead of the one that ships, of the same speakers."""
    config = wavenet.WaveNetConfig.preset(
        "tiny",
        **SMALLER,
        mel=wavenet.MelConfig(),
        speakers=3,
        speaker_names=("en", "fr", "it"),
        unconditional=True,
    )
    wavenet.WaveNet(config).save(no_voice / voices.DEFAULT_VOICE)


def test_without_the_voice_the_demo_says_so_in_one_line_and_goes_on(
    demo: ModuleType, no_voice: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not demo.speak_again(Path("report"))
    assert capsys.readouterr().out == (
        "the voice prompts-16k is not in this package: the demo goes on without it\n"
    )
    assert not Path("report").exists()


@pytest.mark.slow
def test_the_demo_lets_the_voice_say_a_sentence_of_each_speaker_again(
    demo: ModuleType, small_voice: None
) -> None:
    for _ in range(2):  # the second report takes the place of the first
        assert demo.speak_again(Path("report"))
    report = json.loads(Path("report/report.json").read_text())
    heard = [(one["name"], one["speaker"]) for one in report["utterances"]]
    assert heard == [
        ("en/queue-youarenext.flac", "en"),
        ("fr/agent-alreadyon.flac", "fr"),
        ("it/confbridge-remove-last-out.flac", "it"),
    ]
    assert Path("report/index.html").read_text().count("data:audio/flac") >= 2 * len(heard)


def test_the_demo_trains_on_none_of_the_sentences_that_it_speaks(
    demo: ModuleType, repository: Path, samples: Path
) -> None:
    spoken = demo.held_out([str(repository / "recipes" / "demo" / "config.yaml")])
    names = [path.name for path in spoken]
    assert names == ["vm-tempgreeting2.flac", "conf-onlyperson.flac", "dir-nomore.flac"]
    config = read_recipe(repository, "demo")
    corpus = Corpus.read(find_corpus(str(samples / "prompts-en")), 16000)
    trained, _ = corpus.split(config.validation_fraction)
    assert not {utterance.name for utterance in trained.utterances} & set(names)


def test_the_sentences_of_the_demo_before_do_not_stay(
    demo: ModuleType, samples: Path, tmp_path: Path
) -> None:
    for name in ("invalid.flac", "agent-user.flac"):
        demo.copy_into(tmp_path / "held-out", [samples / "prompts-en" / name])
    (only,) = (tmp_path / "held-out").iterdir()
    assert only.read_bytes() == (samples / "prompts-en" / "agent-user.flac").read_bytes()


@pytest.mark.slow
def test_the_demo_trains_speaks_draws_and_says_where(repository: Path, tmp_path: Path) -> None:
    brief = "--max_steps 2 --batch_size 1 --window_s 0.05 --validation_windows 2"
    small = json.dumps({**read_recipe(repository, "demo").model, **SMALLER})
    for name in ("model/config.json", "fresh/notes.txt", "notes.txt"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("of an earlier demo, or the user's")
    script = str(repository / "recipes" / "demo" / "demo.py")
    done = subprocess.run(
        [sys.executable, script, "--out", "out", "--model", small, *brief.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "receptive field: 1257 samples = 78.562 ms at 16000 Hz" in done.stdout
    assert "validation before training: " in done.stderr
    assert "trained for 2 steps: " in done.stdout
    assert ("\nlisten: out/voice/index.html\n" in done.stdout) == bool(wavenet.voice_names())
    assert done.stdout.endswith(
        "listen: out/fresh/index.html\nlook:   out/spoken.png\nmodel:  out/model\n"
    )
    for recorded in (tmp_path / "out" / "held-out").iterdir():
        made = tmp_path / "out" / "spoken" / f"{recorded.stem}.wav"
        assert soundfile.info(made).frames == soundfile.info(recorded).frames
    assert (tmp_path / "out" / "spoken.png").read_bytes().startswith(b"\x89PNG")
    assert wavenet.load(tmp_path / "out" / "model").config.linear_prediction == 20
    report = json.loads((tmp_path / "out" / "fresh" / "report.json").read_text())
    heard = [Path(one["name"]).name for one in report["utterances"]]
    assert heard == ["conf-onlyperson.flac", "dir-nomore.flac", "vm-tempgreeting2.flac"]
    for system in ("model", "network"):  # refined, and as the network generates it
        values = report["summary"][system]
        assert all(key in values or key in report["unavailable"] for key in ("pesq", "stoi"))
        assert values["log_mel_l1"]["mean"] > 0
    assert (tmp_path / "out" / "notes.txt").is_file()


@pytest.mark.parametrize("recipe", ["inpaint", "segment"])
def test_a_mistake_in_the_steps_or_the_folder_is_no_traceback(
    recipe: str,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = repository / "recipes" / recipe / f"{recipe}.py"
    (tmp_path / "a file").write_text("")
    for given, message in (
        (["--steps", "0", "--out", str(tmp_path / "out")], "--steps 0 must be at least 1"),
        (["--out", str(tmp_path / "a file")], "a file: File exists; choose another folder"),
    ):
        monkeypatch.setattr(sys, "argv", [script.name, *given])
        with pytest.raises(SystemExit) as exit_of:
            runpy.run_path(str(script), run_name="__main__")
        assert exit_of.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
