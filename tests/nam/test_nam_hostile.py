"""Files broken on purpose: one clear line, nothing allocated by what a file merely claims."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peak_memory import peak_kib, reset_peak

from wavenet.nam import NamWaveNet, preset, read_nam, write_nam
from wavenet.nam.config import MAX_STATE
from wavenet.nam.reading import MAX_BYTES

FILES: dict[str, Any] = json.loads(
    Path(__file__).with_name("data").joinpath("nam_golden.json").read_text()
)
N_MUTATIONS = 300


def refused(tmp_path: Path, content: Any) -> str:
    """The one line that a file is refused with."""
    path = tmp_path / "model.nam"
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match="model.nam: ") as caught:
        read_nam(path)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 300 + len(str(path))
    return line.removeprefix(f"{path}: ")


def changed(path: str, value: Any, name: str = "two-arrays") -> dict[str, Any]:
    """A good file with one value changed; ``path`` such as ``config.layers.0.channels``."""
    content = copy.deepcopy(FILES[name])
    at: Any = content
    *parents, last = path.split(".")
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if isinstance(at, list):
        at[int(last)] = value
    elif value is None:
        del at[last]
    else:
        at[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("version", "0.8.0", "version is 0.8.0; 0.5.0 to 0.7.x can be read"),
        ("version", "0.4.9", "version is 0.4.9; 0.5.0 to 0.7.x can be read"),
        ("version", 5, "version is 5, expected a string"),
        ("version", "new", "version is 'new', expected such as '0.5.4'"),
        ("version", None, "version is missing; the file is incomplete"),
        ("architecture", "CatLSTM", "architecture is 'CatLSTM', and only WaveNet, Linear, Con"),
        ("config", [], "config is a list of 0, expected an object"),
        ("weights", None, "weights is missing; the file is incomplete"),
        ("weights", "many", "weights is 'many', expected a list"),
        ("weights.3", "0.5", r"weights\[3\] is '0.5', expected a number"),
        ("weights.3", True, r"weights\[3\] is True, expected a number"),
        ("weights.3", float("nan"), r"weights\[3\] is nan, and 1 in all are not finite"),
        ("weights.3", 1e300, r"weights\[3\] is 1e\+300, and 1 in all are not finite"),
        ("weights.3", 10**400, "weights has numbers that no float can hold"),
        ("weights", [0.5], "weights has 1 numbers, but config asks for 318; the file is damaged"),
        ("config.layers", [], "layers is empty; a network has one or more layer arrays"),
        ("config.layers.0", 3, r"config.layers\[0\] is 3, expected an object"),
        ("config.layers.0.channels", 10**9, "input_size has 4 channels, but what comes in has 10"),
        ("config.layers.0.channels", 10**99, r"config.layers\[0\].channels is 1000"),
        ("config.layers.0.channels", 4.5, "channels is 4.5, expected a whole number of at least 1"),
        ("config.layers.0.channels", True, "channels is True, expected a whole number"),
        ("config.layers.0.channels", -4, "channels is -4, expected a whole number of at least 1"),
        ("config.layers.0.dilations", [], r"config.layers\[0\].dilations is empty; an array"),
        ("config.layers.0.dilations", [1] * 2000, "dilations has 2000 entries; 1000 at most"),
        ("config.layers.0.dilations", [1, 2], "kernel_sizes has 3 entries for 2 dilations"),
        ("config.layers.0.dilations.1", 10**8, "and at most 4194304 are kept; the dilations are"),
        ("config.layers.0.activation.0", "Exp", "activation 'Exp' is unknown; known are Tanh"),
        ("config.layers.0.activation.0", {"type": []}, "activation.type is a list of 0"),
        ("config.layers.0.activation", 4, "activation is 4, expected an object"),
        ("config.layers.0.gating_mode.0", "open", "gating_mode 'open' is unknown"),
        ("config.layers.0.groups_input", 3, "groups_input=3 must divide the 4 channels"),
        ("config.layers.0.head.bias", 1, r"config.layers\[0\].head.bias is 1, expected true or"),
        ("config.layers.0.conv_pre_film", 7, "conv_pre_film is 7, expected an object"),
        ("config.head_scale", "loud", "config.head_scale is 'loud', expected a number"),
        ("config.head", {"channels": 2}, "config.head.kernel_sizes is missing"),
        ("config.in_channels", 2, "input_size has 1 channels, but what comes in has 2"),
        ("config.condition_dsp", 1, "config.condition_dsp is 1, expected an object"),
        ("sample_rate", 44100.5, "sample_rate is 44100.5, expected a whole number of Hz"),
        ("sample_rate", -1, "sample_rate is -1.0, expected a whole number of Hz"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(
    path: str, value: Any, line: str, tmp_path: Path
) -> None:
    content = changed(path, value)
    message = refused(tmp_path, content)
    assert re.search(line, message), message


def test_slopes_for_other_channels_and_limits_the_wrong_way_round_are_refused(
    tmp_path: Path,
) -> None:
    slopes = {"type": "PReLU", "negative_slopes": [0.1, 0.2, 0.3]}
    said = refused(tmp_path, changed("config.layers.0.activation.0", slopes))
    assert said == (
        "config.layers[0]: PReLU has 3 slopes for 4 channels; give one for each, or one for all"
    )
    limits = {"type": "Hardtanh", "min_val": 1.0, "max_val": -1.0}
    said = refused(tmp_path, changed("config.layers.0.activation.0", limits))
    assert said.endswith("has min_val=1.0, which must be below max_val=-1.0")


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    text = json.dumps(FILES["gated"])
    for part in (0.1, 0.5, 0.99):
        said = refused(tmp_path, text[: int(len(text) * part)])
        assert said.startswith("is no usable JSON ("), said
        assert said.endswith("cut short or damaged? fetch it again"), said
    assert "is no usable JSON" in refused(tmp_path, b"\x80\x04\x95pickle")
    assert "is no usable JSON" in refused(tmp_path, "")
    assert "is no usable JSON" in refused(tmp_path, '{"version": ' + "9" * 5000 + "}")
    assert refused(tmp_path, "[]") == "the file is a list of 0, expected an object"
    with pytest.raises(ValueError, match="nothing.nam: cannot be read: No such file"):
        read_nam(tmp_path / "nothing.nam")


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in refused(tmp_path, "[" * 100_000)
    inner = copy.deepcopy(FILES["condition"])
    for _ in range(20):
        outer = copy.deepcopy(FILES["condition"])
        outer["config"]["condition_dsp"] = inner
        inner = outer
    assert "nested too deeply" in refused(tmp_path, inner)
    container = copy.deepcopy(FILES["container"])
    container["config"]["submodels"][-1]["model"] = copy.deepcopy(container)
    assert "architecture is 'SlimmableContainer'" in refused(tmp_path, container)


def test_an_endless_file_is_read_no_further_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "huge.nam"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 10)  # sparse
    with pytest.raises(ValueError, match="is longer than 16 MiB"):
        read_nam(path)


def test_sizes_that_a_file_only_claims_allocate_nothing(tmp_path: Path) -> None:
    """Each claim would take gigabytes; the process may not even grow by 64 MiB."""
    claims = []
    for key, value in (
        ("channels", 30_000),
        ("bottleneck", 2_000_000_000),
        ("kernel_size", 1 << 30),
    ):
        content = copy.deepcopy(FILES["gated"])
        array = content["config"]["layers"][0]
        if key == "kernel_size":
            del array["kernel_sizes"]
        array[key] = value
        claims.append(content)
    claims.append(changed("config.layers.0.dilations", [MAX_STATE] * 3, "gated"))
    reset_peak()
    before = peak_kib()
    for content in claims:
        refused(tmp_path, content)
    assert peak_kib() - before < 64 * 1024


ODD = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 10**6, 10**12, 10**40, 0.5, -0.0, 1e308, 1e-320),
    *("", "0.6.0", "Tanh", "WaveNet", "gated", "\ud800", "a" * 1000, [], {}, [[]], [1], [None]),
    *({"type": "ReLU"}, {"active": True}, float("nan"), float("inf"), -float("inf")),
]


def mutated(content: Any, draw: random.Random) -> Any:
    """A JSON value with one to three things in it changed, removed, doubled or moved."""
    content = copy.deepcopy(content)
    for _ in range(draw.randint(1, 3)):
        places = [
            (parent, key)
            for parent, key in _places(content)
            if not (isinstance(key, int) and key > 40)  # a weight is like another
        ]
        if not places:
            return content
        parent, key = draw.choice(places)
        kind = draw.randrange(5)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif kind == 2:
            other, there = draw.choice(places)
            parent[key] = copy.deepcopy(other[there])
        else:
            parent[key] = copy.deepcopy(draw.choice(ODD))
    return content


def _places(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    else:
        return []
    own = [(value, key) for key in keys]
    return own + [place for key in keys for place in _places(value[key])]


def test_random_mutations_give_a_value_error_or_a_model_that_runs(tmp_path: Path) -> None:
    names = ["two-arrays", "mixed", "films", "post-head", "condition", "container"]
    path, loaded, lines = tmp_path / "model.nam", 0, set()
    for seed in range(N_MUTATIONS):
        draw = random.Random(seed)
        text = json.dumps(mutated(FILES[draw.choice(names)], draw))
        if seed % 10 == 0:  # and one byte anywhere
            at = draw.randrange(len(text))
            text = text[:at] + chr(draw.randrange(128)) + text[at + 1 :]
        path.write_text(text)
        try:
            model = read_nam(path)
        except ValueError as error:
            lines.add(str(error))
            continue
        loaded += 1
        with torch.no_grad():
            y = model(torch.zeros(1, model.in_channels, 8))
        assert y.shape == (1, model.out_channels, 8)
        write_nam(tmp_path / "again.nam", model)
        assert isinstance(read_nam(tmp_path / "again.nam"), NamWaveNet), seed
    assert all("\n" not in line and len(line) < 400 + len(str(path)) for line in lines)
    assert loaded > 20
    assert len(lines) > 60


def test_a_model_with_weights_that_are_not_finite_is_not_written(tmp_path: Path) -> None:
    model = NamWaveNet(preset("nano"))
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite; it cannot be exported"):
        write_nam(tmp_path / "nan.nam", model)
    assert list(tmp_path.iterdir()) == []
