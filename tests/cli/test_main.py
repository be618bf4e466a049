"""wavenet.cli: what the commands write, print and answer; a mistake is one line and exit code 2."""

from __future__ import annotations

import json
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet.audio import read_audio
from wavenet.cli import info
from wavenet.cli.main import COMMANDS, INTERRUPTED, main
from wavenet.generation.engines.cpu import engine as cpu
from wavenet.storage import pretrained as voices

Limit = Callable[[int], AbstractContextManager[None]]

SMALL = {"layers_per_stack": 5, "stacks": 2, "residual_channels": 8, "skip_channels": 8}
RATE = 8000


class Answer(NamedTuple):
    code: int
    out: str
    err: str


class Run:
    """``run("info FOLDER")``: one command in this process, with what it printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd

    def __call__(self, *arguments: str | Path) -> Answer:
        self.capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *self.capfd.readouterr())

    def mistake(self, *arguments: str | Path) -> str:
        """The one line on standard error of a command that must fail with exit code 2."""
        answer = self(*arguments)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err.endswith("\n")
        assert len(answer.err.splitlines()) == 1
        assert answer.err.startswith("wavenet")
        return answer.err


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    return Run(capfd)


def save_model(folder: Path, **settings: object) -> Path:
    torch.manual_seed(0)
    config = wavenet.WaveNetConfig.from_dict({"sample_rate": RATE, **SMALL, **settings})
    wavenet.WaveNet(config).save(folder, provenance={"corpus": {"folder": "tones"}, "steps": 7})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def mel_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    mel = {"sample_rate": RATE, "n_fft": 256, "win_samples": 200, "hop_samples": 80, "n_mels": 10}
    return save_model(tmp_path_factory.mktemp("mel"), mel={**mel, "f_max_hz": 4000.0})


@pytest.fixture(scope="module")
def speaker_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speakers")
    return save_model(folder, speakers=3, speaker_names=["mary", "1089", "0"])


def generate(run: Run, out: Path, model: Path, *more: str | Path) -> torch.Tensor:
    """What ``wavenet generate`` writes in 0.05 seconds of audio, as samples."""
    given = ("--model", model, "--engine", "eager", *more)
    length = () if "--mel-from" in more else ("--seconds", "0.05")
    answer = run("generate", out, *given, *length)
    assert (answer.code, answer.err) == (0, "")
    return read_audio(out)[0]


# --- the command itself ---


def test_the_package_run_as_a_module_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["wavenet", "--version"])
    monkeypatch.delitem(sys.modules, "wavenet.__main__", raising=False)  # as in a new process
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module("wavenet", run_name="__main__")
    assert (stopped.value.code, capsys.readouterr().out) == (0, f"wavenet {wavenet.__version__}\n")


def test_options_have_hyphens_or_underscores(run: Run, mel_model: Path, tmp_path: Path) -> None:
    answers = [
        run(
            "bench", "train", "--preset", "nothing", f"--batch{sign}size=1", f"--window{sign}s", "1"
        )
        for sign in "-_"
    ]
    assert answers[0] == answers[1]
    assert "preset='nothing' is unknown" in answers[0].err
    message = run.mistake("generate", tmp_path / "a.wav", "--model", mel_model, "--mel_from=no.wav")
    assert "no.wav" in message


@pytest.mark.parametrize(
    "name", [*COMMANDS, "bench sample", "bench train", "bench process", "bench serve"]
)
def test_options_are_shown_with_hyphens_and_explained(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    text = capsys.readouterr().out
    assert not re.search(r"--[\w.]*_", text)
    rows = re.split(r"\n  (?=-)", text)[1:]
    assert rows
    for row in rows:
        explained = row.replace("\n" + 24 * " ", "  ").partition("  ")[2].strip()
        assert len(explained) > 8, row


# --- generate ---


def test_generate_writes_the_seconds_asked_for_and_says_so(
    run: Run, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "a.wav"
    answer = run("generate", out, "--model", model, "--seconds", "0.1234")
    assert answer == (0, f"{out}: 0.123 s at 8000 Hz\n", "")
    found = soundfile.info(out)
    assert (found.samplerate, found.channels, found.frames) == (RATE, 1, 987)


def test_one_seed_gives_one_file_and_another_seed_another(
    run: Run, model: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        generate(run, tmp_path / f"{name}.wav", model, "--seed", seed)
    first = (tmp_path / "a.wav").read_bytes()
    assert first == (tmp_path / "b.wav").read_bytes()
    assert first != (tmp_path / "c.wav").read_bytes()


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_the_file_holds_what_generate_returns(
    run: Run, model: Path, tmp_path: Path, suffix: str
) -> None:
    written = generate(run, tmp_path / f"a.{suffix}", model, "--seed", "3")
    returned = wavenet.generate(wavenet.load(model), n_samples=400, seed=3, engine="eager")
    assert torch.equal(written[None], returned)


def test_a_dash_writes_the_wavs_samples_to_standard_output(
    model: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    options = ["--model", str(model), "--seconds", "0.05", "--engine", "eager"]
    assert main(["generate", str(tmp_path / "a.wav"), *options]) == 0
    capfdbinary.readouterr()
    assert main(["generate", "-", *options]) == 0
    pcm, messages = capfdbinary.readouterr()
    assert np.array_equal(
        np.frombuffer(pcm, "<i2"), soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    )
    assert messages == b""


def test_temperature_is_that_of_generate(run: Run, model: Path, tmp_path: Path) -> None:
    warm, cold = (
        generate(run, tmp_path / f"{t}.wav", model, "--temperature", t) for t in ("1", "0.5")
    )
    direct = wavenet.generate(
        wavenet.load(model), n_samples=400, seed=0, temperature=0.5, engine="eager"
    )
    assert torch.equal(cold[None], direct)
    assert not torch.equal(cold, warm)


def test_top_p_leaves_the_likeliest_out_of_doubt(run: Run, model: Path, tmp_path: Path) -> None:
    narrow = generate(run, tmp_path / "a.wav", model, "--top-p", "0.001", "--seed", "1")
    again = generate(run, tmp_path / "b.wav", model, "--top-p", "0.001", "--seed", "2")
    assert torch.equal(narrow, again)  # one class is left: the seed does not matter


def test_noise_shaping_is_that_of_generate(run: Run, model: Path, tmp_path: Path) -> None:
    shaped = generate(run, tmp_path / "a.wav", model, "--noise-shaping", "0.5")
    direct = wavenet.generate(
        wavenet.load(model), n_samples=400, seed=0, noise_shaping=0.5, engine="eager"
    )
    assert torch.equal(shaped[None], direct)
    assert not torch.equal(shaped, generate(run, tmp_path / "b.wav", model))


def test_the_output_follows_a_prime_which_is_not_in_the_file(
    run: Run, model: Path, tones: Path, tmp_path: Path
) -> None:
    prime = tones / "tone-1.wav"
    carried_on = generate(run, tmp_path / "a.wav", model, "--prime", prime)
    direct = wavenet.generate(
        wavenet.load(model), n_samples=400, seed=0, prime=read_audio(prime)[0], engine="eager"
    )
    assert torch.equal(carried_on[None], direct)
    assert not torch.equal(carried_on, generate(run, tmp_path / "b.wav", model))


def test_a_mel_model_speaks_as_long_as_the_recording_or_less(
    run: Run, mel_model: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "in.wav", np.sin(np.arange(1000) / 9) / 2, RATE)
    made = generate(run, tmp_path / "a.wav", mel_model, "--mel-from", tmp_path / "in.wav")
    assert len(made) == 1000  # 12 and a half hops of 80
    soundfile.write(tmp_path / "prime.wav", np.sin(np.arange(800) / 9) / 2, RATE)
    primed = ("--mel-from", tmp_path / "in.wav", "--prime", tmp_path / "prime.wav")
    assert len(generate(run, tmp_path / "c.wav", mel_model, *primed)) == 1000 - 800
    other = tmp_path / "other.wav"
    soundfile.write(other, np.random.default_rng(0).normal(0, 0.1, 1000), RATE)
    assert not torch.equal(made, generate(run, tmp_path / "b.wav", mel_model, "--mel-from", other))


@pytest.mark.parametrize(("speaker", "index"), [("mary", 0), ("1089", 1), ("0", 2), ("2", 2)])
def test_a_speaker_is_a_name_that_may_be_a_number_or_else_an_index(
    run: Run, speaker_model: Path, tmp_path: Path, speaker: str, index: int
) -> None:
    made = generate(run, tmp_path / "a.wav", speaker_model, "--speaker", speaker)
    direct = wavenet.generate(
        wavenet.load(speaker_model), n_samples=400, seed=0, speaker=index, engine="eager"
    )
    assert torch.equal(made[None], direct)


def test_an_empty_speaker_selects_none(run: Run, tmp_path: Path) -> None:
    free = save_model(
        tmp_path / "free", speakers=2, speaker_names=["ann", "bob"], unconditional=True
    )
    without = generate(run, tmp_path / "a.wav", free)
    assert torch.equal(generate(run, tmp_path / "b.wav", free, "--speaker", ""), without)
    assert not torch.equal(generate(run, tmp_path / "c.wav", free, "--speaker", "ann"), without)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a.mp3 --model nowhere", "a.mp3: unknown extension '.mp3'; use one of .wav, .flac, .ogg"),
        ("a.wav --model nowhere", "nowhere holds no config.json; name the folder that"),
        ("a.wav --model MODEL --mel-from IN", "--mel-from=IN, but MODEL takes no mel"),
        ("a.wav --model MEL", "MEL needs a mel: use wavenet vocode"),
        ("a.wav --model MEL --mel-from IN --seconds 9", "more than the mel describes"),
        ("a.wav --model SPEAKERS", "--speaker is missing; the model knows mary, 1089, 0"),
        (
            "a.wav --model SPEAKERS --speaker jane",
            "speaker='jane' is unknown; give one of mary, 108",
        ),
        ("a.wav --model SPEAKERS --speaker 3", "speaker=3 must lie within 0 to 2"),
        ("a.wav --model MODEL --speaker 3", "speaker"),
        ("a.wav --model MODEL --prime nowhere.wav", "nowhere.wav: cannot be read: No such file or"),
        ("a.wav --model MODEL --prime TEXT", "TEXT: not an audio file that can be read"),
        ("IN --model MODEL --prime IN", "IN would be written over; name another file"),
        ("./x/../text.wav --model MEL --mel-from text.wav", "text.wav would be written over"),
        ("a.wav --model MODEL --seconds 1e9", "more than a WAV holds; write .flac"),
        ("a.wav --model MODEL --seconds 0", "--seconds=0.0 must be "),
        ("a.wav --model MODEL --seconds nan", "--seconds=nan must be "),
        ("a.wav --model MODEL --seconds inf", "--seconds=inf must be "),
        (
            "a.wav --model MODEL --seconds long",
            "argument --seconds: invalid float value: 'long'; se",
        ),
        ("a.wav --model MODEL --seed -1", "seed=-1 must not be negative"),
        ("a.wav --model MODEL --temperature 0", "temperature must be above 0, such as 0.9 or 1.0"),
        ("a.wav --model MODEL --top-p 2", "top_p must be in (0, 1]"),
        ("a.wav --model MODEL --noise-shaping 2", "noise_shaping=2.0 must be from -1 to 1"),
        (
            "a.wav --model MODEL --engine warp",
            "engine='warp' is unknown; choose one of auto, stream",
        ),
        ("a.wav --model MODEL --weights int4", "weights='int4' is unknown; choose one of float32"),
        (
            "a.wav --model MODEL --device abacus",
            "--device='abacus' is no device; give cpu, cuda or",
        ),
        ("a.wav --model MODEL --device cuda:99", "--device=cuda:99: found "),
        ("a.wav", "the voice prompts-16k is not in this version of the package; name a model's"),
        (
            "--model MODEL",
            "wavenet generate: the following arguments are required: OUT; see wavenet",
        ),
        (
            "a.wav --model MODEL --colour red",
            "wavenet: unrecognized arguments: --colour red; see wa",
        ),
    ],
)
def test_a_mistake_in_generate_is_one_line_and_writes_nothing(
    run: Run,
    model: Path,
    mel_model: Path,
    speaker_model: Path,
    tones: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(voices, "FOLDER", tmp_path / "no-voices")
    (tmp_path / "text.wav").write_text("no sound")
    names = {"MODEL": model, "MEL": mel_model, "SPEAKERS": speaker_model}
    names |= {"IN": tones / "tone-0.wav", "TEXT": tmp_path / "text.wav"}
    for name, path in names.items():
        arguments, message = (text.replace(name, str(path)) for text in (arguments, message))
    assert message in run.mistake("generate", *arguments.split())
    assert os.listdir(tmp_path) == ["text.wav"]


def test_a_wrong_extension_is_refused_before_the_model_is_read(run: Run, tmp_path: Path) -> None:
    assert "unknown extension ''" in run.mistake("generate", "a", "--model", tmp_path)


def test_a_place_that_cannot_be_written_is_one_line(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    options = ("--model", model, "--seconds", "0.01", "--engine", "eager")
    line = run.mistake("generate", tmp_path / "file" / "a.wav", *options)
    assert "nothing was written: File exists; a part of the path is a file, not a folder" in line


def test_a_full_disk_is_one_line_and_nothing_half_written(
    run: Run, model: Path, tmp_path: Path, files_of_at_most: Limit
) -> None:
    options = ("--model", model, "--seconds", "0.1", "--engine", "eager")
    with files_of_at_most(1000):
        line = run.mistake("generate", tmp_path / "a.wav", *options)
    assert f"{tmp_path}/a.wav: nothing was written: File too large; " in line
    assert os.listdir(tmp_path) == []


# --- info ---


def test_info_tells_size_receptive_field_settings_and_provenance(run: Run, model: Path) -> None:
    answer = run("info", model)
    loaded = wavenet.load(model)
    n_parameters = sum(parameter.numel() for parameter in loaded.parameters())
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == (
        f"{n_parameters:,} parameters, {loaded.multiply_adds:,} multiply-adds per sample"
    )
    assert lines[1] == "receptive field: 63 samples = 7.875 ms"  # 1 + 2 (1 + 2 + 4 + 8 + 16)
    assert "  sample_rate: 8000" in lines
    assert "    folder: tones" in lines
    assert "  steps: 7" in lines


def test_info_json_is_one_object_with_all_of_it(run: Run, model: Path) -> None:
    answer = run("info", model, "--json")
    found = json.loads(answer.out)
    assert (answer.code, answer.err, answer.out.count("\n")) == (0, "", 1)
    assert found["receptive_field_samples"] == 63
    assert found["receptive_field_ms"] == 7.875
    assert found["multiply_adds_per_sample"] == wavenet.load(model).multiply_adds
    assert found["config"]["sample_rate"] == RATE
    assert found["provenance"]["steps"] == 7
    assert found["architecture"] == "wavenet"


def test_a_folder_without_a_checkpoint_is_one_line(run: Run, tmp_path: Path) -> None:
    assert f"{tmp_path} holds no config.json; name the folder" in run.mistake("info", tmp_path)


# --- receptive-field ---


@pytest.mark.parametrize(
    ("arguments", "samples", "milliseconds", "n_layers"),
    [
        ("--layers 10 --stacks 3 --kernel-size 2 --sample-rate 16000", 3070, 191.875, 30),
        ("--layers 10 --stacks 3 --sample-rate 16000", 3070, 191.875, 30),
        ("--layers 10 --sample-rate 24000", 1024, 1024 / 24, 10),
        ("--layers 4 --kernel-size 3", 31, None, 4),
        ("--dilations 1,2,4", 8, None, 3),
        ("--dilations 1,3,9 --kernel-size 3 --stacks 2 --sample-rate 1000", 53, 53.0, 6),
        ("MODEL", 63, 7.875, 10),
        ("RECIPE", 1257, 78.5625, 19),
        ("RECIPE/config.yaml", 1257, 78.5625, 19),
    ],
)
def test_receptive_field_in_all_its_forms(
    run: Run,
    model: Path,
    repository: Path,
    arguments: str,
    samples: int,
    milliseconds: float | None,
    n_layers: int,
) -> None:
    given = arguments.replace("MODEL", str(model)).replace("RECIPE", f"{repository}/recipes/demo")
    answer = run("receptive-field", *given.split(), "--json")
    assert (answer.code, answer.err, answer.out.count("\n")) == (0, "", 1)
    found = json.loads(answer.out)
    assert found["samples"] == samples
    assert found["milliseconds"] == pytest.approx(milliseconds)
    assert len(found["layers"]) == n_layers
    assert found["layers"][-1]["samples"] == samples
    table = run("receptive-field", *given.split()).out.splitlines()
    assert len(table) == n_layers + 2
    assert table[-1].startswith(f"receptive field: {samples} samples")


def test_every_layer_has_its_line_in_samples_and_milliseconds(run: Run) -> None:
    found = run("receptive-field", "--dilations", "1,2", "--sample-rate", "1000", "--json")
    assert json.loads(found.out)["layers"] == [
        {
            "name": f"layer {i + 1}",
            "kernel_size": 2,
            "dilation": dilation,
            "effective_kernel": dilation + 1,
            "samples": samples,
            "milliseconds": float(samples),
        }
        for i, (dilation, samples) in enumerate([(1, 2), (2, 4)])
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give one of: a checkpoint or recipe, --layers, --dilations"),
        (
            "--layers 3 --dilations 1,2",
            "give one of: a checkpoint or recipe, --layers, --dilations",
        ),
        ("--layers 0", "--layers=0 must be at least 1"),
        ("--layers 3 --stacks 0", "--stacks=0 must be at least 1"),
        ("--layers 3 --kernel-size 0", "kernel_size=0 must be an integer of at least 1"),
        ("--layers 3 --sample-rate 0", "sample_rate=0 must be an integer of at least 1"),
        ("--layers three", "argument --layers: invalid int value: 'three'"),
        ("--dilations 1,x", "--dilations='1,x' must be integers with commas, such as 1,2,4"),
        ("--dilations 1,0", "dilation=0 must be an integer of at least 1"),
        ("nowhere", "nowhere holds no config.json"),
        ("nowhere.yaml", "nowhere.yaml: cannot be read: No such file or directory"),
        ("MODEL --sample-rate 16000", "sample_rate=16000 contradicts the model's 8000 Hz"),
        ("MODEL --kernel-size 3", "MODEL has its own; leave out --stacks and --kernel-size"),
    ],
)
def test_a_mistake_in_receptive_field_is_one_line(
    run: Run, model: Path, arguments: str, message: str
) -> None:
    arguments, message = (text.replace("MODEL", str(model)) for text in (arguments, message))
    assert message in run.mistake("receptive-field", *arguments.split())


# --- inspect ---


def test_inspect_tells_what_a_corpus_holds_as_a_table_and_as_json(
    run: Run, tones: Path, tmp_path: Path
) -> None:
    answer = run("inspect", tones)
    assert (answer.code, answer.err) == (0, "")
    assert "recordings    8, 8 of them usable" in answer.out.splitlines()
    (tmp_path / "list.csv").write_text(f"path,speaker\n{tones}/tone-0.wav,mary\n")
    facts = json.loads(run("inspect", tmp_path / "list.csv", "--json").out)
    assert (facts["recordings"], list(facts["speakers"])) == (1, ["mary"])
    assert facts["found"]["broken"]["count"] == 0


def test_inspect_prints_names_that_are_not_utf8(run: Run, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.wav")).write_bytes(b"no sound")
    for arguments in ([], ["--json"]):
        answer = run("inspect", tmp_path, *arguments)
        assert answer.code == 0
        assert "udcff.wav" in answer.out


def test_a_mistake_in_inspect_is_one_line(run: Run, tmp_path: Path) -> None:
    assert "is not a folder; name one with audio files, a" in run.mistake("inspect", "nowhere")
    assert "holds no audio file; looked for" in run.mistake("inspect", tmp_path)
    line = run.mistake("inspect", "YESNO", "--corpus-root", tmp_path)
    assert f"corpus=YESNO: there is no {tmp_path}/waves_yesno; set download" in line


# --- train ---


def train_arguments(corpus: Path, out: Path, *more: str) -> list[str]:
    small = [f"--model.{key}={value}" for key, value in {"sample_rate": RATE, **SMALL}.items()]
    brief = ["--window_s=0.02", "--batch_size=2", "--validation_windows=2", "--max_steps=2"]
    brief.append("--listen_every=0")
    return ["train", "--corpus", str(corpus), "--out", str(out), *small, *brief, *more]


def test_train_then_generate_then_fine_tune(run: Run, tones: Path, tmp_path: Path) -> None:
    arguments = train_arguments(tones, tmp_path / "a", "--seed=5")
    answer = run(*arguments)
    assert answer.code == 0
    *_, printed, where = answer.out.splitlines()
    assert printed.startswith("trained for 2 steps: ")
    assert "bits per sample (best constant distribution " in printed
    assert where == f"model: {tmp_path}/a/model"
    lines = answer.err.splitlines()
    reported = [line for line in lines if line and not line.startswith("training: ")]  # the bar
    assert reported[0] == "corpus: 8 files, 0.1 minutes at 8000 Hz"
    assert reported[1].startswith("best constant distribution: ")
    assert reported[2].startswith("validation before training: ")
    assert len(reported) == 3
    content = json.loads((tmp_path / "a" / "model" / "config.json").read_text())
    assert content["provenance"]["corpus"]["folder"] == tones.name
    assert str(tmp_path) not in json.dumps(content["provenance"])
    generate(run, tmp_path / "a.wav", tmp_path / "a" / "model")
    more = ["--out", tmp_path / "b", "--from", tmp_path / "a" / "model", "--max_steps", "1"]
    assert run("train", "--corpus", tones, "--window_s", "0.02", *more).code == 0
    assert wavenet.load(tmp_path / "b" / "model").sample_rate == RATE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--corpus TONES", "wavenet train: --out is missing; name the folder for the model"),
        ("--out OUT", "wavenet train: corpus is not set; name a folder of audio files"),
        ("--corpus EMPTY --out OUT", "holds no audio file; looked for .3gp, "),
        (
            "--corpus TEXT --out OUT",
            "wavenet train: none of the 1 audio files can be used: TEXT/a.w",
        ),
        ("--corpus TONES --out OUT --colour red", "unrecognized arguments: --colour red"),
        ("--corpus TONES --out OUT --max_steps many", "Expected a int. Got value: many"),
        (
            "--corpus TONES --out OUT --model.stack 3",
            "model.stack is unknown; did you mean stacks?",
        ),
        ("--corpus TONES --out OUT --from nowhere", "nowhere holds no config.json"),
        (
            "--corpus TONES --out OUT --from MODEL --model.sample_rate 16000",
            "has sample_rate=8000, but the configuration asks for sample_rate=16000; drop the key",
        ),
        ("nowhere.yaml --out OUT", "nowhere.yaml: cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_in_train_is_one_line_and_writes_nothing(
    run: Run, model: Path, tones: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    for name in ("empty", "text"):
        (tmp_path / name).mkdir()
    (tmp_path / "text" / "a.wav").write_text("no sound")
    names = {"TONES": tones, "EMPTY": tmp_path / "empty", "TEXT": tmp_path / "text"}
    names |= {"OUT": tmp_path / "out", "MODEL": model}
    for name, path in names.items():
        arguments, message = (text.replace(name, str(path)) for text in (arguments, message))
    answer = run("train", *arguments.split())
    assert (answer.code, answer.out) == (2, "")
    lines = [line for line in answer.err.splitlines() if not line.startswith("corpus: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_not_finite_is_one_line_and_exit_code_2(
    run: Run, tones: Path, tmp_path: Path
) -> None:
    wild = ("--learning_rate=1e30", "--gradient_clip=0", "--max_steps=20")
    answer = run(*train_arguments(tones, tmp_path, *wild))
    assert answer.code == 2
    last = answer.err.splitlines()[-1]
    assert last.startswith("wavenet train: the loss is ")
    assert "the last good model is kept. Lower learning_rate=1e+30" in last
    assert "Traceback" not in answer.err
    assert wavenet.load(tmp_path / "model").sample_rate == RATE


def test_a_folder_that_holds_a_model_is_one_line(run: Run, tones: Path, tmp_path: Path) -> None:
    wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")).save(tmp_path / "model")
    line = run.mistake(*train_arguments(tones, tmp_path))
    assert f"out='{tmp_path}' already holds a model; choose another folder" in line


# --- the process ---


@pytest.mark.parametrize("arguments", [["sing"], ["--colour"], ["info"], ["info", "a", "b"]])
def test_arguments_of_no_command_are_one_line(run: Run, arguments: list[str]) -> None:
    assert "see wavenet" in run.mistake(*arguments)


def test_no_arguments_at_all_are_answered_with_the_help_and_exit_code_2(run: Run) -> None:
    answer = run()
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("usage: wavenet")
    assert all(f"    {name}" in answer.err for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["generate", "--help"], ["train", "--help"]])
def test_help_is_given(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: wavenet")


def test_messages_are_not_shown_once_a_command_has_ended(run: Run, model: Path) -> None:
    logger = logging.getLogger("wavenet")
    before = (logger.level, list(logger.handlers))
    run("info", model)
    assert (logger.level, logger.handlers) == before


def test_a_warning_is_one_line_without_the_code_that_gave_it(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "has_compiler", lambda: False)
    cpu.warn_without_compiler.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        answer = run("generate", tmp_path / "a.wav", "--model", model, "--seconds", "0.01")
    assert answer.code == 0
    assert answer.err == (
        "wavenet generate: numba is missing, so the slow eager engine serves; pip install "
        "'wavenet-audio[audio]'\n"
    )


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes, please")],
)
def test_a_shortage_of_memory_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(options: object) -> str:
        raise error

    monkeypatch.setattr(info, "run", fail)
    assert "wavenet info: there is not enough memory for this" in run.mistake("info", "model")


def wavenet_process(*arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "wavenet", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk without space")
def test_standard_output_on_a_full_disk_is_one_line(model: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = wavenet_process("info", model, stdout=full)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 2
    assert messages.decode().splitlines() == ["wavenet info: [Errno 28] No space left on device"]


def test_a_listener_that_leaves_ends_the_stream_without_a_word(model: Path) -> None:
    options = ("--seconds", "1000", "--engine", "eager")
    process = wavenet_process("generate", "-", "--model", model, *options, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert len(process.stdout.read(100)) == 100
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_on_a_terminal_keeps_the_model(tones: Path, tmp_path: Path, workers: int) -> None:
    """A terminal sends the signal to the whole process group, data loaders included."""
    options = ("--max_steps=100000", "--validate_every=2", f"--workers={workers}")
    process = wavenet_process(
        *train_arguments(tones, tmp_path, *options), stdout=subprocess.PIPE, start_new_session=True
    )
    settings = tmp_path / "model" / "config.json"
    deadline = time.monotonic() + 120
    while not settings.exists() or json.loads(settings.read_text())["provenance"]["steps"] < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    printed, messages = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in messages
    *_, ended, where = printed.splitlines()
    steps = json.loads(settings.read_text())["provenance"]["steps"]
    assert steps >= 4
    assert ended.startswith(f"interrupted after {steps} steps: ")
    assert where == f"model: {tmp_path}/model"
    assert wavenet.load(tmp_path / "model").sample_rate == RATE
