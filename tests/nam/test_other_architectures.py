"""Linear, ConvNet, LSTM and Sequential: read, written and run as Neural Amp Modeler does.

``data/nam_others.*`` was made by that program's own package (make_nam_others.py).
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import wavenet
from wavenet.cli.main import main
from wavenet.nam import NamLinear, NamSequential, NamWaveNet, preset, read_nam, write_nam
from wavenet.nam.config import MAX_STATE
from wavenet.nn import flatten_state
from wavenet.processing import Processor
from wavenet.receptive_fields import receptive_field
from wavenet.testing import check_causal

DATA = Path(__file__).parent / "data"
FILES: dict[str, Any] = json.loads((DATA / "nam_others.json").read_text())
ANSWERS = load_file(DATA / "nam_others.safetensors")
FILES["sequential"] = {
    "version": "0.5.4",
    "architecture": "Sequential",
    "config": {"models": [FILES["linear"], FILES["conv-net"]]},
    "weights": [],
    "sample_rate": 48000,
}
PEER = 1e-6
"""Largest difference from the package, whose answers are of size 1."""
COMPILED = 2e-6

each = pytest.mark.parametrize("name", FILES)


def file(folder: Path, content: Any) -> Path:
    path = folder / "model.nam"
    path.write_text(json.dumps(content))
    return path


def model_of(name: str, folder: Path) -> Any:
    return read_nam(file(folder, FILES[name]))


def run(model: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x[None, None])[0, 0]


@pytest.mark.parametrize("name", sorted(ANSWERS.keys() - {"input", "linear"}))
def test_a_model_answers_as_the_package_does(name: str, tmp_path: Path) -> None:
    got = run(model_of(name, tmp_path), ANSWERS["input"])
    torch.testing.assert_close(got, ANSWERS[name], rtol=0, atol=PEER)


def test_a_linear_model_is_the_players_the_packages_with_its_response_reversed(
    tmp_path: Path,
) -> None:
    content = copy.deepcopy(FILES["linear"])
    content["weights"] = [*content["weights"][-2::-1], content["weights"][-1]]
    got = run(read_nam(file(tmp_path, content)), ANSWERS["input"])
    torch.testing.assert_close(got, ANSWERS["linear"], rtol=0, atol=PEER)
    response = [1.0] + [0.0] * 6 + [0.0]
    same = run(read_nam(file(tmp_path, {**content, "weights": response})), ANSWERS["input"])
    assert torch.equal(same, ANSWERS["input"])


@each
def test_a_model_keeps_the_contract(name: str, tmp_path: Path) -> None:
    check_causal(model_of(name, tmp_path))


@each
def test_chunks_equal_the_whole_also_compiled(name: str, tmp_path: Path) -> None:
    model, x = model_of(name, tmp_path), ANSWERS["input"]
    whole = run(model, x)
    state, pieces = model.warm_state(1), []
    for chunk in x[None, None].split([1, 5, 64, 130], dim=-1):
        with torch.no_grad():
            y, state = model.stream(chunk, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, -1)[0, 0], whole, rtol=0, atol=PEER)
    processor = Processor(model, model.warm_state(1))
    assert processor.compiled
    got = torch.cat([processor(chunk) for chunk in x[None, None].split(64, dim=-1)], -1)[0, 0]
    torch.testing.assert_close(got, whole, rtol=0, atol=COMPILED)


@each
def test_what_is_written_has_the_same_configuration_and_weights(name: str, tmp_path: Path) -> None:
    write_nam(tmp_path / "again.nam", model_of(name, tmp_path))
    again = json.loads((tmp_path / "again.nam").read_text())
    if name == "sequential-joined":  # it is written with the weights beside each model
        x, read = ANSWERS["input"], read_nam(tmp_path / "again.nam")
        assert torch.equal(run(read, x), run(model_of(name, tmp_path), x))
        return
    for key in ("architecture", "weights", "sample_rate"):
        assert again[key] == FILES[name][key]
    parts = [again], [FILES[name]]
    if name == "sequential":
        parts = again["config"]["models"], FILES[name]["config"]["models"]
    for got, expected in zip(*parts, strict=True):
        assert got["config"] == expected["config"]
        assert got["weights"] == expected["weights"]


def test_an_older_sequence_of_a_network_and_a_response_can_be_read(tmp_path: Path) -> None:
    network = NamWaveNet(preset("nano")).eval()
    write_nam(tmp_path / "inner.nam", network)
    inner = json.loads((tmp_path / "inner.nam").read_text())
    del inner["version"]
    content = {
        "version": "0.5.4",
        "architecture": "sequential",
        "config": {"layers": [inner, FILES["linear"]]},
    }
    model = read_nam(file(tmp_path, content))
    assert isinstance(model, NamSequential)
    linear = model.models()[1]
    assert isinstance(linear, NamLinear)
    expected = run(linear, run(network, ANSWERS["input"]))
    # The response begins with what the network makes of silence, not with zeros.
    torch.testing.assert_close(run(model, ANSWERS["input"])[6:], expected[6:], rtol=0, atol=PEER)
    assert receptive_field(model).samples == network.past + 7


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda content: content["weights"].pop(),
            "weights has 109 numbers, but config asks for 110",
        ),
        (
            lambda content: content["config"]["models"].append({"depth": 3}),
            r"config\.models\[3\] has neither an architecture nor the keys of one",
        ),
        (
            lambda content: content["config"]["models"].append(FILES["linear"]),
            r"config\.models has models with and without an architecture",
        ),
    ],
)
def test_a_joined_sequence_that_is_damaged_is_refused(
    change: Any, line: str, tmp_path: Path
) -> None:
    content = copy.deepcopy(FILES["sequential-joined"])
    change(content)
    with pytest.raises(ValueError, match=line):
        read_nam(file(tmp_path, content))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_an_exported_program_answers_as_the_model(tmp_path: Path) -> None:
    path = file(tmp_path, FILES["sequential-joined"])
    assert main(["export", str(path), str(tmp_path / "out.pt2")]) == 0
    model, x = read_nam(path), ANSWERS["input"][None, None]
    program = torch.export.load(tmp_path / "out.pt2").module()
    state, got = model.init_state(1), []
    states = [part for part in flatten_state(state) if part.shape[-1]]
    with torch.no_grad():
        for chunk in x.split([1, 99, 100], -1):
            output, *states = program(chunk, None, *states)
            got.append(output)
        expected, after = model.stream(x, state)
    torch.testing.assert_close(torch.cat(got, -1), expected, rtol=0, atol=PEER)
    kept = [part for part in flatten_state(after) if part.shape[-1]]
    for a, b in zip(states, kept, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=PEER)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "conv-net-batchnorm", "sequential-joined"])
def test_onnxruntime_answers_as_the_model(name: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason="exporting to ONNX needs it")
    runtime = pytest.importorskip("onnxruntime", reason="runs what is exported")
    path = file(tmp_path, FILES[name])
    assert main(["export", str(path), str(tmp_path / "out.onnx")]) == 0
    session = runtime.InferenceSession(tmp_path / "out.onnx")
    model, x = read_nam(path), ANSWERS["input"][None, None]
    assert session.get_modelmeta().custom_metadata_map["past"] == str(model.past)
    names = [one.name for one in session.get_inputs()]
    parts = [part for part in flatten_state(model.init_state(1)) if part.shape[-1]]
    values = [x, *parts]
    given = {key: value.numpy() for key, value in zip(names, values, strict=True)}
    with torch.no_grad():
        expected = model.stream(x, model.init_state(1))[0]
    got = torch.from_numpy(session.run(["output"], given)[0])
    torch.testing.assert_close(got, expected, rtol=0, atol=PEER)


def test_an_lstm_is_not_exported_as_a_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(tmp_path, FILES["lstm"])
    assert main(["export", str(path), str(tmp_path / "out.onnx")]) == 2
    assert "has recurrent layers, which torch's exporter takes for one" in capsys.readouterr().err
    assert not (tmp_path / "out.onnx").exists()


def test_the_receptive_field_of_an_lstm_is_unbounded(tmp_path: Path) -> None:
    field = receptive_field(model_of("lstm", tmp_path))
    assert not field.is_finite
    assert "recurrent" in field.unbounded[0]


@each
def test_load_takes_the_file_and_the_commands_describe_and_write_it(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(tmp_path, FILES[name])
    assert wavenet.load(path).sample_rate == 48000
    assert main(["info", "--json", str(path)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["receptive_field_samples"] is None) == ("lstm" in name)
    assert main(["info", str(path)]) == 0
    assert main(["export", str(path), str(tmp_path / "again.nam")]) == 0


@pytest.mark.parametrize(
    ("name", "changes", "line"),
    [
        ("linear", {"weights": [1.0]}, "weights has 1 numbers, but config asks for 8; the file is"),
        ("linear", {"config": {}}, "config.receptive_field is missing; the file is incomplete"),
        ("linear", {"weights": [float("nan")] * 8}, r"weights\[0\] is nan, and 8 in all are not"),
        ("linear", {"config": {"receptive_field": 2**30}}, "most 4194304 are kept"),
        ("linear", {"config": {"receptive_field": -1}}, "receptive_field is -1, expected a whole"),
        ("conv-net", {"config": {"channels": 4, "dilations": []}}, "activation is missing"),
        (
            "conv-net",
            {"config": {"channels": 4, "dilations": [], "activation": "Tanh"}},
            "dilations has 0 entries; give one for each layer",
        ),
        (
            "conv-net",
            {"config": {"channels": 2**30, "dilations": [1], "activation": "Tanh"}},
            "weights has 125 numbers, but config asks for",
        ),
        (
            "conv-net",
            {"config": {"channels": 4, "dilations": [2**30], "activation": "Tanh"}},
            f"at most {MAX_STATE} are kept",
        ),
        ("lstm", {"config": {"hidden_size": 2**20}}, "weights has 70 numbers, but config asks"),
        ("lstm", {"config": {"hidden_size": 3, "num_layers": 10**6}}, "num_layers=1000000 "),
        ("sequential", {"config": {"models": []}}, "config.models has 0 models, expected 1"),
        ("sequential", {"config": {"models": [3]}}, r"config.models\[0\] is 3, expected an object"),
        ("sequential", {"config": {"models": [{}]}}, "has neither an architecture nor the keys"),
        ("sequential", {"architecture": "CatLSTM"}, "'CatLSTM', and only WaveNet, Linear, ConvNet"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(
    name: str, changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    path = file(tmp_path, {**FILES[name], **changes})
    with pytest.raises(ValueError, match=r"model.nam: ") as caught:
        read_nam(path)
    assert "\n" not in str(caught.value)
    assert re.search(line, str(caught.value)), str(caught.value)


def test_a_variance_that_is_not_above_zero_is_refused(tmp_path: Path) -> None:
    content = copy.deepcopy(FILES["conv-net-batchnorm"])
    content["weights"] = [-1.0] * len(content["weights"])
    with pytest.raises(ValueError, match="a variance of batchnorm is not above zero"):
        read_nam(file(tmp_path, content))


def test_a_sequence_within_sequences_without_end_is_refused(tmp_path: Path) -> None:
    content = FILES["linear"]
    for _ in range(8):
        content = {**FILES["sequential"], "config": {"models": [content]}}
    with pytest.raises(ValueError, match="nested too deeply"):
        read_nam(file(tmp_path, content))


def test_a_checkpoint_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep it as a .nam file"):
        model_of("lstm", tmp_path).save(tmp_path / "folder")


def test_a_sequence_is_as_old_as_its_newest_model_allows(tmp_path: Path) -> None:
    sequence = NamSequential([NamWaveNet(preset("a2-lite")), NamWaveNet(preset("nano"))])
    with pytest.raises(ValueError, match=r"version 0.5.4 cannot describe this network; use 0.7.0"):
        write_nam(tmp_path / "old.nam", sequence, version="0.5.4")
    write_nam(tmp_path / "new.nam", sequence)
    content = json.loads((tmp_path / "new.nam").read_text())
    versions = {one["version"] for one in content["config"]["models"]} | {content["version"]}
    assert versions == {"0.7.0"}
