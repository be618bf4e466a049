"""wavenet vocode and wavenet mel: what they write, print and refuse."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet.audio import read_audio
from wavenet.cli.main import main
from wavenet.generation import SamplingOptions, rows
from wavenet.generation import vocode_files as files
from wavenet.generation.vocode_files import Job, vocode_files
from wavenet.storage import pretrained as voices

Limit = Callable[[int], AbstractContextManager[None]]

RATE = 8000
MEL = {"sample_rate": RATE, "n_fft": 256, "win_samples": 200, "hop_samples": 80, "n_mels": 10}
STEP = 1.01 / 32768
"""A 16-bit file holds no 1.0, and rounds by half a step."""


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def command(*arguments: str | Path) -> Answer:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capfd.readouterr())

    return command


def save_model(folder: Path, **settings: object) -> Path:
    torch.manual_seed(0)
    small = {"layers_per_stack": 2, "stacks": 1, "residual_channels": 8, "skip_channels": 8}
    given = {"sample_rate": RATE, **small, "distribution": "logistic_mixture", **settings}
    wavenet.WaveNet(wavenet.WaveNetConfig.from_dict(given)).save(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("mel"), mel={**MEL, "f_max_hz": 4000.0})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("plain"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_noise(path: Path, n_samples: int = 1000, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(n_samples).normal(0, 0.2, (n_samples, channels))
    soundfile.write(path, noise, rate)
    return path


# --- one file ---


def test_vocode_is_generate_from_the_files_mel_and_as_long_as_the_file(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    write_noise(place / "in.wav", 22_050)  # more than a block of frames
    answer = run("vocode", "in.wav", "new/out.wav", "--model", model, "--seed", "3")
    assert (answer.code, answer.out) == (0, "new/out.wav: 2.756 s at 8000 Hz\n")
    assert answer.err.endswith(" x real time\n")
    assert " samples/s, " in answer.err
    loaded = wavenet.load(model)
    assert loaded.config.mel is not None
    mel = wavenet.log_mel(read_audio("in.wav")[0], loaded.config.mel, loaded.mel_filterbank)
    direct = wavenet.generate(loaded, mel=mel, seed=3, n_samples=22_050)
    torch.testing.assert_close(read_audio("new/out.wav")[0], direct[0], atol=STEP, rtol=0)


def test_refine_sets_the_passes_and_0_leaves_the_networks_own_samples(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    write_noise(place / "in.wav", 4_000)
    loaded = wavenet.load(model)
    assert loaded.config.mel is not None
    mel = wavenet.log_mel(read_audio("in.wav")[0], loaded.config.mel, loaded.mel_filterbank)
    for passes in (0, 2):
        options = ("--model", model, "--seed", "3", "--refine", passes)
        assert run("vocode", "in.wav", "vocoded.wav", *options).code == 0
        assert run("generate", "generated.wav", "--mel-from", "in.wav", *options).code == 0
        direct = wavenet.generate(loaded, mel=mel, seed=3, n_samples=4_000, refine=passes)
        vocoded = read_audio("vocoded.wav")[0]
        torch.testing.assert_close(vocoded, direct[0], atol=STEP, rtol=0)
        assert torch.equal(vocoded, read_audio("generated.wav")[0])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("vocode", "in.wav", "out.wav", "--refine", "-1"), "refine=-1 must be a number of passes"),
        (("generate", "out.wav", "--refine", "2"), "refine=2 needs a mel"),
    ],
)
def test_a_refinement_that_cannot_be_is_refused_in_one_line(
    run: Callable[..., Answer],
    model: Path,
    plain: Path,
    place: Path,
    arguments: tuple[str, ...],
    reason: str,
) -> None:
    write_noise(place / "in.wav", 2_000)
    answer = run(*arguments, "--model", model if "vocode" in arguments else plain)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert reason in answer.err
    assert not (place / "out.wav").exists()


def test_segments_and_blocks_cut_where_they_like_give_the_same_file(
    run: Callable[..., Answer], model: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_noise(place / "in.wav", 44_100, 16_000, 2)
    run("vocode", "in.wav", "a.wav", "--model", model)
    monkeypatch.setattr(rows.Row, "ready", property(lambda row: min(row.known.shape[1] - 2, 7)))
    run("vocode", "in.wav", "b.wav", "--model", model)
    assert (place / "a.wav").read_bytes() == (place / "b.wav").read_bytes()


@pytest.mark.parametrize(
    ("n_samples", "rate", "channels", "expected"),
    [(1, 8000, 1, 1), (1, 4000, 1, 2), (4410, 44_100, 2, 800), (1600, 16_000, 6, 800)],
)
def test_any_rate_and_number_of_channels_is_spoken_at_the_models(
    run: Callable[..., Answer],
    model: Path,
    place: Path,
    n_samples: int,
    rate: int,
    channels: int,
    expected: int,
) -> None:
    write_noise(place / "in.wav", n_samples, rate, channels)
    assert run("vocode", "in.wav", "out.flac", "--model", model).code == 0
    found = soundfile.info("out.flac")
    assert (found.samplerate, found.channels, found.frames) == (RATE, 1, expected)


def test_a_mel_of_wavenet_mel_is_spoken_as_the_audio_itself(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    write_noise(place / "in.wav", 22_051, 11_025)
    answer = run("mel", "in.wav", "in.npz", "--model", model)
    assert answer == (0, "in.npz: 10 bands x 201 frames, 2.000 s at 8000 Hz\n", "")
    run("vocode", "in.wav", "a.wav", "--model", model)
    run("vocode", "in.npz", "b.wav", "--model", model)
    run("generate", "c.wav", "--mel-from", "in.npz", "--model", model)
    assert (place / "a.wav").read_bytes() == (place / "b.wav").read_bytes()
    assert (place / "a.wav").read_bytes() == (place / "c.wav").read_bytes()


def test_a_bare_array_needs_its_settings(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    write_noise(place / "in.wav")
    run("mel", "in.wav", "in.npz", "--model", model)
    with np.load("in.npz") as content:
        np.save("in.npy", content["mel"])
        (place / "mine.json").write_text(str(content["config"]))
    assert (
        "a bare .npy has no mel settings" in run("vocode", "in.npy", "a.wav", "--model", model).err
    )
    assert run("vocode", "in.npy", "a.wav", "--model", model, "--mel-config", "mine.json").code == 0
    assert len(read_audio("a.wav")[0]) == 13 * 80  # whole frames: its length is unknown


# --- a folder ---


def test_a_folder_is_spoken_file_by_file_as_each_alone(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    lengths = {"a.wav": 900, "b/c.flac": 30_000, "b/d.wav": 1, "e.ogg": 2000, ".hidden/f.wav": 9}
    for name, n_samples in lengths.items():
        write_noise(place / "in" / name, n_samples)
    run("mel", "in/a.wav", "in/g.npz", "--model", model)
    answer = run("vocode", "in", "out", "--model", model, "--batch-size", "2")
    assert (answer.code, answer.out) == (0, "out: 4.225 s at 8000 Hz in 5 files\n")
    made = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.*"))
    assert made == ["a.wav", "b/c.wav", "b/d.wav", "e.wav", "g.wav"]
    for name in ("a.wav", "b/c.flac", "b/d.wav", "g.npz"):
        run("vocode", Path("in") / name, "alone.wav", "--model", model)
        together = (place / "out" / name).with_suffix(".wav")
        assert together.read_bytes() == (place / "alone.wav").read_bytes()


def test_shards_of_a_folder_are_its_files_with_the_same_bytes(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    for name in ("a.wav", "b.wav", "c/d.wav"):
        write_noise(place / "in" / name)
    run("vocode", "in", "whole", "--model", model)
    counts = []
    for part in range(1, 5):
        answer = run("vocode", "in", "shared", "--model", model, "--shard", f"{part}/4")
        assert answer.code == 0
        counts.append(int(answer.out.split()[-2]))
    assert counts == [1, 1, 1, 0]
    for name in ("a.wav", "b.wav", "c/d.wav"):
        assert (place / "shared" / name).read_bytes() == (place / "whole" / name).read_bytes()


def test_a_file_that_cannot_be_used_is_one_line_and_the_others_are_written(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    write_noise(place / "in" / "good.wav")
    write_noise(place / "in" / "same.wav")
    write_noise(place / "in" / "same.flac")
    write_noise(place / "in" / "short.wav", 1, 48_000)
    (place / "in" / "empty.wav").write_bytes(b"")
    (place / "in" / "text.wav").write_text("no sound")
    soundfile.write(place / "in" / "nan.wav", np.full(9, np.nan), RATE, subtype="FLOAT")
    (place / "in" / os.fsdecode(b"\xff.wav")).write_bytes((place / "in/good.wav").read_bytes())
    answer = run("vocode", "in", "out", "--model", model)
    assert (answer.code, answer.out) == (2, "out: 0.250 s at 8000 Hz in 2 files\n")
    *left_out, speed = answer.err.splitlines()
    assert "x real time" in speed
    assert len(left_out) == 6
    assert all(line.startswith("left out: ") for line in left_out)
    for part in (
        "same.wav: out/same.wav is already that of in/same.flac",
        "short.wav: 1 samples at 48000 Hz are less than one at 8000 Hz",
        "empty.wav: the file is empty",
        "text.wav: not an audio file",
        "nan.wav: sample 0 is nan",
        "udcff.wav': the name is not UTF-8",
    ):
        assert sum(part in line for line in left_out) == 1, part
    assert sorted(os.listdir("out")) == ["good.wav", "same.wav"]


def test_one_file_that_cannot_be_written_does_not_keep_the_others_back(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    for name in ("a.wav", "b/c.wav", "d.wav"):
        write_noise(place / "in" / name)
    (place / "out").mkdir()
    (place / "out" / "b").write_text("a file where a folder should be")
    answer = run("vocode", "in", "out", "--model", model)
    assert (answer.code, answer.out) == (2, "out: 0.250 s at 8000 Hz in 2 files\n")
    assert "left out: out/b/c.wav: nothing was written: File exists" in answer.err
    assert sorted(os.listdir("out")) == ["a.wav", "b", "d.wav"]


def test_an_output_folder_inside_is_not_read(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    write_noise(place / "in" / "a.wav")
    for _ in range(2):
        assert run("vocode", "in", "in/out", "--model", model).code == 0
    assert os.listdir("in/out") == ["a.wav"]


def test_folders_are_compared_by_where_they_are_not_by_their_spelling(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    write_noise(place / "wavs" / "a.wav")
    (place / "link").symlink_to("wavs")
    assert run("vocode", "wavs", ".", "--model", model).code == 0
    assert sorted(os.listdir(".")) == ["a.wav", "link", "wavs"]
    for out in ("wavs/out", place / "wavs" / "out", "link/out", "wavs/../wavs/out"):
        answer = run("vocode", "wavs", out, "--model", model)
        assert answer.out == f"{out}: 0.125 s at 8000 Hz in 1 files\n"
    assert os.listdir("wavs/out") == ["a.wav"]
    assert "would be written over" in run("vocode", "wavs", "link", "--model", model).err


def test_no_file_of_a_folder_is_written_over(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    content = write_noise(place / "wavs" / "a.wav").read_bytes()
    write_noise(place / "wavs" / "wavs" / "a.wav", 900)
    write_noise(place / "wavs" / "b.wav")
    answer = run("vocode", "wavs", ".", "--model", model)
    assert (answer.code, answer.out) == (2, ".: 0.250 s at 8000 Hz in 2 files\n")
    assert "left out: wavs/wavs/a.wav: wavs/a.wav would be written over" in answer.err
    assert (place / "wavs" / "a.wav").read_bytes() == content


def test_bare_mels_of_a_folder_are_spoken_with_mel_config_and_else_reported(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    write_noise(place / "in" / "a.wav")
    config = wavenet.load(model).config.mel
    assert config is not None
    mel = wavenet.log_mel(read_audio("in/a.wav")[0], config)
    np.save(place / "in" / "b.npy", mel.numpy())
    (place / "mel.json").write_text(json.dumps(config.to_dict()))
    without = run("vocode", "in", "out", "--model", model)
    assert (without.code, sorted(os.listdir("out"))) == (0, ["a.wav"])
    assert "passed over: 1 .npy files in in; --mel-config makes mels of them" in without.err
    with_config = run("vocode", "in", "out", "--model", model, "--mel-config", "mel.json")
    assert (with_config.code, sorted(os.listdir("out"))) == (0, ["a.wav", "b.wav"])


def test_a_mel_in_another_unit_is_one_line_that_guesses_it(
    run: Callable[..., Answer], model: Path, place: Path
) -> None:
    config = wavenet.load(model).config.mel
    assert config is not None
    mel = wavenet.log_mel(0.1 * torch.randn(1000), config)
    mel[:, :3] = math.log(config.floor)
    np.savez("a.npz", mel=8.685889638 * mel.numpy(), config=json.dumps(config.to_dict()))
    answer = run("vocode", "a.npz", "a.wav", "--model", model)
    warning, _speed = answer.err.splitlines()
    assert warning.startswith("a.npz: values from -100 to ")
    assert warning.endswith("decibels? multiply by 0.115129 for natural logarithms")


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("vocode in.wav", "a.wav"),
        ("generate --mel-from in.wav", "a.ogg"),
        ("generate --mel-from in.wav", "-"),
    ],
)
def test_samples_that_are_not_finite_are_refused_and_not_written_as_silence(
    run: Callable[..., Answer], model: Path, place: Path, command: str, out: str
) -> None:
    broken = wavenet.load(model)
    with torch.no_grad():
        broken.frame_encoder.projection.weight.fill_(3e38)
    broken.save(place / "broken")
    write_noise(place / "in.wav")
    name, *given = command.split()
    answer = run(name, *given, out, "--model", "broken", "--engine", "eager")
    assert (answer.code, answer.out) == (2, "")
    (line,) = answer.err.splitlines()
    assert line.startswith(f"wavenet {name}: {out}: ")
    assert "samples are NaN or infinite; check what made them" in line
    assert sorted(os.listdir(place)) == ["broken", "in.wav"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_keeps_the_one_file_and_no_parts_of_many(
    model: Path, place: Path, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    loaded = wavenet.load(model)
    sources = [write_noise(place / f"{name}.wav", 80 * 400) for name in "ab"]
    sources.append(write_noise(place / "c.wav", 33_000))

    def vocode(names: str) -> None:
        made = 0

        def progress(n: int, total: int) -> None:
            nonlocal made
            made += n
            if made > 70_000 or (len(names) == 1 and made > 10_000):
                raise error

        jobs = [Job(place / f"{name}.wav", place / "out" / f"{name}.wav") for name in names]
        with pytest.raises(error):
            vocode_files(loaded, jobs, SamplingOptions(), batch_size=1, progress=progress)

    vocode("a")
    assert len(read_audio("out/a.wav")[0]) > 10_000
    assert caplog.messages[-1].startswith(f"interrupted: {place}/out/a.wav holds the 1.")
    (place / "out" / "a.wav").unlink()
    vocode("abc")
    assert os.listdir("out") != []
    whole = sorted(os.listdir("out"))
    assert (
        caplog.messages[-1] == "interrupted: 2 of 3 files are whole; nothing is left of the others"
    )
    assert whole == ["a.wav", "c.wav"]


def test_a_file_that_changes_while_others_are_spoken_does_not_end_them(
    run: Callable[..., Answer], model: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        write_noise(place / "in" / f"{name}.wav")
    real = files.open_source

    def spoil(path: Path, *given: Any) -> Any:
        found = real(path, *given)
        if path.name == "b.wav":
            path.write_text("gone")
        return found

    monkeypatch.setattr(files, "open_source", spoil)
    answer = run("vocode", "in", "out", "--model", model, "--batch-size", "2")
    assert (answer.code, sorted(os.listdir("out"))) == (2, ["a.wav", "c.wav"])
    assert "left out: in/b.wav: not an audio file" in answer.err


# --- mistakes ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nowhere.wav a.wav --model MEL", "nowhere.wav: cannot be read: No such file or directory"),
        ("empty.wav a.wav --model MEL", "empty.wav: the file is empty (0 bytes)"),
        ("nan.wav a.wav --model MEL", "nan.wav: sample 3 is nan; repair the file"),
        ("text.wav a.wav --model MEL", "text.wav: not an audio file that can be read"),
        ("other.npz a.wav --model MEL", "other.npz: mel settings differ: sample_rate=8000 in the"),
        ("nowhere out --model MEL", "nowhere: cannot be read: No such file or directory; check"),
        ("nowhere.npz a.wav --model MEL", "nowhere.npz: cannot be read: No such file"),
        ("good.wav a.mp3 --model MEL", "a.mp3: unknown extension '.mp3'; use one of .wav"),
        ("good.wav folder --model MEL", "folder is a folder; name a file inside it, such as folde"),
        ("good.wav good.wav --model MEL", "good.wav would be written over; name another file"),
        ("good.wav text.wav/a.wav --model MEL", "a part of the path is a file, not a folder"),
        ("good.wav a.wav --model PLAIN", "PLAIN takes no mel; choose a mel-conditioned model"),
        ("good.wav a.wav --model nowhere", "nowhere holds no config.json; name the folder that"),
        ("good.wav a.wav", "the voice prompts-16k is not in this version of the package"),
        ("good.wav a.wav --model MEL --temperature 0", "temperature must be above 0"),
        ("good.wav a.wav --model MEL --top-p 0.5", "top_p"),
        ("good.wav a.wav --model MEL --seed -1", "seed=-1 must not be negative"),
        ("good.wav a.wav --model MEL --speaker 1", "speaker=1, but this model takes no speaker"),
        ("good.wav a.wav --model MEL --engine warp", "engine='warp' is unknown"),
        ("good.wav a.wav --model MEL --weights int4", "weights='int4' is unknown"),
        ("good.wav a.wav --model MEL --mel-config x", "--mel-config=x: no such file, and unknown"),
        (
            "folder a --model MEL",
            "folder holds no file to vocode; looked for audio and for mels, .npz (and with --m",
        ),
        ("sounds sounds --model MEL", "sounds would be written over; name another folder"),
        ("sounds good.wav --model MEL", "good.wav is a file; a folder of files needs a folder to"),
        ("sounds a --model MEL --batch-size 0", "batch_size=0 must be an integer of at least 1"),
        (
            "sounds a --model MEL --shard 9/8",
            "'9/8' is no part I/N with I from 1 to N, such as 1/8",
        ),
        ("good.wav a.wav --model MEL --shard 1/2", "--shard divides the files of a folder; good"),
        ("good.wav", "the following arguments are required: OUT"),
    ],
)
def test_a_mistake_in_vocode_is_one_line_and_writes_nothing(
    run: Callable[..., Answer],
    model: Path,
    plain: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.setattr(voices, "FOLDER", place / "no-voices")
    write_noise(place / "good.wav")
    write_noise(place / "sounds" / "a.wav")
    (place / "empty.wav").write_bytes(b"")
    (place / "text.wav").write_text("no sound")
    (place / "folder").mkdir()
    samples = np.zeros(9)
    samples[3] = np.nan
    soundfile.write(place / "nan.wav", samples, RATE, subtype="FLOAT")
    run("mel", "good.wav", "other.npz", "--mel-config", "wavenet-16k")
    before = sorted(place.rglob("*"))
    for name, path in {"MEL": model, "PLAIN": plain}.items():
        arguments, message = (text.replace(name, str(path)) for text in (arguments, message))
    answer = run("vocode", *arguments.split())
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert answer.err.startswith("wavenet")
    assert message in answer.err
    assert sorted(place.rglob("*")) == before


def test_a_full_disk_is_one_line_and_nothing_half_written(
    run: Callable[..., Answer], model: Path, place: Path, files_of_at_most: Limit
) -> None:
    write_noise(place / "in.wav", 40_000)
    with files_of_at_most(10_000):
        answer = run("vocode", "in.wav", "out.wav", "--model", model)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("wavenet vocode: out.wav: nothing was written: File too large; ")
    assert len(answer.err.splitlines()) == 1
    assert os.listdir(place) == ["in.wav"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("good.wav a.npy --mel-config hifigan", "a.npy: a mel file ends in .npz; rename it"),
        ("nowhere.wav a.npz --mel-config hifigan", "nowhere.wav: cannot be read: No such file"),
        ("good.wav a.npz --mel-config x", "--mel-config=x: no such file, and unknown mel preset"),
        ("good.wav a.npz --mel-config hifigan --model MEL", "not allowed with argument"),
        ("good.wav a.npz --model PLAIN", "PLAIN takes no mel; give --mel-config, such as waven"),
        ("good.wav a.npz", "the voice prompts-16k is not in this version of the package"),
    ],
)
def test_a_mistake_in_mel_is_one_line_and_writes_nothing(
    run: Callable[..., Answer],
    model: Path,
    plain: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.setattr(voices, "FOLDER", place / "no-voices")
    write_noise(place / "good.wav")
    for name, path in {"MEL": model, "PLAIN": plain}.items():
        arguments, message = (text.replace(name, str(path)) for text in (arguments, message))
    answer = run("mel", *arguments.split())
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert message in answer.err
    assert os.listdir(place) == ["good.wav"]


# --- memory ---

GROWTH = """
import sys
from peak_memory import peak_kib
from wavenet.cli.main import main

model, short, long = sys.argv[1:]
options = ["--model", model, "--engine", "cpu"]
assert main(["vocode", short, "a.wav", *options]) == 0
assert main(["mel", short, "a.npz", "--model", model]) == 0
before = peak_kib()
assert main(["vocode", long, "a.wav", *options]) == 0
assert main(["mel", long, "a.npz", "--model", model]) == 0
assert main(["vocode", "a.npz", "b.wav", *options]) == 0
print((peak_kib() - before) / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_file(model: Path, place: Path) -> None:
    pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    write_noise(place / "short.wav", 30 * RATE, channels=2)
    write_noise(place / "long.wav", 4 * 60 * RATE, channels=2)
    command = [sys.executable, "-c", GROWTH, str(model), "short.wav", "long.wav"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout.splitlines()[-1]) < 4  # MB; both channels are 15, the sum 8
