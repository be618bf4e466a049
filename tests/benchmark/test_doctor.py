"""benchmark.doctor: every part runs by itself, and the report survives the failure of any."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from wavenet.benchmark.doctor import measures, part, parts, training
from wavenet.benchmark.doctor.report import decisions, read_report
from wavenet.benchmark.doctor.runner import run_doctor
from wavenet.cli.main import main

MISBEHAVING = """
import json, os, signal, sys, time
name = sys.argv[1]
print(json.dumps({"rates": {"found before": 1.0}}), flush=True)
print("a line of some library", flush=True)
if name == "blocks":
    os.kill(os.getpid(), signal.SIGKILL)
if name == "engines":
    time.sleep(600)
if name == "memory":
    raise RuntimeError("out of luck\\nadvice of a driver: set a variable")
if name == "ceilings":
    os._exit(0)
print(json.dumps({"checks": {"all": {"passed": name != "training"}}}))
"""


def test_the_report_holds_the_other_parts_where_one_is_killed_one_hangs_and_one_raises(
    tmp_path: Path,
) -> None:
    names = ["blocks", "engines", "memory", "ceilings", "training", "training_window"]
    command = (sys.executable, "-c", MISBEHAVING)
    run_doctor("cpu", tmp_path, minutes=0.01, parts=names, command=command, least_seconds=2)
    found = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert list(found) == names
    assert {name: found[name]["status"] for name in names} == {
        "blocks": "killed",
        "engines": "timeout",
        "memory": "raised",
        "ceilings": "ok",
        "training": "failed",
        "training_window": "ok",
    }
    assert found["blocks"]["signal"] == 9
    assert found["memory"]["error"] == "RuntimeError: out of luck"
    assert "advice of a driver" in found["memory"]["stderr"]
    for name in ("blocks", "engines", "memory", "ceilings"):
        assert found[name]["rates"] == {"found before": 1.0}
    text = (tmp_path / "report.md").read_text()
    assert "| Blocks: chunks equal the whole | killed |" in text
    assert "raised: RuntimeError: out of luck" in text


def test_a_part_that_prints_nothing_has_raised(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "print('no json')")
    found = run_doctor("cpu", tmp_path, parts=["blocks"], command=command)["parts"]["blocks"]
    assert (found["status"], found["error"]) == ("raised", "the part printed no values")


LEAVES_A_PROCESS = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print('{"child": %d}' % child.pid, flush=True)
"""


def test_what_a_part_has_started_ends_with_it(tmp_path: Path) -> None:
    command = (sys.executable, "-c", LEAVES_A_PROCESS)
    found = run_doctor("cpu", tmp_path, parts=["blocks"], command=command)["parts"]["blocks"]
    assert found["status"] == "ok"
    assert is_dead(found["child"])


def is_dead(pid: int) -> bool:
    """Whether a process is gone, or waits for its parent to read how it ended."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


QUICK = ("device", "blocks", "contract", "refinement", "training_window", "ceilings", "memory")


@pytest.mark.parametrize("name", QUICK)
def test_a_part_runs_on_the_cpu_and_its_checks_pass(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts.main([name, "cpu"]) == 0
    values = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(check["passed"] for check in values.get("checks", {}).values())
    assert all(rate > 0 for rate in values.get("rates", {}).values())
    assert values


@pytest.mark.slow
def test_every_part_runs_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command as a user gives it, with every part in a process of its own."""
    assert main(["doctor", "--device", "cpu", "--out", str(tmp_path)]) == 0
    report = read_report(tmp_path)
    assert list(report["parts"]) == list(parts.PARTS)
    states = {name: part["status"] for name, part in report["parts"].items()}
    assert states == dict.fromkeys(parts.PARTS, "ok"), (tmp_path / "report.md").read_text()
    engines = report["parts"]["engines"]["checks"]
    assert {"predictor eager", "predictor cpu", "mu_law one-hot eager"} <= set(engines)
    assert all(check["passed"] for check in engines.values())
    assert report["parts"]["resumed_training"]["largest_difference"] == 0
    assert "| eager | float32 | 1 |" in capsys.readouterr().out


def test_a_missing_package_is_reported_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(part.importlib.util, "find_spec", lambda name: None)
    assert parts.main(["training", "cpu"]) == 0
    assert "needs lightning, jsonargparse" in json.loads(capsys.readouterr().out)["missing"]


def test_an_attempt_that_fails_is_told_with_its_error_and_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def short_of_memory() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee ...")

    def refusing() -> dict[str, Any]:
        raise ValueError("engine='gpu-fused' needs Triton")

    assert part.attempt(short_of_memory) == {
        "raised": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
        "passed": False,
    }
    assert "Traceback" in capsys.readouterr().err
    assert part.attempt(refusing) == {"refused": "engine='gpu-fused' needs Triton"}
    assert part.within(math.nan, 1.0)["passed"] is False


def test_sampling_goes_on_without_an_engine_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(model: object, engine: str, weights: str, batch: int) -> dict[str, Any]:
        if engine == "cpu":
            raise torch.OutOfMemoryError("no memory")
        return {"engine": engine, "batch": batch, "samples_per_second": 1.0}

    monkeypatch.setattr(measures, "_measure", measure)
    *_, values = measures.sampling(torch.device("cpu"), "tiny")
    assert [row["engine"] for row in values["rows"]] == ["eager"]
    assert values["checks"]["cpu float32"]["raised"] == "OutOfMemoryError: no memory"


def test_a_step_that_needs_too_much_memory_is_measured_with_half_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def step(device: torch.device, preset: str, window_s: float, compiled: bool, batch: int) -> Any:
        tried.append(batch)
        if batch > 8:
            raise torch.OutOfMemoryError("no memory")
        return {"batch_size": batch}

    monkeypatch.setattr(training, "_step_of", step)
    monkeypatch.setattr(training, "is_short", lambda device: False)
    found = training._step(torch.device("cpu"), "tiny", 1.0, False)
    assert (found, tried) == ({"batch_size": 8}, [32, 16, 8])


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_where_torch_sees_no_gpu_the_remedy_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert f"--device=cuda: torch {torch.__version__}, which " in printed
    assert "sees no GPU here; try nvidia-smi" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("device", "expected"), [("cuda", "--trainer.devices=1"), ("cuda:1", "--trainer.devices=[1]")]
)
def test_training_runs_on_the_gpu_that_was_named(device: str, expected: str) -> None:
    assert expected in training._trainer_arguments(torch.device(device))


def report(gpu: float, fused: float) -> dict[str, Any]:
    """A report of a card with one stream of two engines."""
    row = {"weights": "float32", "batch": 1}
    rows = [
        row | {"engine": "gpu", "samples_per_second": gpu, "real_time": gpu / 16000},
        row | {"engine": "gpu-fused", "samples_per_second": fused, "real_time": 2.0},
    ]
    sampled = {"title": "Sampling", "rows": rows, "seconds": 1.0, "status": "ok"}
    return {
        "date": "2026-01-01",
        "device": {"name": "cuda", "card": "A card", "torch": "2.11", "cuda": "13.0"},
        "parts": {"sampling_nv": sampled},
    }


@pytest.mark.parametrize(("fused", "verdict"), [(2.5, "keep it"), (1.9, "remove it")])
def test_the_triton_engine_is_kept_only_where_it_is_twice_the_graphs(
    fused: float, verdict: str
) -> None:
    assert decisions(report(10000, 10000 * fused))["triton engine"].startswith(verdict)


def test_a_table_is_made_of_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(32000, 64000)))
    assert main(["doctor", "--table", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| gpu | float32 | 1 | 32,000 | 2.00 |" in printed
    assert "| gpu-fused | float32 | 1 | 64,000 | 2.00 |" in printed
    assert "| nv, one stream, samples/s | 64,000 | 30,000 | 60,000 |" in printed


def test_tables_of_several_reports_are_printed_one_after_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--table", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "Not measured: no GPU has been at hand.\n"
    for name, gpu in (("b", 2), ("a", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report(gpu, 64000)))
    assert main(["doctor", "--table", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("**A card** (2026-01-01, commit unknown, torch 2.11, CUDA 13.0)") == 2
    assert printed.index("| gpu | float32 | 1 | 1 |") < printed.index("| gpu | float32 | 1 | 2 |")


def test_the_figures_of_the_pages_are_those_of_the_reports(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--table", str(repository / "benchmarks")]) == 0
    command = "wavenet doctor --table benchmarks"
    block = f"<!-- begin: {command} -->\n{capsys.readouterr().out}<!-- end: {command} -->\n"
    assert block in (repository / "docs" / "benchmarks.md").read_text()


def test_the_help_lists_the_wheels_that_a_bare_machine_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    words = set(capsys.readouterr().out.split())
    metadata = importlib.metadata.metadata("wavenet-audio").get_all("Requires-Dist") or []
    needed = [
        re.match(r"[\w-]+", line)[0]  # type: ignore[index]
        for line in metadata
        if "extra" not in line or re.search(r"extra == .(train|audio).$", line)
    ]
    assert len(needed) > 8
    assert set(needed) - {"wavenet-audio"} <= words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "--out is missing"),
        (["--device", "cpu", "--out", "out", "--part", "nothing"], "parts='nothing' is unknown"),
        (["--device", "cpu", "--out", "out", "--minutes", "0"], "minutes=0.0 must be positive"),
        (["--device", "meta", "--out", "out"], "models run on"),
        (["--table", "nowhere"], "nowhere is no report"),
        (["--table", "damaged.json"], "damaged.json is no report of `wavenet doctor`: KeyError"),
    ],
)
def test_mistakes_end_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    damaged = report(1, 2)
    del damaged["parts"]["sampling_nv"]["rows"][0]["weights"]
    Path("damaged.json").write_text(json.dumps(damaged))
    assert main(["doctor", *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()
