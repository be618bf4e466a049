"""Devices: one that is not here is refused in one line, before anything is moved to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import wavenet
from wavenet.values.devices import COUNTS, require_device


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "device=cuda: found 0 CUDA GPUs here; leave device out"),
        ("cuda:1", "device=cuda:1: found 0 CUDA GPUs here; leave device out"),
        (0, "device=cuda:0: found 0 CUDA GPUs here; leave device out"),
        ("gpu", "device='gpu' is no device; give cpu, cuda or cuda:0"),
        (3.5, "device=3.5 is no device; give cpu, cuda or cuda:0"),
    ],
)
def test_a_model_is_not_loaded_to_a_device_that_is_not_here(
    device: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COUNTS, "cuda", lambda: 0)
    with pytest.raises(ValueError, match="^" + message + "$"):
        wavenet.load("prompts-16k", device=device)


def test_a_type_of_device_that_no_model_runs_on_is_left_to_torch() -> None:
    assert require_device("meta") == torch.device("meta")
    assert wavenet.load("prompts-16k", device="meta").sample_rate == 16000
