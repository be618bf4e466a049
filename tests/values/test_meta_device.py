"""wavenet.values.meta_device: what needs the values of weights refuses a module without any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import wavenet
from wavenet.testing import check_causal
from wavenet.training import TrainingConfig, fit

USES: dict[str, Callable[[wavenet.WaveNet, Path], object]] = {
    "save": lambda model, path: model.save(path),
    "generate": lambda model, path: wavenet.generate(model, duration_s=0.01),
    "export": lambda model, path: wavenet.export(model, path.with_suffix(".pt2")),
    "fit": lambda model, path: fit(model, path / "wavs", path, TrainingConfig(max_steps=1)),
    "check_causal": lambda model, path: check_causal(model),
}


@pytest.mark.parametrize("use", USES)
def test_a_model_on_the_meta_device_is_refused_with_the_remedy(use: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = wavenet.WaveNet(wavenet.WaveNetConfig(layers_per_stack=2, stacks=1))
    with pytest.raises(ValueError, match=r"on the meta device.* call \w+\.to_empty\(device='cpu'"):
        USES[use](model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
