"""Invalid arguments: each is one line on standard error and exit code 2."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet.cli.main import COMMANDS, main
from wavenet.cli.options import LARGEST_INTEGER
from wavenet.nam import NamWaveNet, preset, write_nam
from wavenet.values.text import printable

RATE = 8000
SMALL = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 4, "skip_channels": 4}
MEL = {"sample_rate": RATE, "n_fft": 256, "win_samples": 200, "hop_samples": 80, "n_mels": 10}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, sounds and things that are neither, under the names that the table gives them."""
    folder = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    for name, settings in {"plain": {}, "mels": {"mel": {**MEL, "f_max_hz": 4000.0}}}.items():
        config = wavenet.WaveNetConfig.from_dict({"sample_rate": RATE, **SMALL, **settings})
        wavenet.WaveNet(config).save(folder / name)
    write_nam(folder / "amp.nam", NamWaveNet(preset("nano")).eval())
    soundfile.write(folder / "in.wav", np.sin(np.arange(800) / 9) / 2, RATE)
    (folder / "tones").mkdir()
    soundfile.write(folder / "tones" / "a.wav", np.sin(np.arange(800) / 9) / 2, RATE)
    for name in ("empty.wav", "empty.nam", "empty.npz", "empty.pth", "empty.json", "empty.csv"):
        (folder / name).touch()
    for name in ("nothing", "folder.wav", "folder.nam", "folder.npz"):
        (folder / name).mkdir()
    (folder / "text.wav").write_text("no sound")
    return folder


LONG = "9" * 5000
INTEGERS = ("", " 3", "three", "1e3", "1.5", "nan", "inf", "0x10", "1_0", "٣", LONG)
INTEGERS += (str(10**30), str(LARGEST_INTEGER + 1))
NUMBERS = ("", " 3", "three", "0x10", "1_0", "٣", "1e", "1,5")

OPTIONS_OF_INTEGERS = (
    "generate a.wav --seed",
    "generate a.wav --refine",
    "vocode in.wav a.wav --seed",
    "vocode in.wav a.wav --refine",
    "vocode tones out --batch-size",
    "process in.wav a.wav --model amp.nam --chunk",
    "evaluate mels tones --out out --utterances",
    "evaluate mels tones --out out --page-utterances",
    "evaluate mels tones --out out --seed",
    "receptive-field --layers",
    "receptive-field --layers 3 --stacks",
    "receptive-field --layers 3 --kernel-size",
    "receptive-field --layers 3 --sample-rate",
    "receptive-field --target-ms 9 --sample-rate 16000 --max-parameters",
    "receptive-field --target-ms 9 --sample-rate 16000 --residual-channels",
    "bench sample --rounds",
    "bench sample --threads",
    "bench sample --batch",
    "bench sample --samples",
    "bench train --batch-size",
    "bench process --rounds",
    "shard tones out --sample-rate",
    "shard tones out --shard-mib",
)
MAY_BE_ZERO = [
    each
    for each in OPTIONS_OF_INTEGERS
    if each.endswith(("--seed", "--page-utterances", "--refine"))
]
OPTIONS_OF_NUMBERS = (
    "generate a.wav --seconds",
    "generate a.wav --temperature",
    "generate a.wav --top-p",
    "vocode in.wav a.wav --temperature",
    "evaluate mels tones --out out --temperature",
    "evaluate mels tones --out out --top-p",
    "receptive-field --sample-rate 16000 --target-ms",
    "bench sample --seconds",
    "bench train --window-s",
    "doctor --out out --device cpu --minutes",
    "shard tones out --trim-silence",
)

TABLE = [
    # Numbers below all that make sense.
    *((f"{option}=-1", "") for option in OPTIONS_OF_INTEGERS),
    *((f"{option}=0", "") for option in OPTIONS_OF_INTEGERS if option not in MAY_BE_ZERO),
    # Lengths, sizes and counts without end.
    ("generate a.wav --seconds 1e30", "1e+30 must be at most 1e+09"),
    ("generate a.wav --model plain --seconds 1e400", "must be a positive number of seconds"),
    ("generate a.wav --model plain --seconds nan", "must be a positive number of seconds"),
    ("generate a.wav --model plain --temperature inf --seconds 0.01", "temperature must be"),
    ("bench sample --seconds 1e308", "1e+308 must be at most 10000"),
    ("bench sample --seconds inf", "--seconds=inf must be a positive number of seconds"),
    ("bench train --window-s 1e308", "1e+308 must be at most 10000"),
    ("receptive-field --target-ms 1e308 --sample-rate 16000", "must be at most 1e+09"),
    ("receptive-field --target-ms nan --sample-rate 16000", "target_ms=nan must be"),
    ("receptive-field --layers 63", "63 must be at most 62"),
    (f"receptive-field --dilations {LONG}", "9...' must be integers with commas"),
    ("receptive-field --dilations 1,9000000000000", "has 9000000000000; give at most"),
    ("receptive-field torch.nn:ReLU --input-shape 9999,9999,9999999", "is too large; shorten"),
    ("receptive-field torch.nn:ReLU --input-shape 1,٣", "must be integers with commas"),
    # Names that nothing has, or that are of the wrong kind.
    ("generate a.wav --model nothing", "nothing holds no config.json"),
    ("generate a.wav --model plain --device meta", "--device=meta: models run on cpu, cuda,"),
    ("generate a.wav --model plain --device mps", "--device=mps: found 0 MPS devices here"),
    ("generate a.wav --model plain --device xpu", "--device=xpu: found 0 XPU devices here"),
    ("generate a.wav --model plain --device cuda:7", "--device=cuda:7: found "),
    ("generate a.wav --model plain --device cpu:3", "--device=cpu:3: found 1 CPU here"),
    ("generate a.wav --model plain --device nonsense", "--device='nonsense' is no device"),
    ("vocode in.wav a.wav --model mels --device mps", "--device=mps: found 0 MPS devices here"),
    ("bench train --device meta", "--device=meta: models run on cpu, cuda, mps, xpu"),
    ("generate a.wav --model amp.nam", "amp.nam is a network of Neural Amp Modeler, which"),
    ("vocode in.wav a.wav --model amp.nam", "run it with wavenet process"),
    ("evaluate amp.nam tones --out out", "run it with wavenet process"),
    ("export plain a.nam", "plain has architecture 'wavenet', which generates"),
    ("export plain a.xyz", "a.xyz ends in .xyz; name a file that ends in .nam, .onnx, .pt2"),
    ("process in.wav a.wav --model standard", "standard holds no config.json"),
    ("process in.wav a.wav --model plain", "plain has architecture 'wavenet', which generates"),
    ("process nowhere.wav a.wav --model amp.nam", "nowhere.wav: cannot be read: No such file"),
    ("process folder.wav a.wav --model amp.nam", "folder.wav: cannot be read: Is a directory"),
    ("process tones out --model amp.nam", "tones: cannot be read: Is a directory; name an audio"),
    ("process in.wav folder.wav --model amp.nam", "Is a directory; name a file inside that"),
    ("process in.wav a.mp3 --model amp.nam", "a.mp3: unknown extension '.mp3'"),
    ("info empty.nam", "empty.nam: is no usable JSON"),
    ("info folder.nam", "folder.nam holds no config.json"),
    ("info nowhere.nam", "nowhere.nam: cannot be read: No such file or directory"),
    ("info in.wav", "in.wav holds no config.json"),
    ("import empty.nam out", "empty.nam: is no usable JSON"),
    ("import empty.pth out", "empty.pth"),
    ("import amp.nam in.wav", "a part of the path is a file, not a folder"),
    ("import amp.nam out --hparams empty.json", "--hparams belongs to a .pth file"),
    ("import empty.pth out --submodel x", "--submodel belongs to a .nam file"),
    ("import in.wav out", "in.wav ends in .wav; name a file that ends in .nam, .pt, .pth"),
    ("mel empty.wav a.npz --model mels", "empty.wav: the file is empty"),
    ("mel text.wav a.npz --model mels", "text.wav: not an audio file"),
    ("mel tones out --model mels", "tones: cannot be read: Is a directory; name an audio file in"),
    ("mel in.wav folder.npz --model mels", "Is a directory"),
    ("mel in.wav a.npz --mel-config empty.json", "empty.json"),
    ("vocode empty.npz a.wav --model mels", "empty.npz: no mel that can be read"),
    ("inspect nothing", "holds no audio file"),
    ("inspect empty.csv", "empty.csv"),
    ("evaluate mels nothing --out out", "holds no audio file"),
    ("evaluate mels tones --out in.wav", "--out=in.wav is a file"),
    ("receptive-field os:getcwd", "os:getcwd: gives a str, not a torch.nn.Module"),
    ("receptive-field sys:exit", "sys:exit: cannot be made without arguments: SystemExit"),
    ("receptive-field nowhere:x", "nowhere:x: cannot be imported: No module named"),
    ("receptive-field --layers 3 --plot a.xyz", "a.xyz: unknown image format; use a name that"),
    ("train --corpus tones --out out --colour red", "unrecognized arguments: --colour red"),
    # Words that are no command's.
    ("sing", "invalid choice: 'sing'"),
    ("generate a.wav --sede 3", "unrecognized arguments: --sede 3; see wavenet generate --help"),
    ("generate a.wav --seed", "argument --seed: expected one argument; see wavenet gen"),
    ("bench", "the following arguments are required: MEASURE"),
]  # fmt: skip


def mistake(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The line that a command answers with; it must be the only one, and show no control code."""
    capfd.readouterr()
    code = main(arguments)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    line = err.removesuffix("\n")
    assert line.startswith("wavenet")
    assert line == printable(line)
    assert len(line) < 600
    return line


@pytest.mark.parametrize(("arguments", "message"), TABLE, ids=[each[:60] for each, _ in TABLE])
def test_a_mistake_is_one_line_and_writes_nothing(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: Path,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(place)
    before = sorted(os.listdir(place))
    assert message in mistake(capfd, *arguments.split())
    assert sorted(os.listdir(place)) == before


@pytest.mark.parametrize("option", OPTIONS_OF_INTEGERS)
def test_an_integer_is_ascii_digits_of_at_most_64_bits(
    capfd: pytest.CaptureFixture[str], option: str
) -> None:
    *others, name = option.split()
    for value in INTEGERS:
        line = mistake(capfd, *others, f"{name}={value}")
        assert f"argument {name}: " in line
        assert "invalid int value" in line or "64 bits" in line


@pytest.mark.parametrize("option", OPTIONS_OF_NUMBERS)
def test_a_number_is_ascii_digits(capfd: pytest.CaptureFixture[str], option: str) -> None:
    *others, name = option.split()
    for value in NUMBERS:
        assert f"argument {name}: invalid float value: " in mistake(
            capfd, *others, f"{name}={value}"
        )


NAMES = (
    "generate NAME",
    "generate a.wav --model NAME",
    "generate a.wav --prime NAME",
    "generate a.wav --mel-from NAME",
    "vocode NAME a.wav",
    "vocode in.wav NAME",
    "vocode in.wav a.wav --mel-config NAME",
    "mel NAME a.npz",
    "mel in.wav NAME",
    "mel in.wav a.npz --model NAME",
    "process NAME a.wav --model amp.nam",
    "process in.wav NAME --model amp.nam",
    "process in.wav a.wav --model NAME",
    "info NAME",
    "inspect NAME",
    "shard NAME out",
    "shard tones NAME",
    "inspect YESNO --corpus-root NAME",
    "evaluate NAME tones --out out",
    "evaluate mels NAME --out out",
    "evaluate mels tones --out NAME",
    "import NAME out",
    "import amp.nam NAME",
    "export NAME a.nam",
    "export amp.nam NAME",
    "receptive-field NAME",
    "receptive-field plain --effective NAME",
    "receptive-field --layers 3 --plot NAME",
    "bench sample --model NAME",
    "bench process --model NAME",
)


@pytest.mark.parametrize("form", NAMES)
def test_an_empty_name_never_stands_for_the_current_folder(
    capfd: pytest.CaptureFixture[str], form: str
) -> None:
    """An unset variable of a shell gives one: vocode would have vocoded all that is there."""
    assert "the name is empty" in mistake(capfd, *("" if w == "NAME" else w for w in form.split()))


@pytest.mark.parametrize("form", NAMES)
def test_a_name_with_a_nul_is_one_line(capfd: pytest.CaptureFixture[str], form: str) -> None:
    given = ("a\0b.wav" if word == "NAME" else word for word in form.split())
    assert r"'a\x00b.wav' holds a NUL" in mistake(capfd, *given)


def test_audio_whose_name_is_not_utf8_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff.wav")
    for form in ("generate a.wav --prime", "mel", "process", "receptive-field plain --effective"):
        line = mistake(capfd, *form.split(), name, *(["a.npz"] if form == "mel" else []))
        assert r"\udcff.wav': the name is not UTF-8; rename the file" in line


@pytest.mark.parametrize("name", [*COMMANDS, "bench sample", "bench train", "bench process"])
def test_an_unknown_option_of_a_command_is_one_line(
    capfd: pytest.CaptureFixture[str], name: str
) -> None:
    assert mistake(capfd, *name.split(), "--colour\x1b[31m", "red").startswith("wavenet")


def test_control_characters_never_reach_the_terminal(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    evil = "\x1b]0;title\x07\x9b31m\u202eline\nbreak\r.wav"
    for arguments in (
        ("info", evil),
        ("info", f"{evil}.nam"),
        ("inspect", evil),
        ("shard", evil, "out"),
        ("generate", "a.wav", "--model", evil),
        ("generate", f"{evil}/a.mp3"),
        ("vocode", evil, "a.wav"),
        ("mel", evil, "a.npz", "--mel-config", "wavenet-16k"),
        ("receptive-field", evil),
        ("import", evil, "out"),
        (evil,),
    ):
        assert "\\x1b" in mistake(capfd, *arguments)


def test_what_a_checkpoint_says_of_itself_is_printed_without_control_characters(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = wavenet.WaveNetConfig.from_dict({"sample_rate": RATE, **SMALL})
    provenance = {"corpus": {"a\x1b[2Jb": "\x1b[31mred\nnext line"}}
    wavenet.WaveNet(config).save(tmp_path, provenance=provenance)
    assert main(["info", str(tmp_path)]) == 0
    out = capfd.readouterr().out
    assert "    a\\x1b[2Jb: \\x1b[31mred\\nnext line" in out.splitlines()
    assert out == "".join(f"{printable(line)}\n" for line in out.splitlines())
