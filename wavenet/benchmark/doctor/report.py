"""The report of ``wavenet doctor``: JSON, Markdown tables, and what the figures decide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wavenet.storage.files import atomic_write

TRITON_GAIN = 2.0
"""The Triton engine is worth its code where it is this many times as fast as CUDA graphs."""


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write ``report.json`` and ``report.md`` into a folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    report = report | {"decisions": decisions(report)}
    texts = {
        "report.json": json.dumps(report, indent=1),
        "report.md": markdown(report),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def read_report(path: Path) -> dict[str, Any]:
    """Read a report from its folder or its JSON file.

    Raises:
        ValueError: if there is none, or the file is no report.
    """
    path = path / "report.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no report of `wavenet doctor`: {error}") from None
    if not isinstance(report, dict) or "parts" not in report:
        raise ValueError(f"{path} is no report of `wavenet doctor`: it has no parts")
    return report


def decisions(report: dict[str, Any]) -> dict[str, str]:
    """Return what the figures decide; a decision whose figures are missing says so."""
    ratios = []
    for part in _sampling_parts(report):
        rates = {(row["engine"], row["batch"]): row["samples_per_second"] for row in part["rows"]}
        if ("gpu-fused", 1) in rates and ("gpu", 1) in rates:
            ratios.append(rates["gpu-fused", 1] / rates["gpu", 1])
    if not ratios:
        reason = "not measured: no CUDA device ran both engines"
        return {"triton engine": reason, "engine that auto takes": reason}
    best = max(ratios)
    keep = best >= TRITON_GAIN
    verdict = "keep it" if keep else "remove it"
    ratio = f"{best:.2f} times CUDA graphs at batch 1, {TRITON_GAIN:g} are asked for"
    return {
        "triton engine": f"{verdict}: {ratio}",
        "engine that auto takes": "gpu-fused where it runs, else gpu" if keep else "gpu",
    }


def markdown(report: dict[str, Any]) -> str:
    """Return the report as Markdown tables."""
    lines = [f"# {_device_line(report)}", "", _origin_line(report), ""]
    lines += _table(
        ["part", "status", "seconds"],
        [
            [part["title"], _status(part), f"{part['seconds']:.1f}"]
            for part in report["parts"].values()
        ],
    )
    lines += ["", *tables(report), "## Decisions", ""]
    lines += [f"- {name}: {text}" for name, text in decisions(report).items()]
    return "\n".join(lines)


def tables(report: dict[str, Any]) -> list[str]:
    """Return the tables of figures, as the README shows them."""
    lines: list[str] = []
    for part in _sampling_parts(report):
        lines += [f"## {part['title']}, {part['weights']} weights", ""]
        head = ["engine", "streams", "samples/s of all", "times real time, each"]
        rows = [
            [row["engine"], str(row["batch"]), _count(row["samples_per_second"]), _times(row)]
            for row in part["rows"]
        ]
        lines += [*_table(head, rows), ""]
    training = report["parts"].get("training", {})
    if training.get("rows"):
        lines += [f"## {training['title']}, {training['preset']}, bf16", ""]
        head = ["torch.compile", "samples/s", "plain float32 network", "peak memory"]
        rows = [
            [
                "yes" if row["compile"] else "no",
                _count(row["samples_per_second"]),
                _count(row["plain_samples_per_second"]),
                _bytes(row["peak_bytes"]),
            ]
            for row in training["rows"]
        ]
        lines += [*_table(head, rows), ""]
    rates = report["parts"].get("ceilings", {}).get("rates")
    if rates:
        lines += ["## Ceilings", ""]
        lines += _table(["of the device", "a second"], [[n, _count(v)] for n, v in rates.items()])
        lines.append("")
    peaks = report["parts"].get("memory", {}).get("peak_bytes")
    if peaks:
        lines += ["## Memory of sampling", ""]
        lines += _table(["audio", "peak"], [[n, _bytes(v)] for n, v in peaks.items()])
        lines.append("")
    return lines


def _sampling_parts(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, part in report["parts"].items():
        if name.startswith("sampling") and part.get("rows"):
            yield part


def _device_line(report: dict[str, Any]) -> str:
    device = report["device"]
    return str(device.get("card") or device.get("processor") or device["name"])


def _origin_line(report: dict[str, Any]) -> str:
    device = report["device"]
    facts = [f"torch {device.get('torch')}", f"CUDA {device.get('cuda')}"]
    if device.get("driver"):
        facts.append(f"driver {device['driver']}")
    commit = report.get("commit") or "unknown"
    return f"{report['date']}, commit {commit}, {', '.join(facts)}"


def _status(part: dict[str, Any]) -> str:
    details = part.get("error") or part.get("missing") or ""
    failed = [
        name for name, check in part.get("checks", {}).items() if not check.get("passed", True)
    ]
    if failed:
        details = ", ".join(failed)
    text = part["status"] + (f": {details}" if details else "")
    return text.replace("|", "\\|").replace("\n", " ")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"| {' | '.join('---' for _ in head)} |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _times(row: dict[str, Any]) -> str:
    return f"{row['real_time']:.2f}"


def _bytes(value: float | None) -> str:
    return "not known" if value is None else f"{value / 2**20:,.0f} MiB"
