"""Writes data/: models made by Neural Amp Modeler's own package, and what it answers with them.

    pip install neural-amp-modeler==0.13.0
    python tests/nam/make_nam_golden.py

The package asks for another Lightning than ours, so it is not installed with the tests.
"""

from __future__ import annotations

import copy
import importlib.metadata
import json
import runpy
import tempfile
from pathlib import Path

import torch
from nam.models.wavenet import WaveNet
from nam.models.wavenet._packed_wavenet import PackedWaveNet
from safetensors.torch import save_file

DATA = Path(__file__).with_name("data")
VARIANTS = runpy.run_path(str(Path(__file__).with_name("nam_variants.py")))["VARIANTS"]
SIZES = [{"channels": 2}, {"channels": 4}]


def exported(model: torch.nn.Module) -> dict[str, object]:
    """The content of the file, without the date."""
    with tempfile.TemporaryDirectory() as folder:
        model.export(Path(folder), basename="model")
        content = json.loads(Path(folder, "model.nam").read_text())
    content["metadata"].pop("date", None)
    return content


def main() -> None:
    """All variants in one JSON object, and the answers to one input."""
    torch.manual_seed(0)
    x = 0.5 * torch.randn(300)
    tensors, files = {"input": x}, {}
    for name, config in VARIANTS.items():
        model = WaveNet.init_from_config({**copy.deepcopy(config), "sample_rate": 48000.0}).eval()
        files[name] = exported(model)
        with torch.no_grad():
            tensors[name] = model(x, pad_start=True)
    array = runpy.run_path(str(Path(__file__).with_name("nam_variants.py")))["array"]
    submodels = [
        {"name": f"size {i}", "config": {"layers_configs": [array(**size)], "head_scale": 0.5}}
        for i, size in enumerate(SIZES)
    ]
    packed = PackedWaveNet.init_from_config({"submodels": submodels, "sample_rate": 48000.0}).eval()
    files["container"] = exported(packed)
    with torch.no_grad():
        both = packed(x[None], pad_start=True)
        for i in range(len(SIZES)):
            tensors[f"container-{i}"] = both[0, i].clone()
    version = importlib.metadata.version("neural-amp-modeler")
    DATA.mkdir(exist_ok=True)
    (DATA / "nam_golden.json").write_text(json.dumps(files) + "\n")
    save_file(tensors, DATA / "nam_golden.safetensors", {"neural-amp-modeler": version})


if __name__ == "__main__":
    main()
