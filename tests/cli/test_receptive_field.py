"""`wavenet receptive-field`, in all its forms."""

import json
from pathlib import Path

import pytest

import wavenet
from wavenet.audio import write_audio
from wavenet.cli import receptive_field as command
from wavenet.cli.main import main
from wavenet.receptive_fields import analysis

NETWORKS = Path(__file__).parents[1] / "receptive_fields"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["receptive-field", *arguments]) == 0
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["receptive-field", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    return shown.err


def test_the_methods_of_the_command_are_those_of_the_function() -> None:
    assert command.METHODS == analysis.METHODS


@pytest.fixture
def beside_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(NETWORKS))


def test_json_of_a_list_of_dilations(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--dilations", "1,2,4", "--kernel-size", "3", "--sample-rate", "16000", "--json"]
    found = json.loads(answer(capsys, *flags))
    assert found["samples"] == 15
    assert found["milliseconds"] == 0.9375
    assert [layer["samples"] for layer in found["layers"]] == [3, 7, 15]


@pytest.mark.usefixtures("beside_networks")
@pytest.mark.parametrize("method", ["auto", "trace", "gradient"])
def test_a_network_of_ones_own(capsys: pytest.CaptureFixture[str], method: str) -> None:
    flags = [
        "networks:small",
        "--input-shape",
        "1,1,50",
        "--sample-rate",
        "1000",
        "--method",
        method,
    ]
    found = json.loads(answer(capsys, *flags, "--verify", "--json"))
    assert (found["samples"], found["look_ahead"], found["causal"]) == (7, 3, False)
    assert found["method"] == ("gradient" if method == "gradient" else "trace")


@pytest.mark.usefixtures("beside_networks")
def test_without_end_on_one_side_the_other_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = answer(capsys, "networks:Recurrent", "--input-shape", "1,1,50", "--verify")
    assert "receptive field: unbounded" in text
    assert "look-back unbounded, look-ahead 2" in text


def test_a_checkpoint_and_a_recipe_are_verified(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, repository: Path
) -> None:
    config = wavenet.WaveNetConfig.preset("tiny", layers_per_stack=4, residual_channels=4)
    wavenet.WaveNet(config).save(tmp_path / "model")
    text = answer(capsys, str(tmp_path / "model"), "--verify")
    assert text.endswith("receptive field: 31 samples = 1.938 ms at 16000 Hz\n")
    recipe = str(repository / "recipes" / "demo" / "config.yaml")
    assert "1257 samples" in answer(capsys, recipe, "--plot", str(tmp_path / "fan.png"))
    assert (tmp_path / "fan.png").stat().st_size > 1000


def test_proposals_for_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--target-ms", "100", "--sample-rate", "16000", "--residual-channels", "32"]
    text = answer(capsys, *flags)
    assert (
        "32 residual and 64 skip channels with a receptive field of at least 100 ms at 16000 Hz"
        in text
    )
    rows = json.loads(answer(capsys, *flags, "--max-parameters", "100000", "--json"))
    assert rows
    assert all(row["milliseconds"] >= 100 and row["parameters"] <= 100_000 for row in rows)


def test_effective_field_of_a_checkpoint_on_audio(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, samples: Path
) -> None:
    config = wavenet.WaveNetConfig.preset("tiny", layers_per_stack=4, residual_channels=4)
    wavenet.WaveNet(config).save(tmp_path / "model")
    audio = str(next((samples / "prompts-en").glob("*.flac")))
    picture = tmp_path / "effective.png"
    text = answer(capsys, str(tmp_path / "model"), "--effective", audio, "--plot", str(picture))
    assert "99 % of the sensitivity within" in text
    assert picture.stat().st_size > 1000


@pytest.mark.usefixtures("beside_networks")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of: a checkpoint or recipe, --layers"),
        (["--layers", "3", "--dilations", "1"], "give one of"),
        (["--dilations", "1,0"], "dilation=0 must be an integer of at least 1"),
        (["--dilations", "1,x"], "--dilations='1,x' must be integers with commas"),
        (["networks:small"], "input_shape is missing"),
        (["networks:small", "--input-shape", "1,2,50"], "does not accept input_shape=(1, 2, 50)"),
        (["networks:Attention", "--input-shape", "1,1,50"], "no finite receptive field: attention"),
        (["networks:nothing", "--input-shape", "1,1,50"], "networks:nothing: cannot be imported"),
        (["no.such:thing", "--input-shape", "1,1,50"], "no.such:thing: cannot be imported"),
        (["torch.nn:Conv1d", "--input-shape", "1,1,50"], "cannot be made without arguments"),
        (["math:sqrt", "--input-shape", "1,1,50"], "cannot be made without arguments"),
        (["math:pi", "--input-shape", "1,1,50"], "is a float; name what makes a torch.nn.Module"),
        (
            ["networks:DecidesByValue", "--input-shape", "1,1,50", "--method", "trace"],
            "cannot trace",
        ),
        (["--layers", "3", "--input-shape", "1,1,50"], "belongs to package.module:callable"),
        (["--layers", "3", "--max-parameters", "5"], "--max-parameters belongs to --target-ms"),
        (["--target-ms", "3"], "--target-ms needs --sample-rate"),
        (["--target-ms", "3", "--sample-rate", "16000", "--layers", "2"], "leave out layers"),
        (["--layers", "3", "--effective", "a.wav"], "name its checkpoint"),
        (
            ["--layers", "3", "--plot", "fan.jpg"],
            "fan.jpg: unknown image format; use a name that ends in .png or .svg",
        ),
    ],
)
def test_mistakes_end_in_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refusal(capsys, *arguments)


def test_no_plain_audio_file_is_taken_for_a_checkpoint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import torch

    write_audio(tmp_path / "a.wav", torch.zeros(100), 16000)
    refusal(capsys, str(tmp_path / "a.wav"))
