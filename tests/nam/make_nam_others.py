"""Writes data/nam_others.*: the architectures beside WaveNet, as Neural Amp Modeler has them.

    pip install neural-amp-modeler==0.13.0
    python tests/nam/make_nam_others.py

Of each: the file that its own package exports, and what the package answers to one input.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import torch
from nam.models._constants import MODEL_VERSION
from nam.models.conv_net import ConvNet
from nam.models.linear import Linear
from nam.models.recurrent import LSTM
from nam.models.sequential import Sequential
from nam.models.wavenet import WaveNet
from safetensors.torch import save_file

DATA = Path(__file__).with_name("data")
RATE = {"sample_rate": 48000}


def sequence() -> Sequential:
    """A network behind convolutions and in front of a sequence of convolutions."""
    array = runpy.run_path(str(Path(__file__).with_name("nam_variants.py")))["array"]
    network = {"layers_configs": [array(channels=2)], "head_scale": 0.5, **RATE}
    first, last = (ConvNet(channels=2, dilations=[1, 4], **RATE) for _ in range(2))
    return Sequential(models=[first, WaveNet.init_from_config(network), Sequential(models=[last])])


def main() -> None:
    """All files in one JSON object, and the answers."""
    torch.manual_seed(0)
    x = 0.5 * torch.randn(200)
    normed = ConvNet(channels=3, dilations=[1, 2, 4], batchnorm=True, activation="ReLU", **RATE)
    for module in normed.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    models = {
        "linear": Linear(7, bias=True, **RATE),
        "conv-net": ConvNet(channels=4, dilations=[1, 2, 4, 8], **RATE),
        "conv-net-batchnorm": normed,
        "lstm": LSTM(hidden_size=3, num_layers=1, **RATE),
        "lstm-layers": LSTM(hidden_size=4, num_layers=2, **RATE),
    }
    models["sequential-joined"] = sequence()
    files, tensors = {}, {"input": x}
    for name, model in models.items():
        model.eval()
        files[name] = {
            "version": MODEL_VERSION,
            "architecture": type(model).__name__,
            "config": model._export_config(),
            "weights": model._export_weights().tolist(),
            **RATE,
        }
        if name.startswith("lstm"):  # begin where the file does
            model.import_weights(torch.tensor(files[name]["weights"]).numpy())
        with torch.no_grad():
            tensors[name] = model(x, pad_start=True)
    (DATA / "nam_others.json").write_text(json.dumps(files) + "\n")
    save_file(tensors, DATA / "nam_others.safetensors", {"neural-amp-modeler": "0.13.0"})


if __name__ == "__main__":
    main()
