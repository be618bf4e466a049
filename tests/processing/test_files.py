"""``wavenet process``: a network over a whole file, in chunks, at the file's own rate."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavenet.audio import AudioError, resample
from wavenet.cli.main import main
from wavenet.nam import PRESETS, NamWaveNet, preset, write_nam
from wavenet.processing import files
from wavenet.processing.files import process_file

pytest.importorskip("numba", reason="process is compiled by numba")

Limit = Callable[[int], AbstractContextManager[None]]

FLOAT32 = 1e-6
"""The compiled engine against torch, outputs of size 1."""


@pytest.fixture
def model() -> NamWaveNet:
    made = NamWaveNet(preset("nano")).eval()
    made.head_scale.fill_(1.0)
    return made


def noise(folder: Path, n: int, *, rate: int = 48000, channels: int = 1) -> Path:
    x = np.random.default_rng(0).normal(size=(n, channels)) * 0.1
    soundfile.write(folder / "in.wav", x, rate, subtype="FLOAT")
    return folder / "in.wav"


def read(path: Path) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0].T)[:, None]


@pytest.mark.parametrize("chunk", [64, 1000])
def test_every_channel_comes_out_as_the_model_answers_it_alone(
    model: NamWaveNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(files, "BLOCK", 1500)  # several blocks
    source = noise(tmp_path, 5000, channels=2)
    done = process_file(model, source, tmp_path / "out.wav", chunk=chunk)
    assert done.compiled
    assert done.duration_s == 5000 / 48000
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.frames, info.channels, info.samplerate, info.subtype) == (5000, 2, 48000, "FLOAT")
    with torch.no_grad():
        expected = model(read(source))
    assert float(expected.abs().max()) > 0.05
    torch.testing.assert_close(read(tmp_path / "out.wav"), expected, rtol=0, atol=FLOAT32)


def test_a_file_of_another_rate_is_resampled_there_and_back(
    model: NamWaveNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK", 3000)
    source = noise(tmp_path, 20_001, rate=44100)
    process_file(model, source, tmp_path / "out.wav")
    made = read(tmp_path / "out.wav")
    assert made.shape == (1, 1, 20_001)
    assert soundfile.info(tmp_path / "out.wav").samplerate == 44100
    with torch.no_grad():
        expected = resample(model(resample(read(source), 44100, 48000)), 48000, 44100)
    # At the ends the whole-file resampler pads with silence, and the network begins in it.
    torch.testing.assert_close(made[..., :20_000], expected[..., :20_000], rtol=0, atol=1e-5)


def test_memory_does_not_grow_with_the_file(model: NamWaveNet, tmp_path: Path) -> None:
    peaks = []
    for n in (1 << 17, 1 << 19):  # 4 and 16 blocks
        source = noise(tmp_path, n)
        tracemalloc.start()
        process_file(model, source, tmp_path / "out.wav", chunk=4096)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_flac_clips_above_full_scale_and_counts_the_samples(
    model: NamWaveNet, tmp_path: Path
) -> None:
    model.head_scale.fill_(100.0)
    source = noise(tmp_path, 3000)
    assert process_file(model, source, tmp_path / "out.wav").clipped == 0
    beyond = int((read(tmp_path / "out.wav").abs() > 1).sum())
    assert process_file(model, source, tmp_path / "out.flac").clipped == beyond > 0
    assert float(read(tmp_path / "out.flac").abs().max()) <= 1


def test_nothing_half_written_is_left(model: NamWaveNet, tmp_path: Path) -> None:
    source = noise(tmp_path, 3000)
    before = source.read_bytes()
    source.write_bytes(before[: len(before) // 2])
    with pytest.raises(AudioError, match="cut short"):
        process_file(model, source, tmp_path / "out.wav")
    x = np.zeros((200_000, 1), np.float32)
    x[150_000] = np.nan
    soundfile.write(source, x, 48000, subtype="FLOAT")
    with pytest.raises(AudioError, match="sample 150000 is nan; repair the file"):
        process_file(model, source, tmp_path / "out.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_full_disk_is_called_a_full_disk(
    model: NamWaveNet, tmp_path: Path, files_of_at_most: Limit
) -> None:
    source = noise(tmp_path, 100_000)
    for name in ("out.wav", "out.flac"):
        with (
            pytest.raises(AudioError, match=f"{name}: nothing was written: File too large; "),
            files_of_at_most(5000),
        ):
            process_file(model, source, tmp_path / name)
    assert os.listdir(tmp_path) == ["in.wav"]


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_what_a_model_makes_that_is_not_finite_is_refused(
    model: NamWaveNet, tmp_path: Path, suffix: str
) -> None:
    model.head_scale.fill_(torch.nan)
    with pytest.raises(AudioError, match=f"out.{suffix}: 3000 samples are NaN or infinite"):
        process_file(model, noise(tmp_path, 3000), tmp_path / f"out.{suffix}")
    assert os.listdir(tmp_path) == ["in.wav"]


def test_the_source_is_not_written_over(model: NamWaveNet, tmp_path: Path) -> None:
    source = noise(tmp_path, 3000)
    (tmp_path / "link.wav").symlink_to(source)
    content = source.read_bytes()
    for target in (source, tmp_path / "link.wav", tmp_path / "x" / ".." / "in.wav"):
        with pytest.raises(ValueError, match="would be written over; name another file"):
            process_file(model, source, target)
    assert source.read_bytes() == content


def test_an_interruption_keeps_what_is_done(
    model: NamWaveNet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, done_s = noise(tmp_path, 200_000), 0.0

    def progress(more_s: float) -> None:
        nonlocal done_s
        done_s += more_s
        if done_s > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_file(model, source, tmp_path / "part.wav", progress=progress)
    process_file(model, source, tmp_path / "whole.wav")
    part, whole = read(tmp_path / "part.wav"), read(tmp_path / "whole.wav")
    assert 96_000 < part.shape[-1] < 200_000
    assert torch.equal(part, whole[..., : part.shape[-1]])
    seconds = part.shape[-1] / 48000
    assert caplog.messages == [
        f"interrupted: {tmp_path}/part.wav holds the {seconds:.3f} s made so far"
    ]


def test_wrong_arguments_are_one_line(model: NamWaveNet, tmp_path: Path) -> None:
    source = noise(tmp_path, 100)
    with pytest.raises(AudioError, match="unknown extension '.mp3'; use one of .wav, .flac"):
        process_file(model, source, tmp_path / "out.mp3")
    with pytest.raises(ValueError, match="chunk=0 must be an integer of at least 1"):
        process_file(model, source, tmp_path / "out.wav", chunk=0)


def test_the_commands_import_export_and_process(
    model: NamWaveNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = noise(tmp_path, 48000)
    nam, folder, again = tmp_path / "amp.nam", tmp_path / "amp", tmp_path / "again.nam"
    write_nam(nam, model, {"name": "Loud"})
    assert main(["import", str(nam), str(folder)]) == 0
    assert capsys.readouterr().out == (
        f"{folder}: 'Loud', 842 weights, 48000 Hz, receptive field 85.3 ms\n"
    )
    assert main(["export", str(folder), str(again)]) == 0
    assert capsys.readouterr().out.startswith(f"{again}: 'Loud', 842 weights")
    assert json.loads(again.read_text()) == json.loads(nam.read_text())
    outs = [tmp_path / "one.wav", tmp_path / "two.wav"]
    for where, out in zip((nam, folder), outs, strict=True):
        command = ["process", str(source), str(out), "--model", str(where), "--chunk", "64"]
        assert main(command) == 0
        printed = capsys.readouterr()
        assert printed.out == f"{out}: 1.000 s\n"
        assert "x real time, compiled" in printed.err
    assert torch.equal(read(outs[0]), read(outs[1]))
    for where in (folder, nam):
        assert main(["info", str(where)]) == 0
        shown = capsys.readouterr().out
        assert "receptive field: 4093 samples = 85.271 ms" in shown
        assert "    name: Loud" in shown.splitlines()
        assert main(["receptive-field", str(where)]) == 0
        assert "4093 samples = 85.271 ms at 48000 Hz" in capsys.readouterr().out
    assert main(["export", str(nam), str(tmp_path / "copy.nam")]) == 0
    assert json.loads((tmp_path / "copy.nam").read_text()) == json.loads(nam.read_text())


def test_info_is_the_same_for_a_file_and_its_import(
    model: NamWaveNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nam(tmp_path / "amp.nam", model, {"name": "Loud"})
    assert main(["import", str(tmp_path / "amp.nam"), str(tmp_path / "amp")]) == 0
    found = []
    for name in ("amp.nam", "amp"):
        capsys.readouterr()
        assert main(["info", str(tmp_path / name), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    of_file, of_folder = found
    assert of_file["provenance"]["nam_metadata"] == of_folder["provenance"]["nam_metadata"]
    for key in ("architecture", "config", "parameters", "receptive_field_samples"):
        assert of_file[key] == of_folder[key]


@pytest.mark.parametrize("size", PRESETS)
def test_process_runs_no_untrained_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    source = noise(tmp_path, 100)
    assert main(["process", str(source), str(tmp_path / "o.wav"), "--model", size]) == 2
    assert f"{size} holds no config.json" in capsys.readouterr().err
    assert not (tmp_path / "o.wav").exists()


def test_a_model_of_the_wrong_kind_is_one_line_and_exit_code_2(
    model: NamWaveNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import wavenet

    source, folder = noise(tmp_path, 100), tmp_path / "speech"
    wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny", layers_per_stack=2)).save(folder)
    model.save(tmp_path / "amp")
    for arguments, line in (
        (["process", str(source), "o.wav", "--model", str(folder)], "answers audio with audio"),
        (["export", str(folder), "o.nam"], "answers audio with audio"),
        (["export", str(tmp_path / "amp"), "o.mp3"], "ends in .mp3; name a file that ends in .nam"),
        (["import", str(source), "folder"], "ends in .wav; name a file that ends in .nam"),
        (["generate", "o.wav", "--model", str(tmp_path / "amp")], "only that one generates"),
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert line in said, said
        assert said.count("\n") == 1


def test_bench_process_takes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "process", "--model", "nano", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sample_rate"], found["compiled"]) == (48000, True)
    assert set(found["chunks"]) == {"32", "64", "512"}
