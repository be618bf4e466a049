"""Writes data/: small networks of the package wavenet_vocoder 0.1.1, and what they answer.

    pip install --no-deps wavenet_vocoder==0.1.1
    python tests/interop/make_wavenet_vocoder_golden.py

The settings are those of its presets, with fewer layers and channels. Its code runs on any torch,
but it is not kept, so it is not installed with the tests.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from wavenet_vocoder.builder import wavenet

DATA = Path(__file__).with_name("data")
PRESET: dict[str, Any] = {
    "builder": "wavenet",
    "input_type": "raw",
    "quantize_channels": 65536,
    "sample_rate": 22050,
    "hop_size": 12,
    "out_channels": 9,
    "layers": 8,
    "stacks": 2,
    "residual_channels": 6,
    "gate_channels": 8,
    "skip_out_channels": 5,
    "dropout": 0.05,
    "kernel_size": 3,
    "weight_normalization": True,
    "cin_channels": 5,
    "upsample_conditional_features": True,
    "upsample_scales": [3, 4],
    "freq_axis_kernel_size": 3,
    "gin_channels": -1,
    "n_speakers": 7,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "ljspeech_mixture": {},
    "multispeaker_cmu_arctic_mixture": {"sample_rate": 16000, "gin_channels": 3},
    "cmu_arctic_8bit": {
        "sample_rate": 16000,
        "input_type": "mulaw-quantize",
        "quantize_channels": 32,
        "out_channels": 32,
    },
    "plain sum of skips": {"legacy": False},
    "without weight norm": {"weight_normalization": False, "freq_axis_kernel_size": 1},
    "one layer": {"layers": 1, "stacks": 1, "upsample_conditional_features": False},
    "nothing but audio": {"cin_channels": -1, "kernel_size": 2},
}
NOT_OF_THE_NETWORK = ("builder", "input_type", "quantize_channels", "sample_rate", "hop_size")


def answered(settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The state dict of a random network, an input, and the answer."""
    sizes = {key: value for key, value in settings.items() if key not in NOT_OF_THE_NETWORK}
    classes = settings["input_type"] == "mulaw-quantize"
    network = wavenet(**sizes, scalar_input=not classes).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # its biases begin at 0, its upsampling as a mean
            parameter.add_(0.3 * torch.randn_like(parameter))
    n, given, tensors = 48, {}, {}
    x = torch.rand(2, 1, n) * 2 - 1
    if classes:
        tensors["code"] = torch.randint(0, settings["out_channels"], (2, n))
        x = F.one_hot(tensors["code"], settings["out_channels"]).mT.float()
    else:
        tensors["audio"] = x
    if settings["cin_channels"] > 0:
        frames = n // 12 if settings["upsample_conditional_features"] else n
        given["c"] = tensors["features"] = torch.rand(2, settings["cin_channels"], frames)
    if settings["gin_channels"] > 0:
        tensors["speaker"] = torch.tensor([6, 2])
        given["g"] = tensors["speaker"][:, None]
    with torch.no_grad():
        tensors["params"] = network(x, **given)
    weights = {f"state_dict.{key}": value for key, value in network.state_dict().items()}
    return tensors | weights


def main() -> None:
    """All variants: their settings as JSON, and all tensors."""
    torch.manual_seed(0)
    settings = {name: PRESET | changes for name, changes in VARIANTS.items()}
    tensors = {
        f"{name}/{key}": tensor.contiguous()
        for name, one in settings.items()
        for key, tensor in answered(one).items()
    }
    version = importlib.metadata.version("wavenet_vocoder")
    DATA.mkdir(exist_ok=True)
    (DATA / "wavenet_vocoder_golden.json").write_text(json.dumps(settings) + "\n")
    save_file(tensors, DATA / "wavenet_vocoder_golden.safetensors", {"wavenet_vocoder": version})


if __name__ == "__main__":
    main()
