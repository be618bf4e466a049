"""Checkpoints of wavenet_vocoder compute here what their own network computes."""

from __future__ import annotations

import collections
import io
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import wavenet
from wavenet.cli.main import main
from wavenet.distributions import mu_law_decode
from wavenet.interop.tensors import read_saved
from wavenet.interop.wavenet_vocoder import import_checkpoint
from wavenet.storage.checkpoint import CheckpointError

FLOAT32_ERROR = 1e-5
"""Of params of size 1 or so: two orders of the sums of a few layers."""

SETTINGS: dict[str, Any] = {
    "sample_rate": 16000,
    "input_type": "raw",
    "quantize_channels": 65536,
    "output_distribution": "Logistic",
    "out_channels": 9,
    "layers": 6,
    "stacks": 2,
    "residual_channels": 6,
    "gate_channels": 8,
    "skip_out_channels": 5,
    "kernel_size": 3,
    "cin_channels": 4,
    "cin_pad": 2,
    "hop_size": 12,
    "upsample_conditional_features": True,
    "upsample_net": "ConvInUpsampleNetwork",
    "upsample_params": {"upsample_scales": [3, 4]},
    "gin_channels": 3,
    "n_speakers": 4,
    "num_mels": 4,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "mixture of logistics, features and speakers": {},
    "Gaussian": {"output_distribution": "Normal", "out_channels": 2, "gin_channels": -1},
    "mixture of Gaussians": {"output_distribution": "Normal", "out_channels": 6},
    "classes one-hot": {
        "input_type": "mulaw-quantize",
        "out_channels": 32,
        "quantize_channels": 32,
    },
    "speakers alone": {"cin_channels": -1, "cin_pad": 0},
    "nothing but audio": {"cin_channels": -1, "gin_channels": -1, "kernel_size": 2},
    "features at the rate of the audio": {"upsample_conditional_features": False},
    "smoothing alone": {"upsample_net": "UpsampleNetwork", "cin_pad": 0},
    "smoothing over channels": {
        "upsample_params": {"upsample_scales": [3, 4], "freq_axis_kernel_size": 3}
    },
}
each_variant = pytest.mark.parametrize("name", VARIANTS)


def random_state_dict(settings: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors in the layout of the format, with weight norm as torch.nn.utils had it."""
    tensors: dict[str, Tensor] = {}

    def normed(name: str, *shape: int, bias: bool = True) -> None:
        tensors[f"{name}.weight_g"] = torch.rand(shape[0], *[1] * (len(shape) - 1)) + 0.5
        tensors[f"{name}.weight_v"] = torch.randn(shape)
        if bias:
            tensors[f"{name}.bias"] = 0.3 * torch.randn(shape[0])

    residual, gate = settings["residual_channels"], settings["gate_channels"]
    skip, out = settings["skip_out_channels"], settings["out_channels"]
    cin, gin = settings["cin_channels"], settings["gin_channels"]
    one_hot = settings["input_type"] == "mulaw-quantize"
    normed("first_conv", residual, out if one_hot else 1, 1)
    for i in range(settings["layers"]):
        layer = f"conv_layers.{i}"
        normed(f"{layer}.conv", gate, residual, settings["kernel_size"])
        normed(f"{layer}.conv1x1_out", residual, gate // 2, 1)
        normed(f"{layer}.conv1x1_skip", skip, gate // 2, 1)
        if cin > 0:
            normed(f"{layer}.conv1x1c", gate, cin, 1, bias=False)
        if gin > 0:
            normed(f"{layer}.conv1x1g", gate, gin, 1, bias=False)
    normed("last_conv_layers.1", skip, skip, 1)
    normed("last_conv_layers.3", out, skip, 1)
    if gin > 0:
        tensors["embed_speakers.weight"] = torch.randn(settings["n_speakers"], gin)
    if cin > 0 and settings["upsample_conditional_features"]:
        inner = "upsample_net"
        if settings["upsample_net"] == "ConvInUpsampleNetwork":
            width = 2 * settings["cin_pad"] + 1
            tensors["upsample_net.conv_in.weight"] = 0.3 * torch.randn(cin, cin, width)
            inner += ".upsample"
        params = settings["upsample_params"]
        for i, scale in enumerate(params["upsample_scales"]):
            bands = params.get("freq_axis_kernel_size", 1)
            normed(f"{inner}.up_layers.{2 * i + 1}", 1, 1, bands, 2 * scale + 1, bias=False)
    return tensors


def reference(
    tensors: dict[str, Tensor],
    settings: dict[str, Any],
    x: Tensor,
    features: Tensor | None,
    speaker: Tensor | None,
) -> Tensor:
    """The forward pass as the format's documentation defines it: params ``[B, P, T]``.

    ``x`` is ``[B, 1, T]``, or classes one-hot ``[B, classes, T]``.
    """

    def weight(name: str) -> Tensor:
        if f"{name}.weight" in tensors:
            return tensors[f"{name}.weight"]
        g, v = tensors[f"{name}.weight_g"], tensors[f"{name}.weight_v"]
        return g * v / v.pow(2).sum(dim=tuple(range(1, v.ndim)), keepdim=True).sqrt()

    def conv(name: str, signal: Tensor, dilation: int = 1) -> Tensor:
        kernel = weight(name)
        padded = F.pad(signal, ((kernel.shape[-1] - 1) * dilation, 0))
        return F.conv1d(padded, kernel, tensors.get(f"{name}.bias"), dilation=dilation)

    if features is not None and settings["upsample_conditional_features"]:
        pad, inner = settings["cin_pad"], "upsample_net"
        if settings["upsample_net"] == "ConvInUpsampleNetwork":
            features = F.pad(features, (pad, pad), mode="replicate")
            features = F.conv1d(features, weight("upsample_net.conv_in"))
            inner += ".upsample"
        image = features[:, None]
        for i, scale in enumerate(settings["upsample_params"]["upsample_scales"]):
            kernel = weight(f"{inner}.up_layers.{2 * i + 1}")
            image = image.repeat_interleave(scale, dim=-1)
            image = F.conv2d(image, kernel, padding=(kernel.shape[2] // 2, scale))
        features = image[:, 0]
    per_stack = settings["layers"] // settings["stacks"]
    signal, skips = conv("first_conv", x), torch.zeros(())
    for i in range(settings["layers"]):
        layer = f"conv_layers.{i}"
        z = conv(f"{layer}.conv", signal, dilation=2 ** (i % per_stack))
        if features is not None:
            z = z + conv(f"{layer}.conv1x1c", features)
        if speaker is not None:
            z = z + conv(f"{layer}.conv1x1g", tensors["embed_speakers.weight"][speaker][..., None])
        first, second = z.chunk(2, dim=1)
        gated = first.tanh() * second.sigmoid()
        skips = skips + conv(f"{layer}.conv1x1_skip", gated)
        signal = (signal + conv(f"{layer}.conv1x1_out", gated)) * math.sqrt(0.5)
    y = (skips / math.sqrt(settings["layers"])).relu()
    return conv("last_conv_layers.3", conv("last_conv_layers.1", y).relu())


def write(folder: Path, settings: dict[str, Any], tensors: Any, **options: Any) -> Path:
    """A folder as the training of wavenet_vocoder leaves it; the checkpoint's path."""
    (folder / "hparams.json").write_text(json.dumps(settings))
    content = {
        "state_dict": tensors,
        "optimizer": None,
        "global_step": 1000,
        "global_epoch": 3,
        "global_test_step": 0,
    }
    path = folder / "checkpoint_step000001000_ema.pth"
    torch.save(content, path, **options)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small one, with everything."""
    torch.manual_seed(0)
    return write(tmp_path, SETTINGS, random_state_dict(SETTINGS))


def refusal(path: Path) -> str:
    """The one line that importing prints."""
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is computed ---------------------------------------------------------------------------


def some_input(settings: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """The same audio as they and as we take it; features; speakers."""
    n = 60
    audio = network_input = torch.rand(2, 1, n) * 2 - 1
    if settings["input_type"] == "mulaw-quantize":
        classes = settings["quantize_channels"]
        code = torch.randint(0, classes, (2, n))
        audio = mu_law_decode(code, classes)[:, None]
        network_input = F.one_hot(code, classes).mT.float()
    features = speaker = None
    if settings["cin_channels"] > 0:
        frames = n // 12 if settings["upsample_conditional_features"] else n
        features = torch.randn(2, settings["cin_channels"], frames)
    if settings["gin_channels"] > 0:
        speaker = torch.tensor([3, 1])
    return network_input, audio, features, speaker


@each_variant
@torch.no_grad()
def test_an_imported_model_has_the_params_of_the_documented_network(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    settings = SETTINGS | VARIANTS[name]
    tensors = random_state_dict(settings)
    model = import_checkpoint(write(tmp_path, settings, tensors))
    network_input, audio, features, speaker = some_input(settings)
    expected = reference(tensors, settings, network_input, features, speaker)
    assert float(expected.std()) > 0.1
    cond = model.condition(features, speaker)
    params, _ = model.stream(audio, model.init_state(2), cond)  # theirs begins from zeros as well
    assert float((params - expected).abs().max()) < FLOAT32_ERROR


@pytest.mark.parametrize("name", ["classes one-hot", "mixture of logistics, features and speakers"])
def test_an_imported_model_generates_alike_on_both_engines(name: str, tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="the CPU engine is compiled by numba")
    torch.manual_seed(0)
    settings = SETTINGS | VARIANTS[name]
    model = import_checkpoint(write(tmp_path, settings, random_state_dict(settings)))
    _, _, features, speaker = some_input(settings)
    given = {"mel": features, "speaker": speaker, "seed": 0}
    fast = wavenet.generate(model, engine="cpu", **given)
    slow = wavenet.generate(model, engine="eager", **given)
    assert fast.shape == (2, 60)
    assert float((fast == slow).float().mean()) > 0.95  # the rest is rounding to 16 bits


@pytest.mark.parametrize("old_format", [True, False])
def test_both_formats_of_torch_save_are_read(old_format: bool, tmp_path: Path) -> None:
    tensors = random_state_dict(SETTINGS)
    options = {"_use_new_zipfile_serialization": not old_format}
    path = write(tmp_path, SETTINGS, tensors, **options)
    assert zipfile.is_zipfile(path) != old_format
    assert import_checkpoint(path).config.residual_channels == 6


def test_weights_without_and_with_either_weight_norm_are_the_same(tmp_path: Path) -> None:
    normed = random_state_dict(SETTINGS)
    plain, newer = {}, {}
    for key, value in normed.items():
        name = key.removesuffix("weight_g")
        if name != key:
            v = normed[f"{name}weight_v"]
            plain[f"{name}weight"] = torch._weight_norm(v, value, 0)
            newer[f"{name}parametrizations.weight.original0"] = value
            newer[f"{name}parametrizations.weight.original1"] = v
        elif not key.endswith("weight_v"):
            plain[key] = newer[key] = value
    (tmp_path / "a").mkdir()
    models = [import_checkpoint(write(tmp_path, SETTINGS, part)) for part in (normed, plain, newer)]
    first, *others = [model.state_dict() for model in models]
    for other in others:
        assert all(torch.allclose(other[key], first[key], atol=1e-6) for key in first)


def test_the_command_writes_a_checkpoint_with_its_provenance(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(checkpoint), str(tmp_path / "model")]) == 0
    assert "parameters from r9y9/wavenet_vocoder" in capsys.readouterr().out
    model = wavenet.load(tmp_path / "model")
    ours = import_checkpoint(checkpoint).state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in model.state_dict().items())
    assert model.config.features is not None
    assert model.config.features.hop_samples == 12
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    assert content["provenance"]["imported"] == "r9y9/wavenet_vocoder"
    assert content["provenance"]["hparams"] == SETTINGS


def test_settings_may_lie_elsewhere(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes((checkpoint.parent / "hparams.json").read_bytes())
    (checkpoint.parent / "hparams.json").unlink()
    assert "hparams.json is missing; it holds the settings" in refusal(checkpoint)
    assert import_checkpoint(checkpoint, tmp_path / "other.json").config.kernel_size == 3


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_type": "mulaw"}, "input_type is 'mulaw'; this package reads mulaw-quantize and"),
        ({"output_distribution": "Cauchy"}, "output_distribution is 'Cauchy'; this package reads"),
        ({"out_channels": 7}, "out_channels is 7; Logistic needs a multiple of 3"),
        ({"layers": 7}, "layers is 7; it does not go with stacks=2"),
        ({"layers": 2000, "stacks": 1}, "layers is 2000; it does not go with stacks=1"),
        ({"layers": "6"}, "layers is '6'; expected an integer of at least 1"),
        ({"kernel_size": True}, "kernel_size is True; expected an integer"),
        ({"hop_size": 256}, "hop_size is 256; upsample_scales multiply to 12"),
        ({"upsample_net": "Deconv"}, "upsample_net is 'Deconv'; this package reads ConvIn"),
        ({"upsample_net": "UpsampleNetwork"}, "cin_pad is 2; UpsampleNetwork is read with cin_pad"),
        ({"upsample_params": None}, "upsample_params is None; expected a mapping"),
        ({"upsample_params": {}}, "upsample_scales is missing; expected a list"),
        (
            {"upsample_params": {"upsample_scales": [3, 4], "upsample_activation": "ReLU"}},
            "upsample_activation is 'ReLU'; this package reads none",
        ),
        ({"legacy": True}, "upsample_params is {'upsample_scales': [3, 4]}; it is a setting of"),
        ({"gate_channels": 7}, "gate_channels=7 must be even"),
    ],
)
def test_settings_that_no_model_of_ours_expresses_are_named(
    changes: dict[str, Any], message: str, checkpoint: Path
) -> None:
    path = checkpoint.parent / "hparams.json"
    path.write_text(json.dumps(SETTINGS | changes))
    assert message in refusal(checkpoint)
    assert str(path) in refusal(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residual_channels": 7}, r"has shape (8, 6, 3), but hparams ask for (8, 7, 3)"),
        ({"layers": 8}, "has weights and biases of 6 dilated convolutions, but hparams have layer"),
        (
            {"layers": 2000, "stacks": 2000},
            "of 6 dilated convolutions, but hparams have layers=2000",
        ),
        ({"residual_channels": 60_000}, "but hparams ask for (8, 60000, 3)"),
        ({"n_speakers": 10**6}, "embed_speakers.weight has shape (4, 3), but hparams ask for"),
        (
            {"gin_channels": -1},
            "has a tensor conv_layers.0.conv1x1g.weight of shape (8, 3, 1) that",
        ),
        ({"upsample_params": {"upsample_scales": [4, 3]}}, "has shape (1, 1, 1, 7), but hparams"),
        (
            {"upsample_params": {"upsample_scales": [12]}},
            "up_layers.1.weight has shape (1, 1, 1, 7), but",
        ),
        ({"upsample_params": {"upsample_scales": [3, 4, 1]}}, "lacks the tensor upsample_net"),
    ],
)
def test_tensors_that_do_not_fit_the_settings_are_named_with_their_shapes(
    changes: dict[str, Any], message: str, checkpoint: Path
) -> None:
    (checkpoint.parent / "hparams.json").write_text(json.dumps(SETTINGS | changes))
    assert message in refusal(checkpoint)


class Malice:
    """Unpickles to a call that leaves a file behind."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("kind", ["new format", "old format", "bare pickle"])
def test_code_in_a_pickle_is_not_run(kind: str, tmp_path: Path) -> None:
    witness = tmp_path / "was-run"
    content = {"state_dict": {"first_conv.bias": Malice(witness)}}
    path = write(tmp_path, SETTINGS, {})
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "new format")
    asked = f"it asks for {os.mkdir.__module__}.mkdir; nothing was run"
    assert f"holds more than tensors and numbers, or is damaged: {asked}" in refusal(path)
    assert not witness.exists()


class Call:
    """Unpickles to any call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (Call(bytearray, 10**11), "it asks for __builtin__.bytearray"),
        (Call(torch.Size, (10**6,) * 2), "it asks for torch.Size"),
        (Call(collections.OrderedDict, [(1, 2)]), "it makes a dictionary of another one"),
        (torch.zeros(1).expand(10**12), "it has a tensor that claims more than is there"),
        (torch.zeros(3).to_sparse(), "it asks for torch._utils._rebuild_sparse_tensor"),
    ],
)
def test_a_file_that_asks_for_more_memory_than_its_size_is_refused_before_it_gets_it(
    call: Any, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, SETTINGS, {"first_conv.bias": call})
    assert message in refusal(path)


@pytest.mark.parametrize("old_format", [True, False])
def test_a_storage_that_claims_more_than_the_file_is_refused(
    old_format: bool, tmp_path: Path
) -> None:
    tensors = {"first_conv.bias": torch.zeros(77)}
    options = {"_use_new_zipfile_serialization": not old_format}
    path = write(tmp_path, SETTINGS, tensors, **options)
    claim = b"\x8a\x05" + (10**11).to_bytes(5, "little")  # LONG1 in the place of BININT1
    path.write_bytes(grown(path, b"K\x4d", claim))
    assert "its storages claim more than the file's" in refusal(path)


def grown(path: Path, old: bytes, new: bytes) -> bytes:
    """The file with the first ``old`` in its pickle replaced."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes().replace(old, new, 1)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in parts.items():
            pickled = name.endswith("data.pkl")
            archive.writestr(name, content.replace(old, new, 1) if pickled else content)
    return whole.getvalue()


def test_numbers_of_numpy_in_the_state_of_the_optimiser_are_no_hindrance(tmp_path: Path) -> None:
    path = write(tmp_path, SETTINGS, random_state_dict(SETTINGS))
    content = torch.load(path, weights_only=True)
    rate = np.float64(1e-3) * np.minimum(2.0, 3.0)
    content["optimizer"] = {"state": {}, "param_groups": [{"lr": rate, "betas": (0.9, 0.99)}]}
    for new_format in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=new_format)
        assert import_checkpoint(path).config.stacks == 2


@pytest.mark.parametrize("old_format", [True, False])
def test_a_file_cut_anywhere_is_refused(old_format: bool, tmp_path: Path) -> None:
    options = {"_use_new_zipfile_serialization": not old_format}
    path = write(tmp_path, SETTINGS, random_state_dict(SETTINGS), **options)
    whole = path.read_bytes()
    for length in (0, 1, 9, 100, len(whole) // 3, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:length])
        assert str(path) in refusal(path)
    path.write_bytes(b"\x80\x02" + os.urandom(500))
    assert str(path) in refusal(path)


@pytest.mark.parametrize("old_format", [True, False])
def test_no_message_advises_to_unpickle_a_damaged_file(old_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    saved = {"state_dict": collections.OrderedDict(a=torch.zeros(3)), "optimizer": {"lr": 0.1}}
    torch.save(saved, path, _use_new_zipfile_serialization=not old_format)
    whole = path.read_bytes()
    refusals = []
    for position in range(min(len(whole), 500)):
        path.write_bytes(whole[:position] + b"0" + whole[position + 1 :])
        try:
            read_saved(path)
        except CheckpointError as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    for line in refusals:
        assert "\n" not in line
        assert "weights" not in line
        assert len(line) < len(str(path)) + 250


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("first_conv.bias", torch.full((6,), math.nan), "first_conv.bias has values that are not"),
        (
            "first_conv.bias",
            torch.zeros(6, dtype=torch.int64),
            "is of torch.int64, expected floats",
        ),
        ("first_conv.bias", 3, "first_conv.bias is a int, not a tensor"),
        ("first_conv.bias", torch.zeros(1).expand(9999), "its tensors claim 4"),
        ("first_conv.weight_v", torch.zeros(6, 1, 1), "or that has a channel of zeros"),
        ("first_conv.weight_g", torch.ones(3, 1, 1), "is no weight norm of first_conv.weight_v"),
        (7, torch.zeros(1), "holds no state_dict of named tensors"),
    ],
)
def test_tensors_that_are_no_finite_floats_are_named(
    key: Any, value: Any, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, SETTINGS, random_state_dict(SETTINGS) | {key: value})
    assert message in refusal(path)


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, SETTINGS, {"first_conv.bias": torch.zeros(100_000)})
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert path.stat().st_size < 10_000
    assert "is compressed, as torch.save never does" in refusal(path)


def test_the_command_prints_the_reason_in_one_line_and_writes_nothing(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    assert main(["import", str(checkpoint), str(tmp_path / "model")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "model").exists()
    assert main(["import", str(tmp_path / "model.h5"), str(tmp_path / "model")]) == 2
    assert "ends in .h5; name a file that ends in .nam, .pt, .pth" in capsys.readouterr().err
