"""What `wavenet bench sample --engine gpu` reports follows from what it measured."""

import json
from typing import Any

import pytest
import torch

from wavenet import WaveNet, WaveNetConfig
from wavenet.benchmark.gpu_speed import BatchSpeed, DeviceSpeed, measure_engines, measure_on_device
from wavenet.benchmark.roofline import count_weights
from wavenet.benchmark.timing import Spread
from wavenet.cli.main import main


def tiny() -> WaveNet:
    sizes = {"layers_per_stack": 2, "residual_channels": 16, "skip_channels": 16}
    return WaveNet(WaveNetConfig.preset("tiny", **sizes)).eval()


def found(**changes: Any) -> DeviceSpeed:
    """Rates of 4, 32 and 20 times real time, with 1, 16 and 32 rows."""
    rates = {("eager", 16): 100e3, ("gpu", 1): 40e3, ("gpu", 16): 320e3, ("gpu", 32): 200e3}
    values: dict[str, Any] = {
        "engine": "gpu",
        "weights": "float16",
        "rounds": 3,
        "sample_rate": 10_000,
        "n_weights": 1000,
        "weight_bytes": 2000,
        "runs": tuple(
            BatchSpeed(name, batch, Spread(rate / 2, rate, rate * 2))
            for (name, batch), rate in rates.items()
        ),
        "read_bytes_per_second": 80e6,
        "multiply_adds_per_second": 640e6,
        "machine": {"device": "a card", "torch": "2"},
    }
    return DeviceSpeed(**(values | changes))


def test_the_best_batch_makes_most_samples_of_all_rows_together() -> None:
    speed = found()
    assert (speed.best.batch, speed.best.samples_per_second.median) == (16, 320e3)
    assert speed.single_stream_samples_per_second == 40e3
    assert speed.ratio_to("eager") == 3.2
    assert speed.ratio_to("gpu-fused") is None


def test_streams_in_real_time_are_rows_that_each_keep_up() -> None:
    assert found().streams_in_real_time == 16  # 320 k samples/s for 16 rows of 10 k, not for 32
    assert found(sample_rate=50_000).streams_in_real_time == 0


def test_shares_are_of_what_the_card_can_read_and_multiply() -> None:
    speed = found()
    assert speed.share_of_reading == pytest.approx(320e3 / 16 * 2000 / 80e6)
    assert speed.share_of_arithmetic == pytest.approx(320e3 * 1000 / 640e6)


def test_the_table_and_the_json_say_the_same() -> None:
    speed = found()
    values = json.loads(speed.to_json())
    assert values["samples_per_second"] == 320e3
    assert values["streams_in_real_time"] == 16
    assert [run["batch"] for run in values["runs"]] == [16, 1, 16, 32]
    text = str(speed)
    assert "gpu engine      16    320,000  160,000  640,000               2.00" in text
    assert "best with 16 rows; 16 rows at once kept up with 10000 Hz" in text
    assert "0.50 of reading" in text
    assert "median of 3 rounds, a card, torch 2" in text


def test_engines_are_measured_where_the_model_is() -> None:
    model = tiny()
    speed = measure_engines(
        model, ["eager"], weights="float32", batches=[1, 3], samples=5, rounds=1
    )
    assert [(run.engine, run.batch) for run in speed.runs] == [("eager", 1), ("eager", 3)]
    assert speed.ratio_to("eager") == 1
    assert speed.n_weights == count_weights(model)
    assert speed.machine["device"] == "cpu"
    assert speed.read_bytes_per_second > 0
    assert speed.multiply_adds_per_second > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests the message where there is no GPU")
def test_without_a_gpu_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "sample", "--preset", "tiny", "--engine", "gpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "engine='gpu' is measured on a CUDA device and torch sees none here" in line


@pytest.mark.gpu
@pytest.mark.parametrize("engine", ["gpu", "gpu-fused"])
def test_on_a_gpu_every_engine_is_measured(engine: str) -> None:
    speed = measure_on_device(tiny(), engine=engine, batches=[1, 16], samples=64, rounds=2)
    assert {run.engine for run in speed.runs} >= {"eager", "gpu", engine}
    assert speed.single_stream_samples_per_second is not None
    assert 0 < speed.share_of_arithmetic < 1
