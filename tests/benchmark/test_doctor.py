"""benchmark.doctor: every part runs by itself, and the report survives the failure of any."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from wavenet.benchmark.doctor import part, parts
from wavenet.benchmark.doctor.report import decisions, read_report, tables
from wavenet.benchmark.doctor.runner import run_doctor
from wavenet.cli.main import main

MISBEHAVING = """
import json, os, signal, sys, time
name = sys.argv[1]
if name == "blocks":
    os.kill(os.getpid(), signal.SIGKILL)
if name == "engines":
    time.sleep(600)
if name == "memory":
    raise RuntimeError("out of luck")
if name == "ceilings":
    sys.exit(print("no json"))
print(json.dumps({"checks": {"all": {"passed": name != "training"}}}))
"""


def test_the_report_holds_the_other_parts_where_one_is_killed_one_hangs_and_one_raises(
    tmp_path: Path,
) -> None:
    names = ["blocks", "engines", "memory", "ceilings", "training", "training_window"]
    command = (sys.executable, "-c", MISBEHAVING)
    run_doctor("cpu", tmp_path, minutes=0.01, parts=names, command=command, least_seconds=2)
    found = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert {name: found[name]["status"] for name in names} == {
        "blocks": "killed",
        "engines": "timeout",
        "memory": "raised",
        "ceilings": "raised",
        "training": "failed",
        "training_window": "ok",
    }
    assert found["blocks"]["signal"] == 9
    assert found["memory"]["error"] == "RuntimeError: out of luck"
    text = (tmp_path / "report.md").read_text()
    assert "| Blocks: chunks equal the whole | killed |" in text
    assert "raised: RuntimeError: out of luck" in text


@pytest.mark.parametrize("name", ["blocks", "training_window", "ceilings"])
def test_a_part_runs_on_the_cpu_and_its_checks_pass(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parts.main([name, "cpu"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert all(check["passed"] for check in values.get("checks", {}).values())
    assert all(rate > 0 for rate in values.get("rates", {}).values())
    assert values


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(set(parts.PARTS) - {"blocks", "training_window", "ceilings"})
)
def test_every_other_part_runs_on_the_cpu(name: str) -> None:
    values = parts.PARTS[name].measure(torch.device("cpu"))
    assert all(check.get("passed", True) for check in values.get("checks", {}).values())


def test_a_missing_package_is_reported_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(part.importlib.util, "find_spec", lambda name: None)
    assert parts.main(["training", "cpu"]) == 0
    assert "needs lightning, jsonargparse" in json.loads(capsys.readouterr().out)["missing"]


def report(gpu: float, fused: float) -> dict[str, Any]:
    rows = [
        {"engine": "gpu", "batch": 1, "samples_per_second": gpu, "real_time": gpu / 16000},
        {"engine": "gpu-fused", "batch": 1, "samples_per_second": fused, "real_time": 2.0},
    ]
    part = {"title": "Sampling", "rows": rows, "weights": "float32", "seconds": 1.0}
    return {"parts": {"sampling_nv": part | {"status": "ok"}}}


@pytest.mark.parametrize(("fused", "verdict"), [(2.5, "keep it"), (1.9, "remove it")])
def test_the_triton_engine_is_kept_only_where_it_is_twice_the_graphs(
    fused: float, verdict: str
) -> None:
    assert decisions(report(10000, 10000 * fused))["triton engine"].startswith(verdict)


def test_a_table_is_made_of_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(32000, 64000)))
    assert main(["doctor", "--table", str(tmp_path)]) == 0
    assert "| gpu | 1 | 32,000 | 2.00 |" in capsys.readouterr().out
    assert "| gpu-fused | 1 | 64,000 | 2.00 |" in "\n".join(tables(read_report(tmp_path)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu"], "--out is missing"),
        (["--device", "cpu", "--out", "out", "--part", "nothing"], "parts='nothing' is unknown"),
        (["--device", "cpu", "--out", "out", "--minutes", "0"], "minutes=0.0 must be positive"),
        (["--table", "nowhere"], "nowhere is no report"),
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
    assert main(["doctor", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
