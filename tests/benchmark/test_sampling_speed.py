"""What `wavenet bench` reports belongs together; how fast a machine is, no test can know."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from wavenet import MelConfig, WaveNet, WaveNetConfig
from wavenet.benchmark.process_speed import CHUNKS, amplifier
from wavenet.benchmark.roofline import count_weights, weight_bytes
from wavenet.benchmark.sampling_speed import measure_sampling
from wavenet.benchmark.timing import Spread, aligned, take_turns
from wavenet.cli.main import main
from wavenet.generation.engines.cpu import engine as cpu
from wavenet.generation.engines.cpu.kernels.packing import pack_weights
from wavenet.generation.options import WEIGHTS

needs_numba = pytest.mark.skipif(not cpu.has_compiler(), reason="the limits are compiled by numba")


def tiny(**changes: Any) -> WaveNet:
    sizes = {"layers_per_stack": 2, "residual_channels": 16, "skip_channels": 16, **changes}
    return WaveNet(WaveNetConfig.preset("tiny", **sizes)).eval()


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["bench", *arguments, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return json.loads(lines[0])


@needs_numba
def test_one_json_object_with_shares_that_are_ratios_of_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny().save(tmp_path / "model")
    folder = str(tmp_path / "model")
    found = bench(capsys, "sample", "--model", folder, "--samples", "40", "--rounds", "3")
    assert (found["model"], found["rounds"], found["samples_per_round"]) == (folder, 3, 40)
    assert (found["engine"], found["weights"], found["batch"], found["threads"]) == (
        "cpu",
        "float32",
        1,
        1,
    )
    assert found["machine"]["cores"] == os.cpu_count()
    assert found["machine"]["torch"] == torch.__version__.split("+")[0]
    assert found["machine"]["processor"]
    assert found["machine"]["numba"]
    rate = found["samples_per_second"]
    assert found["real_time_factor"] == rate / 16000
    assert found["ratio_to_eager"] == rate / found["eager_samples_per_second"]
    assert found["limit"]["name"] in ("reading", "arithmetic")
    assert found["limit"]["samples_per_second"] == min(
        limit["samples_per_second"] for limit in found["limits"].values()
    )
    assert found["share_of_limit"] == rate / found["limit"]["samples_per_second"]
    for name in ("samples_per_second", "eager_samples_per_second"):
        spread = found[f"{name}_spread"]
        assert spread["min"] <= spread["median"] <= spread["max"]
        assert spread["median"] == found[name]


@needs_numba
def test_limits_follow_from_what_one_core_does() -> None:
    model = tiny()
    speed = measure_sampling(model, weights="float16", batch=3, samples=20, rounds=1)
    reading, arithmetic = speed.limits
    assert speed.weight_bytes == 2 * count_weights(model)
    assert reading.samples_per_second == pytest.approx(3 * reading.rate / speed.weight_bytes)
    assert arithmetic.samples_per_second == pytest.approx(arithmetic.rate / count_weights(model))
    assert speed.limit is min(speed.limits, key=lambda limit: limit.samples_per_second)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("distribution", ["mu_law", "logistic_mixture"])
def test_weight_bytes_are_those_of_the_packed_matrices(weights: str, distribution: str) -> None:
    # 16 mixtures have 48 params: whole registers, so that nothing is filled up with zeros.
    model = tiny(distribution=distribution, distribution_size=256 if "mu" in distribution else 16)
    assert weight_bytes(model, weights) == pack_weights(model, WEIGHTS[weights]).nbytes


def test_what_is_used_once_a_frame_does_not_count() -> None:
    assert count_weights(tiny(mel=MelConfig(sample_rate=16000))) == count_weights(tiny())


def test_zeros_that_fill_up_registers_do_not_count() -> None:
    model = tiny(residual_channels=10, skip_channels=12, gate_channels=14)
    assert weight_bytes(model, "float32") < pack_weights(model, torch.float32).nbytes
    layers, taps = 2 * model.config.stacks, model.config.kernel_size
    one_layer = taps * 10 * 14 + 7 * (10 + 12)
    assert count_weights(model) == layers * one_layer - 7 * 10 + 12 * 12 + 12 * 256


@needs_numba
def test_a_conditional_model_of_several_speakers_is_measured() -> None:
    model = tiny(mel=MelConfig(sample_rate=16000), speakers=2)
    speed = measure_sampling(model, samples=300, rounds=2)
    assert speed.engine == "cpu"
    assert speed.samples_per_second.min > 0


def test_the_eager_engine_is_once_as_fast_as_itself() -> None:
    speed = measure_sampling(tiny(), engine="eager", samples=5, rounds=1)
    assert speed.engine == "eager"
    assert speed.ratio_to_eager == 1


def test_without_numba_the_eager_engine_is_measured_and_the_limit_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu, "has_compiler", lambda: False)
    cpu.warn_without_compiler.cache_clear()
    with pytest.warns(RuntimeWarning, match="numba is missing"):
        speed = measure_sampling(tiny(), samples=5, rounds=1)
    assert speed.engine == "eager"
    assert speed.limits == ()
    assert speed.to_dict()["limit"] is None
    assert speed.to_dict()["share_of_limit"] is None
    assert "the machine's limit is left out" in str(speed)


@needs_numba
def test_the_table_is_aligned_and_says_what_binds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny().save(tmp_path / "model")
    given = (
        f"bench sample --model {tmp_path / 'model'} --seconds 0.001 --rounds 1 --batch 2".split()
    )
    assert main(given) == 0
    title, *table = capsys.readouterr().out.splitlines()
    assert title == str(tmp_path / "model")
    assert [line.split("  ")[0] for line in table[1:5]] == [
        "cpu engine",
        "eager engine",
        "limit: reading",
        "limit: arithmetic",
    ]
    end = table[0].index("samples/s") + len("samples/s")
    assert all(
        line[end - 1].isdecimal() and line[end : end + 2].strip() == "" for line in table[1:5]
    )
    assert "median of 1 round of 16 samples, 1 thread" in table[-1]
    assert sum(line.endswith(", which binds") for line in table) == 1


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    measure_sampling(tiny(), engine="eager", samples=2, rounds=1, threads=os.cpu_count() or 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample --rounds 0", "rounds=0 must be an integer of at least 1"),
        ("sample --batch 0", "batch=0 must be"),
        ("sample --threads 0", "threads=0 must be"),
        ("sample --threads 100000", "threads=100000 is more than the"),
        ("sample --samples -1", "samples=-1 must be"),
        ("sample --seconds nan", "--seconds=nan must be a positive number"),
        ("sample --samples 1 --seconds 1", "not allowed with"),
        ("sample --preset huge", "preset='huge' is unknown"),
        ("sample --preset tiny --model here", "not allowed with"),
        ("sample --model nowhere", "nowhere holds no config.json"),
        ("sample --weights int8", "weights='int8' is unknown"),
        ("sample --engine magic", "engine='magic' is unknown"),
        ("process --rounds 0", "rounds=0 must be"),
        ("", "MEASURE"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments.split()]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert message in shown.err


@needs_numba
def test_process_is_measured_by_length_of_the_chunks(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench(capsys, "process", "--rounds", "1")
    assert found["compiled"] is True
    assert [int(n) for n in found["chunks"]] == list(CHUNKS)
    for chunk in found["chunks"].values():
        ratio = chunk["real_time_factor"] / chunk["torch_real_time_factor"]
        assert chunk["ratio_to_torch"] == ratio


def test_the_amplifier_has_20_layers_of_kernel_size_3() -> None:
    assert amplifier().past == 2 * 2 * 1023


def test_candidates_take_turns() -> None:
    order: list[str] = []
    seconds = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert order == list("ababab")
    assert [len(seconds[name]) for name in "ab"] == [3, 3]


def test_spread_of_an_even_number_of_values_has_the_middle_between_two() -> None:
    assert Spread.of([4.0, 1.0, 3.0, 2.0]) == Spread(1.0, 2.5, 4.0)


def test_columns_are_aligned() -> None:
    assert aligned([("", "x"), ("name", "10")]) == ["       x", "name  10"]
