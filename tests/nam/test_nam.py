"""Models of Neural Amp Modeler: read, written and run as that program's own package does.

``data/`` was made by the package itself (make_nam_golden.py); the slow tests ask it anew, where it
is installed.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import runpy
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from state_memory import stray_bytes
from torch.nn.utils.parametrizations import weight_norm

import wavenet
from wavenet.cli.main import main
from wavenet.nam import (
    PRESETS,
    NamConfig,
    NamWaveNet,
    preset,
    read_nam,
    write_nam,
    write_nam_container,
)
from wavenet.nam.activations import ActivationConfig
from wavenet.nam.config import (
    ArrayConfig,
    FilmConfig,
    HeadConfig,
    LayerConfig,
    PointwiseConfig,
    PostHeadConfig,
)
from wavenet.nam.layer import FILMS, NamLayer
from wavenet.nam.weights import tensors_in_order
from wavenet.nn import flatten_state
from wavenet.processing import Processor
from wavenet.testing import check_causal

HERE = Path(__file__).parent
VARIANTS = SimpleNamespace(**runpy.run_path(str(HERE / "nam_variants.py")))
FILES: dict[str, Any] = json.loads((HERE / "data" / "nam_golden.json").read_text())
ANSWERS = load_file(HERE / "data" / "nam_golden.safetensors")
NAMES = [name for name in FILES if name != "container"]

PEER = 1e-6
"""Largest difference from the package, whose answers are of size 1: float32 sums in its order."""
COMPILED = 2e-6
"""The same from our compiled engine, whose tanh and exp are polynomials."""


@pytest.fixture
def golden(tmp_path: Path) -> Any:
    """Writes one of the package's files, changed as the test likes; returns its path."""

    def write(name: str, change: Any = None) -> Path:
        content = copy.deepcopy(FILES[name])
        if change is not None:
            change(content)
        path = tmp_path / "model.nam"
        path.write_text(json.dumps(content))
        return path

    return write


def answer(model: NamWaveNet) -> torch.Tensor:
    with torch.no_grad():
        return model(ANSWERS["input"][None, None])[0, 0]


def require_close(a: torch.Tensor, b: torch.Tensor, tolerance: float = PEER) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_the_answers_are_of_the_version_that_the_script_names() -> None:
    with safe_open(HERE / "data" / "nam_golden.safetensors", "pt") as file:
        assert file.metadata() == {"neural-amp-modeler": "0.13.0"}
    assert "neural-amp-modeler==0.13.0" in (HERE / "make_nam_golden.py").read_text()
    assert set(NAMES) == VARIANTS.VARIANTS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_the_package_sounds_as_in_the_package(name: str, golden: Any) -> None:
    model = read_nam(golden(name))
    assert not model.training
    assert model.sample_rate == 48000
    assert float(ANSWERS[name].abs().max()) > 0.02
    require_close(answer(model), ANSWERS[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_written_file_is_read_as_the_same_model(name: str, golden: Any, tmp_path: Path) -> None:
    model = read_nam(golden(name))
    write_nam(tmp_path / "again.nam", model)
    again = read_nam(tmp_path / "again.nam")
    assert again.config == model.config
    assert again.metadata == model.metadata == FILES[name]["metadata"]
    for a, b in zip(tensors_in_order(model), tensors_in_order(again), strict=True):
        assert torch.equal(a, b)
    written = json.loads((tmp_path / "again.nam").read_text())
    assert written["weights"] == FILES[name]["weights"]


@pytest.mark.parametrize("name", NAMES)
def test_the_compiled_engine_equals_stream(name: str, golden: Any) -> None:
    pytest.importorskip("numba", reason="process is compiled by numba")
    model = read_nam(golden(name))
    state = model.warm_state(2)
    x = torch.stack([ANSWERS["input"], ANSWERS["input"].flip(0)])[:, None]
    processor = Processor(model, state)
    assert processor.compiled
    got = torch.cat([processor(part) for part in x.split([1, 64, 7, 128, 100], -1)], -1)
    with torch.no_grad():
        expected, after = model.stream(x, state)
    require_close(got, expected, COMPILED)
    for a, b in zip(flatten_state(processor.state), flatten_state(after), strict=True):
        require_close(a, b, 1e-5)


@pytest.mark.parametrize("name", ["gated", "blended", "mixed", "films", "condition", "no-layer1x1"])
def test_imported_networks_keep_the_law(name: str, golden: Any) -> None:
    model = read_nam(golden(name))
    check_causal(model)
    assert stray_bytes(model.stream(torch.zeros(1, 1, 500), model.warm_state(1))[1]) == 0


def modulated(condition: NamConfig | None, channels: int) -> NamConfig:
    """Every modulation that there is, in layers that need not saturate."""
    film = FilmConfig(shift=True, groups=1)
    layers = tuple(
        LayerConfig(2, dilation, ActivationConfig("SiLU"), "gated", ActivationConfig("Hardswish"))
        for dilation in (1, 2)
    )
    array = ArrayConfig(
        1,
        1 if condition is None else channels,
        channels,
        channels,
        layers,
        HeadConfig(channels if condition is None else 1),
        head1x1=PointwiseConfig(channels, groups=1),
        **dict.fromkeys(FILMS, film),
    )
    return NamConfig((array,), head_scale=1.0, sample_rate=48_000, condition=condition)


def test_a_network_that_multiplies_layer_after_layer_meets_the_contract() -> None:
    """Outputs overflow with the weights of this seed."""
    check_causal(NamWaveNet(modulated(modulated(None, 4), 4)), seed=1)


def test_its_blocks_keep_the_law_alone_as_well(golden: Any) -> None:
    model = read_nam(golden("films"))
    array = model.stages()[0][0]
    check_causal(array)
    check_causal(array.all_layers()[1])
    x, cond = torch.randn(2, 4, 50), torch.randn(2, 1, 50)
    layer = array.all_layers()[1]
    state = layer.init_state(2)
    got = Processor(layer, state)(x, cond)
    with torch.no_grad():
        for a, b in zip(got, layer.stream(x, state, cond)[0], strict=True):
            require_close(a, b, COMPILED)


@pytest.mark.parametrize(
    ("name", "weights", "field"),
    [
        ("standard", 13802, 4093),
        ("lite", 6554, 4093),
        ("feather", 3026, 4093),
        ("nano", 842, 4093),
        ("a2", 12146, 6347),
        ("a2-lite", 1871, 6347),
    ],
)
def test_presets_have_the_programs_weight_counts_and_receptive_field(
    name: str, weights: int, field: int
) -> None:
    config = preset(name)
    model = NamWaveNet(config)
    assert config.n_weights == weights
    assert sum(tensor.numel() for tensor in tensors_in_order(model)) == weights
    assert model.past == field - 1
    assert wavenet.receptive_field(model).samples == field
    assert wavenet.receptive_field(model).sample_rate == 48000


def test_a_written_container_gives_back_each_size(tmp_path: Path) -> None:
    models = {name: NamWaveNet(preset(name)).eval() for name in ("a2-lite", "a2")}
    write_nam_container(tmp_path / "both.nam", models, {"modeled_by": "me"})
    x = torch.randn(1, 1, 50)
    with torch.no_grad():
        for i, (name, model) in enumerate(models.items()):
            for submodel in (name, str(i)):
                assert torch.equal(read_nam(tmp_path / "both.nam", submodel=submodel)(x), model(x))
        assert torch.equal(read_nam(tmp_path / "both.nam")(x), models["a2"](x))
    content = json.loads((tmp_path / "both.nam").read_text())
    assert content["metadata"] == {"modeled_by": "me"}
    assert [one["max_value"] for one in content["config"]["submodels"]] == [0.5, 1.0]


def test_models_of_two_rates_or_none_make_no_container(tmp_path: Path) -> None:
    models = {str(rate): NamWaveNet(preset("nano", sample_rate=rate)) for rate in (44100, 48000)}
    with pytest.raises(ValueError, match="must have one sample rate, found 44100, 48000; give"):
        write_nam_container(tmp_path / "both.nam", models)
    with pytest.raises(ValueError, match="must have one sample rate, found none; give"):
        write_nam_container(tmp_path / "both.nam", {})
    assert not list(tmp_path.iterdir())


def test_process_runs_the_size_that_is_named(
    golden: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry, wet = tmp_path / "dry.wav", tmp_path / "wet.wav"
    soundfile.write(dry, ANSWERS["input"].numpy(), 48000, "FLOAT")
    command = ["process", str(dry), str(wet), "--model", str(golden("container")), "--submodel"]
    for name in ("0", "1"):
        assert main([*command, name]) == 0
        require_close(
            torch.from_numpy(soundfile.read(wet, dtype="float32")[0]), ANSWERS[f"container-{name}"]
        )
    assert main([*command, "2"]) == 2
    assert "has no submodel '2'; it has 0, 1" in capsys.readouterr().err


def test_every_file_has_the_number_of_weights_of_its_configuration() -> None:
    assert len(NAMES) > 15
    for name in NAMES:
        model = read_nam_content(FILES[name])
        assert model.config.n_weights == len(FILES[name]["weights"])
        state = model.init_state(1)
        assert model.config.n_state == sum(part.numel() for part in flatten_state(state))


def read_nam_content(content: dict[str, Any]) -> NamWaveNet:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.nam"
        path.write_text(json.dumps(content))
        return read_nam(path)


def to_legacy(content: dict[str, Any]) -> None:
    """The spelling of versions 0.5.x."""
    content["version"] = "0.5.0"
    del content["sample_rate"], content["metadata"]
    for array in content["config"]["layers"]:
        head = array.pop("head")
        array["head_size"], array["head_bias"] = head["out_channels"], head["bias"]
        (array["kernel_size"],) = set(array.pop("kernel_sizes"))
        array["activation"] = array["activation"][0]["type"]
        array["gated"] = array.pop("gating_mode")[0] == "gated"
        for key in list(array):
            if key.endswith("film") or key.startswith(("secondary", "group", "layer1", "head1")):
                del array[key]
        del array["bottleneck"], array["slimmable"]


@pytest.mark.parametrize("name", ["two-arrays", "gated"])
def test_the_oldest_spelling_means_the_same(name: str, golden: Any) -> None:
    model = read_nam(golden(name, to_legacy))
    assert model.sample_rate == 48000
    assert model.metadata == {}
    require_close(answer(model), ANSWERS[name])


def test_the_last_weight_overrides_the_head_scale_of_the_config(golden: Any) -> None:
    def change(content: dict[str, Any]) -> None:
        content["config"]["head_scale"] = 123.0

    require_close(answer(read_nam(golden("gated", change))), ANSWERS["gated"])


def test_a_container_gives_its_largest_or_the_one_that_was_asked_for(golden: Any) -> None:
    def name_the_first(content: dict[str, Any]) -> None:
        content["config"]["submodels"][0]["model"]["metadata"]["name"] = "small one"

    path = golden("container", name_the_first)
    require_close(answer(read_nam(path)), ANSWERS["container-1"])
    require_close(answer(read_nam(path, submodel="0")), ANSWERS["container-0"])
    require_close(answer(read_nam(path, submodel="small one")), ANSWERS["container-0"])
    require_close(answer(read_nam(path, submodel="1")), ANSWERS["container-1"])
    with pytest.raises(ValueError, match=r"has no submodel '7'; it has 0 \(small one\), 1$"):
        read_nam(path, submodel="7")
    with pytest.raises(ValueError, match="holds one model alone"):
        read_nam(golden("gated"), submodel="0")


def test_simple_networks_are_written_for_the_oldest_players_too(tmp_path: Path) -> None:
    model = NamWaveNet(preset("nano"), {"name": "a", "loudness": float("-inf")})
    write_nam(tmp_path / "nano.nam", model, {"gear_type": "amp"})
    content = json.loads((tmp_path / "nano.nam").read_text())
    assert content["version"] == "0.5.4"
    assert content["metadata"] == {"name": "a", "loudness": None, "gear_type": "amp"}
    first = content["config"]["layers"][0]
    assert first.keys() == {  # and no other: readers of that version refuse what they do not know
        *("input_size", "condition_size", "head_size", "channels", "kernel_size", "dilations"),
        *("activation", "gated", "head_bias"),
    }
    assert (first["head_size"], first["head_bias"]) == (2, False)
    assert (first["gated"], first["kernel_size"], first["activation"]) == (False, 3, "Tanh")
    assert content["weights"][-1] == content["config"]["head_scale"]


def test_a_model_of_another_kind_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"model is a Linear, expected a model of wavenet\.nam"):
        write_nam(tmp_path / "a.nam", torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_simple_network_is_also_written_in_the_newer_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nam(tmp_path / "old.nam", NamWaveNet(preset("nano")))
    command = ["export", str(tmp_path / "old.nam"), str(tmp_path / "new.nam"), "--nam-version"]
    assert main([*command, "0.7.0"]) == 0
    content = json.loads((tmp_path / "new.nam").read_text())
    assert content["version"] == "0.7.0"
    first = content["config"]["layers"][0]
    assert first["head"] == {"out_channels": 2, "kernel_size": 1, "bias": False}
    assert "head_size" not in first
    x = torch.randn(1, 1, 50)
    with torch.no_grad():
        old, new = (read_nam(tmp_path / f"{name}.nam")(x) for name in ("old", "new"))
        assert torch.equal(old, new)
    assert main([*command, "0.6.0"]) == 2
    assert "version='0.6.0' cannot be written; choose 0.5.4 or 0.7.0" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"0\.5\.4 cannot describe this network; use 0\.7\.0"):
        write_nam(tmp_path / "a2.nam", NamWaveNet(preset("a2-lite")), version="0.5.4")
    assert not (tmp_path / "a2.nam").exists()
    onnx = [*command[:2], str(tmp_path / "new.onnx"), "--nam-version", "0.7.0"]
    assert main(onnx) == 2
    assert "--nam-version belongs to a .nam file" in capsys.readouterr().err


def test_a_condition_without_a_sample_rate_has_that_of_the_whole(golden: Any) -> None:
    def change(content: dict[str, Any]) -> None:
        content["sample_rate"] = 44100
        del content["config"]["condition_dsp"]["sample_rate"]

    config = read_nam(golden("condition", change)).config
    assert config.condition is not None
    assert config.sample_rate == config.condition.sample_rate == 44100


def test_it_begins_from_silence_at_the_input(golden: Any) -> None:
    model = read_nam(golden("two-arrays"))
    x = torch.randn(1, 1, 40)
    silence = torch.zeros(1, 1, model.past)
    with torch.no_grad():
        padded = model(torch.cat([silence, x], -1), model.init_state(1))[..., model.past :]
        require_close(model(x), padded)
        assert float((model.stream(x, model.init_state(1))[0] - padded).abs().max()) > 1e-3


def test_a_checkpoint_names_the_architecture_and_load_returns_it(
    golden: Any, tmp_path: Path
) -> None:
    for name in ("films", "condition", "post-head", "activation-PReLU"):
        model = read_nam(golden(name))
        model.save(tmp_path / name, provenance={"from": "a test"})
        content = json.loads((tmp_path / name / "config.json").read_text())
        assert content["architecture"] == "nam-wavenet"
        loaded = wavenet.load(tmp_path / name, sample_rate=48000)
        assert isinstance(loaded, NamWaveNet)
        assert (loaded.config, loaded.metadata) == (model.config, model.metadata)
        assert torch.equal(answer(loaded), answer(model))
    with pytest.raises(ValueError, match="works at 48000 Hz, but 44100 Hz was asked for"):
        wavenet.load(tmp_path / "films", sample_rate=44100)
    with pytest.raises(ValueError, match="takes audio and no mel"):
        wavenet.load(tmp_path / "films", mel=wavenet.MelConfig())


def test_load_reads_a_nam_file_in_place(golden: Any) -> None:
    path = golden("films")
    loaded = wavenet.load(path, sample_rate=48000)
    assert isinstance(loaded, NamWaveNet)
    assert not loaded.training
    assert torch.equal(answer(loaded), answer(read_nam(path)))
    assert isinstance(wavenet.load(str(path)), NamWaveNet)
    with pytest.raises(ValueError, match="works at 48000 Hz, but 44100 Hz was asked for"):
        wavenet.load(path, sample_rate=44100)
    with pytest.raises(ValueError, match="takes audio and no mel"):
        wavenet.load(path, mel=wavenet.MelConfig())
    with pytest.raises(ValueError, match="a file has no revisions"):
        wavenet.load(path, revision="main")


def test_slopes_that_were_trained_are_exported_as_they_are_now(golden: Any, tmp_path: Path) -> None:
    model = read_nam(golden("activation-PReLU"))
    with torch.no_grad():
        model.stages()[0][0].all_layers()[0].activation.weight.fill_(0.5)
    write_nam(tmp_path / "trained.nam", model)
    again = read_nam(tmp_path / "trained.nam")
    assert torch.equal(answer(again), answer(model))
    assert not torch.allclose(answer(again), ANSWERS["activation-PReLU"], atol=1e-3)


LAYERS = (LayerConfig(3, 2, ActivationConfig("PReLU", (0.1, 0.2))),)


def test_heads_with_several_taps_and_wide_conditions_count_to_the_field() -> None:
    inner = NamConfig((ArrayConfig(1, 1, 2, 2, LAYERS, HeadConfig(3)),))
    head = HeadConfig(2, kernel_size=4, dilation=3)
    arrays = (
        ArrayConfig(1, 3, 2, 2, LAYERS, head),
        ArrayConfig(2, 3, 2, 2, LAYERS, HeadConfig(2, kernel_size=2)),
    )
    post = PostHeadConfig(3, 1, (2, 3), ActivationConfig("Tanh"))
    model = NamWaveNet(NamConfig(arrays, 0.5, post, 1, inner))
    # The farthest way: condition 4, head of the first array 9, of the second 1, post head 1 + 2;
    # the first array's convolution has a past of 4 samples of x, not of the condition.
    assert model.past == 4 + 9 + 1 + 3
    check_causal(model)
    compiled = Processor(model, model.warm_state(1))
    assert compiled.compiled
    x = torch.randn(1, 1, 200)
    with torch.no_grad():
        require_close(compiled(x), model(x), COMPILED)


def test_groups_too_many_to_unfold_run_by_torch_and_say_so() -> None:
    layers = (LayerConfig(2, 1),)
    array = ArrayConfig(
        1, 1, 1500, 1500, layers, HeadConfig(1), layer1x1_groups=1500, groups_input=1500
    )
    model = NamWaveNet(NamConfig((array,)))
    with pytest.warns(UserWarning, match="a convolution of 1500 groups is not compiled"):
        processor = Processor(model, model.init_state(1))
    assert not processor.compiled


def installed_reads() -> str:
    """The version of the format that the installed package reads, which is one alone."""
    major, minor = importlib.metadata.version("neural-amp-modeler").split(".")[:2]
    return "0.7.0" if (int(major), int(minor)) >= (0, 13) else "0.5.4"


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS.VARIANTS)
def test_the_package_itself_agrees_both_ways(name: str, tmp_path: Path) -> None:
    nam = pytest.importorskip(
        "nam.models.wavenet", reason="neural-amp-modeler is not installed; data/ holds its answers"
    )
    from nam.models._from_nam import init_from_nam

    if installed_reads() != "0.7.0":
        pytest.skip("neural-amp-modeler is older than 0.13, which these networks are of")
    config = {**copy.deepcopy(VARIANTS.VARIANTS[name]), "sample_rate": 48000.0}
    theirs = nam.WaveNet.init_from_config(config).eval()
    theirs.export(tmp_path, basename="theirs")
    ours = read_nam(tmp_path / "theirs.nam")
    x = 0.5 * torch.randn(6000)
    with torch.no_grad():
        expected = theirs(x, pad_start=True)
        require_close(ours(x[None, None])[0, 0], expected)
    write_nam(tmp_path / "ours.nam", ours, version="0.7.0")
    if name in VARIANTS.CANNOT_LOAD:
        return
    loaded = init_from_nam(json.loads((tmp_path / "ours.nam").read_text())).eval()
    with torch.no_grad():
        require_close(loaded(x, pad_start=True), expected)


def test_weights_that_are_normalized_are_saved_as_plain_ones(tmp_path: Path) -> None:
    model = NamWaveNet(preset("nano")).eval()
    weight_norm(model.arrays[0].rechannel)
    for part in model.modules():
        if isinstance(part, NamLayer):
            weight_norm(part.conv)
    model.save(tmp_path / "model")
    write_nam(tmp_path / "amp.nam", model)
    x = torch.randn(1, 1, 500)
    assert torch.equal(wavenet.load(tmp_path / "model")(x), model(x))
    assert torch.equal(read_nam(tmp_path / "amp.nam")(x), model(x))


def test_a_model_on_the_meta_device_is_not_written(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = NamWaveNet(preset("nano"))
    with pytest.raises(ValueError, match="model is on the meta device, where"):
        write_nam(tmp_path / "amp.nam", model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_the_package_loads_our_presets(name: str, tmp_path: Path) -> None:
    pytest.importorskip("nam.models", reason="neural-amp-modeler is not installed")
    from nam.models._from_nam import init_from_nam

    model, version = NamWaveNet(preset(name)).eval(), installed_reads()
    if version == "0.5.4" and name.startswith("a2"):
        pytest.skip("neural-amp-modeler is older than 0.13, and has no second architecture")
    write_nam(tmp_path / "ours.nam", model, version=version)
    loaded = init_from_nam(json.loads((tmp_path / "ours.nam").read_text())).eval()
    x = 0.5 * torch.randn(6000)
    with torch.no_grad():
        require_close(model(x[None, None])[0, 0], loaded(x, pad_start=True))
