"""``wavenet evaluate``: what it measures, writes and refuses."""

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import wavenet
from wavenet import MelConfig, WaveNet, WaveNetConfig
from wavenet.audio import read_audio
from wavenet.cli import evaluate as cli
from wavenet.cli.main import main
from wavenet.data import find_corpus
from wavenet.data.recordings import list_folder
from wavenet.evaluation.baselines import baseline_systems
from wavenet.evaluation.evaluate import Evaluation, Settings, whole_audio
from wavenet.evaluation.likelihood import file_bits
from wavenet.evaluation.metrics import CHOICES, PITCH_KEYS
from wavenet.evaluation.output import write_files
from wavenet.evaluation.report import notes_of
from wavenet.evaluation.utterances import choose

RATE = 8000
SMALL = {"layers_per_stack": 3, "stacks": 1, "residual_channels": 8, "skip_channels": 8}
MEL = MelConfig(
    sample_rate=RATE, n_fft=512, win_samples=400, hop_samples=100, n_mels=20, f_max_hz=4000
)


def save(folder: Path, *, command: str | None = None, **settings: Any) -> Path:
    provenance = None if command is None else {"command": command, "corpus": "/data/ann/corpus"}
    WaveNet(WaveNetConfig(sample_rate=RATE, **SMALL, **settings)).save(
        folder, provenance=provenance
    )
    return folder


def evaluate(*arguments: str | Path, baselines: str = "quantiser") -> int:
    given = ["evaluate", *map(str, arguments), "--baselines", baselines, "--engine", "eager"]
    return main(given)


@pytest.fixture(autouse=True)
def no_pyin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """But in slow tests: librosa compiles itself for 15 s when it first tracks a pitch."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setitem(sys.modules, "librosa", None)  # what `import` finds of a missing one


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two that can be used, of two speakers, one of them stereo; and four that cannot."""
    folder = tmp_path_factory.mktemp("recordings")
    draw = np.random.default_rng(0)
    for speaker, rate, channels in (("anna", 8000, 1), ("bert", 44100, 2)):
        (folder / speaker).mkdir()
        time_s = np.arange(round(0.12 * rate)) / rate
        tone = 0.2 * np.sign(np.sin(2 * np.pi * 150 * time_s)) + 0.01 * draw.normal(
            size=len(time_s)
        )
        soundfile.write(folder / speaker / "<b>|1.wav", np.stack([tone] * channels, 1), rate)
    soundfile.write(folder / "silent.wav", np.zeros(8000), 8000)
    (folder / "broken.flac").write_text("no audio")
    (folder / "empty.wav").touch()
    soundfile.write(folder / "tiny.wav", np.array([0.1]), 44100)  # no sample at 8 kHz
    return folder


@pytest.mark.parametrize("librosa", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_report_has_every_recording_and_says_what_was_left_out(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str], librosa: bool
) -> None:
    model = save(tmp_path / "model", mel=MEL)
    assert evaluate(model, recordings, "--out", tmp_path / "report", "--json") == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert (report["format"], report["format_version"]) == ("wavenet-evaluation", 1)
    assert [one["name"] for one in report["utterances"]] == ["anna/<b>|1.wav", "bert/<b>|1.wav"]
    assert [one["duration_s"] for one in report["utterances"]] == [0.12, 0.12]
    assert len(report["left_out"]) == 4
    for name in ("silent.wav", "broken.flac", "empty.wav", "tiny.wav"):
        assert sum(name in line for line in report["left_out"]) == 1
    assert [system["key"] for system in report["systems"]] == ["model", "network", "quantiser"]
    assert not librosa or "voicing_error_percent" in report["summary"]["quantiser"]
    audio, _ = read_audio(recordings / "anna" / "<b>|1.wav", RATE)
    found = report["utterances"][0]["scores"]["model"]
    assert found["bits_per_sample"] == pytest.approx(file_bits(wavenet.load(model), audio))
    means = report["summary"]["model"]["mcd_db"]
    values = [one["scores"]["model"]["mcd_db"] for one in report["utterances"]]
    assert means["mean"] == pytest.approx(sum(values) / 2)
    assert means["low"] <= means["mean"] <= means["high"]
    difference = report["differences"]["quantiser"]["mcd_db"]["mean"]
    assert difference == pytest.approx(
        means["mean"] - report["summary"]["quantiser"]["mcd_db"]["mean"]
    )
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "| mu-law 256 | – |" in markdown  # a baseline has no bits
    page = (tmp_path / "report" / "index.html").read_text()
    assert "anna/&lt;b&gt;|1.wav" in page
    assert "<b>|1" not in page
    assert page.count("<audio ") == 2 * 4


def test_a_copy_is_what_generate_says_from_the_mel_with_the_same_seed(
    tmp_path: Path, recordings: Path
) -> None:
    model = wavenet.load(save(tmp_path / "model", mel=MEL))
    chosen = choose(list_folder(recordings), RATE)
    settings = Settings(seed=5, temperature=0.8, engine="eager", baselines=())
    for one in Evaluation(model, "name", settings).run(chosen.utterances):
        audio, _ = read_audio(recordings / one.utterance.name, RATE)
        audio = (audio * 32768).round() / 32768
        mel = wavenet.log_mel(audio, MEL, model.mel_filterbank)
        alone = wavenet.generate(
            model, mel=mel, n_samples=len(audio), seed=5, temperature=0.8, engine="eager"
        )
        # A row is the same alone, up to rounding that may turn a draw to the class beside.
        assert (alone[0] != one.copies["model"]).float().mean() < 0.01


def test_a_larger_choice_adds_to_a_smaller_one(tones: Path) -> None:
    listing = list_folder(tones)
    names = [
        {utterance.name for utterance in choose(listing, RATE, count, seed=3).utterances}
        for count in range(1, 10)
    ]
    assert [len(found) for found in names] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert all(small <= large for small, large in itertools.pairwise(names))
    assert names[2] != {u.name for u in choose(listing, RATE, 3, seed=4).utterances}


def test_a_choice_goes_on_until_so_many_can_be_used(recordings: Path) -> None:
    for seed in range(5):
        chosen = choose(list_folder(recordings), RATE, 2, seed=seed)
        assert len(chosen.utterances) == 2
        assert chosen.listed == 6


def test_a_model_without_a_mel_gets_bits_alone_and_is_told_why(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path / "model")
    assert evaluate(model, recordings, "--out", tmp_path / "report") == 0
    assert "copy-synthesis needs a mel-conditioned model" in capsys.readouterr().out
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert set(report["summary"]) == {"model"}
    assert set(report["summary"]["model"]) == {"bits_per_sample"}
    assert "copy-synthesis needs" in report["unavailable"]["quantiser"]
    assert "<audio " not in (tmp_path / "report" / "index.html").read_text()


def test_speakers_are_those_of_the_folders_or_the_one_that_is_named(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, bits = tmp_path / "report", []
    model = save(tmp_path / "model", speakers=2, speaker_names=("anna", "bert"))
    for options in ((), ("--speaker", "anna")):
        assert evaluate(model, recordings, "--out", out, *options) == 0
        report = json.loads((out / "report.json").read_text())
        bits.append([u["scores"]["model"]["bits_per_sample"] for u in report["utterances"]])
    assert bits[0][0] == bits[1][0]
    assert bits[0][1] != bits[1][1]
    other = save(tmp_path / "other", speakers=2, speaker_names=("anna", "carl"))
    capsys.readouterr()
    assert evaluate(other, recordings, "--out", tmp_path / "new") == 2
    assert "speaker='bert' is none that the model knows: anna, carl" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_recordings_without_a_speaker_are_measured_without_one_by_an_unconditional_model(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("anna", "carl")
    model = save(tmp_path / "m", mel=MEL, speakers=2, speaker_names=names, unconditional=True)
    file = recordings / "bert" / "<b>|1.wav"
    assert evaluate(model, file, "--out", tmp_path / "one") == 0
    report = json.loads((tmp_path / "one" / "report.json").read_text())
    bits = report["utterances"][0]["scores"]["model"]["bits_per_sample"]
    audio = choose(find_corpus(str(file)), RATE).utterances[0]
    assert bits == pytest.approx(file_bits(wavenet.load(model), whole_audio(audio)))
    mixed = tmp_path / "mixed"
    shutil.copytree(recordings / "anna", mixed / "anna")
    shutil.copy(file, mixed / "of_nobody.wav")
    assert evaluate(model, mixed, "--out", tmp_path / "two") == 0
    report = json.loads((tmp_path / "two" / "report.json").read_text())
    assert report["utterances"][1]["scores"]["model"]["bits_per_sample"] == pytest.approx(bits)
    capsys.readouterr()
    assert evaluate(model, recordings, "--out", tmp_path / "new") == 2
    assert "none that the model knows: anna, carl; name" in (line := capsys.readouterr().err)
    assert line.endswith("; --speaker '' selects none\n")


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "report", Path("/proc/report")):
        assert main(["evaluate", "no-model", "no-folder", "--out", str(out)]) == 2
        assert f"{out}/report.json: nothing was written: " in capsys.readouterr().err
    out = tmp_path / "report"
    (out / "index.html").mkdir(parents=True)
    (out / "report.json").write_text('{"format": "wavenet-evaluation"}')
    assert main(["evaluate", "no-model", "no-folder", "--out", str(out)]) == 2
    assert f"{out}/index.html: nothing was written: Is a directory" in capsys.readouterr().err


def test_a_report_names_no_folder_of_the_machine(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "list.jsonl"
    rows = [{"path": str(path)} for path in sorted(recordings.rglob("*.wav"))]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    model = save(tmp_path / "ann's voice" / "model", mel=MEL, command="train /data/ann/x")
    for i, folder in enumerate((recordings, manifest)):
        out = tmp_path / f"report {i}"
        assert evaluate(model, folder, f"--out={out}") == 0
        for path in out.iterdir():
            assert str(tmp_path.parent) not in path.read_text()
            assert "/data/ann" not in path.read_text()
        report = json.loads((out / "report.json").read_text())
        assert report["settings"]["folder"] == folder.name
        assert f"'--out={out.name}'" in report["settings"]["command"]
        assert report["model"]["name"] == "ann's voice/model"
        assert [u["name"] for u in report["utterances"]] == ["anna/<b>|1.wav", "bert/<b>|1.wav"]
        assert any(line.startswith("silent.wav: digital silence") for line in report["left_out"])


def test_names_are_text_and_nothing_else(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No escape sequence, markup, HTML, or half a character of a name does anything anywhere."""
    folder = tmp_path / "c`o`r\x1b]0;owned\x07pus"
    folder.mkdir()
    name = "\x1b[31m<img src=x>[a](b)*c*\u202e.wav"
    shutil.copy(recordings / "anna" / "<b>|1.wav", folder / name)
    (folder / "\x1b[2J.flac").write_text("no audio")
    model = save(tmp_path / "model", mel=MEL)
    assert evaluate(model, folder, "--out", tmp_path / "report", "--speaker", "\x1b[1m") == 2
    assert evaluate(model, folder, "--out", tmp_path / "report") == 0
    printed = capsys.readouterr().out
    written = [path.read_text() for path in (tmp_path / "report").iterdir()]
    assert len(written) == 3
    assert not any("\x1b" in text or "\x07" in text for text in (printed, *written))
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert "`` c`o`r\\x1b]0;owned\\x07pus ``" in markdown
    assert "<img" not in markdown
    assert "<img src=x>" not in (tmp_path / "report" / "index.html").read_text()


def test_half_a_character_in_what_is_written_is_written_out(tmp_path: Path) -> None:
    write_files(tmp_path, {"report.md": "a\ud800b\udcff"})
    assert (tmp_path / "report.md").read_text() == "a\\ud800b\\udcff"


def test_without_jinja2_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["evaluate", "no-model", "no-folder", "--out", str(tmp_path)]) == 2
    assert "the listening page needs jinja2: not installed: pip" in capsys.readouterr().err


def test_what_has_no_value_is_a_line_for_each_reason() -> None:
    short = {"pesq": "too short", "stoi": "too short", "f0_error_cents": "not voiced"}
    missing = {"model": short, "world": {"copy": "too short"}, "quantiser": short}
    report = {"utterances": [{"name": "a.wav", "missing": missing}, {"name": "b", "missing": {}}]}
    assert notes_of({**report, "unavailable": {}, "left_out": []}) == {
        "No value": [
            "a.wav: too short: pesq, stoi (model, quantiser)",
            "a.wav: not voiced: f0_error_cents (model, quantiser)",
            "a.wav: too short: copy (world)",
        ]
    }


def test_a_report_replaces_a_report_and_nothing_else(
    tmp_path: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = save(tmp_path / "model"), tmp_path / "report"
    for _ in range(2):
        assert evaluate(model, recordings, "--out", out, "--utterances", "1") == 0
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    torch.manual_seed(1)
    other = save(tmp_path / "other")
    assert evaluate(other, recordings, "--out", out) == 2
    assert "holds the report of another model, test_a_report" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "report.json").write_text('{"dear": "reader"}')
    assert evaluate(model, recordings, "--out", tmp_path / "letters") == 2
    assert "holds other files and no earlier report" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--utterances", "0"], "utterances=0 must be at least 1"),
        (["--temperature", "0"], "--temperature=0.0 must be above 0"),
        (["--weights", "int3"], "weights='int3' is unknown"),
        (["--seed", "-1"], "seed=-1 must not be negative"),
        (["--page-utterances", "-1"], "--page-utterances=-1 must not be negative"),
        (["--speaker", "anna"], "takes no speaker"),
        (["--baselines", "straight"], "baselines='straight' is unknown"),
        (
            ["--baselines", "pulses", "--refine", "0"],
            "baselines='pulses' needs refinement",
        ),
        (["--metrics", "pesq,mos"], "metrics='mos' is unknown; choose of pesq, stoi, visqol, "),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    options: list[str],
    message: str,
    tmp_path: Path,
    recordings: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = save(tmp_path / "model", mel=MEL)
    given = ["evaluate", str(model), str(recordings), "--out", str(tmp_path / "report"), *options]
    assert main(given) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "report").exists()


def test_metrics_that_are_not_chosen_are_reported_as_such(tmp_path: Path, recordings: Path) -> None:
    model = save(tmp_path / "model", mel=MEL)
    assert evaluate(model, recordings, "--out", tmp_path / "report", "--metrics", "none") == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    left_out = {"pesq", "stoi", "visqol", "dnsmos", *PITCH_KEYS}
    assert {key for key, why in report["unavailable"].items() if why == "not chosen"} == left_out
    measured = {"bits_per_sample", "log_mel_l1", "mcd_db", "real_time_factor"}
    assert set(report["summary"]["network"]) <= measured


def test_the_help_names_what_can_be_chosen() -> None:
    assert cli.METRICS == CHOICES
    model = WaveNet(WaveNetConfig(**SMALL, distribution="gaussian"))  # no mu-law of 256 classes
    assert tuple(baseline_systems(model, 1)) == cli.BASELINES


def test_missing_packages_are_reported_and_stop_nothing(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pesq", "pystoi", "pyworld", "librosa", "matplotlib", "scipy.stats"):
        monkeypatch.setitem(sys.modules, name, None)
    out = tmp_path / "report"
    model = save(tmp_path / "model", mel=MEL)
    assert main(["evaluate", str(model), str(recordings), "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert [system["key"] for system in report["systems"]] == [
        "model",
        "network",
        "pulses",
        "noise",
        "quantiser",
    ]
    assert {"pesq", "stoi", "griffin_lim", "world", "spectrograms", "intervals"} < set(
        report["unavailable"]
    )
    assert report["summary"]["model"]["mcd_db"]["low"] is None
    assert "pesq is not installed: pip install" in (out / "index.html").read_text()
    assert torch.get_num_threads() == 1
