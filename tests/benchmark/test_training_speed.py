"""``wavenet bench train``: what it reports, and that the plain network is one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from wavenet import WaveNet, WaveNetConfig
from wavenet.benchmark import training_speed
from wavenet.benchmark.memory import peak_bytes
from wavenet.benchmark.reference_model import PlainWaveNet
from wavenet.benchmark.training_speed import TrainingStep, measure_training
from wavenet.cli.main import main
from wavenet.data import WindowPlan
from wavenet.training.loss import bits_per_sample

SMALL: dict[str, Any] = {"layers_per_stack": 3, "stacks": 1, "residual_channels": 8}


@pytest.fixture
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product and a copy that take milliseconds: how fast the machine is, no test can know."""
    monkeypatch.setattr(training_speed, "_MATRIX", 256)
    monkeypatch.setattr(training_speed, "_COPIED_BYTES", 2**20)


def config(**changes: Any) -> WaveNetConfig:
    return WaveNetConfig.from_dict({**SMALL, "skip_channels": 8, **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"mel": "wavenet-16k"}, {"speakers": 1, "speaker_names": ["a"], "kernel_size": 3}],
)
def test_the_plain_network_computes_what_the_model_computes(changes: dict[str, Any]) -> None:
    """With the same weights it has the same loss: the reference does the same work."""
    model = WaveNet(config(**changes))
    plain = PlainWaveNet(model.config)
    plain.load_state_dict(_renamed(model))
    plan = WindowPlan.of(model, 0.05)
    n = plan.warm_up + plan.length
    batch = {"x": torch.rand(2, 1, n) - 0.5, "mask": torch.ones(2, 1, n)}
    if plan.mel is not None:
        frames = n // plan.hop + 2 * plan.context_frames
        batch["mel"] = torch.randn(2, plan.mel.n_mels, frames)
        batch["frame"] = torch.arange(frames).repeat(2, 1)
    if plan.speakers:
        batch["speaker"] = torch.zeros(2, dtype=torch.long)
    own, other = bits_per_sample(model, batch, plan), plain.bits_per_sample(batch, plan)
    torch.testing.assert_close(own, other, rtol=1e-5, atol=0)


def _renamed(model: WaveNet) -> dict[str, torch.Tensor]:
    names = {
        "input_projection": "entry",
        "stack.blocks": "layers",
        "cond_projection": "cond",
        "residual_projection": "residual",
        "skip_projection": "skip",
        "frame_encoder": "encoder",
        "speaker_embedding": "speakers",
    }
    renamed = {}
    for name, tensor in model.state_dict().items():
        if name == "mel_filterbank":
            continue
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


@pytest.mark.usefixtures("small_ceilings")
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_the_figures_belong_together(precision: str) -> None:
    assert_figures_belong_together(precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_beside_a_large_product_and_a_large_copy_they_belong_together_too(precision: str) -> None:
    assert_figures_belong_together(precision)


def assert_figures_belong_together(precision: str) -> None:
    speed = measure_training(config(), TrainingStep(precision, 0.01, 3), rounds=2)
    found = json.loads(speed.to_json())
    assert found["precision"] == precision
    assert found["window_samples"] == 160
    assert found["warm_up_samples"] == 8  # 7 samples of past and one more
    assert (found["batch_size"], found["rounds"], found["threads"]) == (3, 2, 1)
    for name in ("samples_per_second", "plain_samples_per_second", "plain_same_samples_per_second"):
        spread = found[f"{name}_spread"]
        assert 0 < spread["min"] <= found[name] == spread["median"] <= spread["max"]
    ratio = found["samples_per_second"] / found["plain_samples_per_second"]
    assert found["ratio_to_plain"] == pytest.approx(ratio)
    share = found["samples_per_second"] * found["multiply_adds"] / found["matrix_multiply_adds"]
    assert found["share_of_matrix"] == pytest.approx(share)
    assert f"training, {precision}" in str(speed)
    assert ("plain, bf16" in str(speed)) == (precision == "bf16")


@pytest.mark.usefixtures("small_ceilings")
def test_measuring_changes_neither_the_global_seed_nor_the_threads() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    measure_training(config(), TrainingStep(window_s=0.01), rounds=1)
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


def test_the_peak_is_what_the_work_held_at_a_time() -> None:
    def work() -> None:
        for _ in range(3):
            torch.ones(25_000_000)  # 100 MB, freed before the next

    peak = peak_bytes(work, torch.device("cpu"))
    if peak is None:
        pytest.skip("this system does not report a process's peak memory")
    assert 90e6 < peak < 190e6  # one at a time, give or take what else the process did


@pytest.mark.usefixtures("small_ceilings")
def test_the_command_prints_json_and_refuses_what_it_cannot_measure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["bench", "train", "--preset", "tiny", "--window-s", "0.005", "--batch-size", "1"]
    assert main([*arguments, "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "tiny"
    assert found["window_samples"] == 80
    for wrong, message in (
        (["--precision", "8"], "precision='8' is unknown; choose one of 32, bf16"),
        (["--rounds", "0"], "rounds=0 must be an integer of at least 1"),
        (["--batch-size", "0"], "batch_size=0 must be an integer of at least 1"),
        (["--window-s", "-1"], "window_s=-1.0 must be positive and finite"),
    ):
        assert main([*arguments, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_where_products_are_slow_the_matrices_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(training_speed, "_LONGEST_PRODUCT_S", 0.0)
    assert training_speed._matrix_side(torch.float32, cpu) == 256
    monkeypatch.setattr(training_speed, "_LONGEST_PRODUCT_S", float("inf"))
    assert training_speed._matrix_side(torch.float32, cpu) == 2048
