"""The report of ``wavenet doctor``: JSON, Markdown tables, and what its figures decide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wavenet.benchmark.doctor.targets import targets
from wavenet.storage.files import atomic_write

JSON_NAME, MARKDOWN_NAME = "report.json", "report.md"
TRITON_GAIN = 2.0
"""The Triton engine is worth its code where it is this many times as fast as CUDA graphs."""
COMPILE_GAIN = 1.1
"""``torch.compile`` is worth its minutes where a step is this many times as fast."""
NOT_MEASURED = "Not measured: no GPU has been at hand."


def write_report(report: dict[str, Any], folder: Path) -> None:
    """Write ``report.json`` and ``report.md`` into a folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    report = report | {"decisions": decisions(report)}
    texts = {
        JSON_NAME: json.dumps(report, indent=1),
        MARKDOWN_NAME: markdown(report),
    }
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def read_report(path: Path) -> dict[str, Any]:
    """Read a report from its folder or its JSON file.

    Raises:
        ValueError: if there is none, or the file is no report.
    """
    path = path / JSON_NAME if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        markdown(report)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no report of `wavenet doctor`: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{path} is no report of `wavenet doctor`: {type(error).__name__} {error}"
        ) from None
    assert isinstance(report, dict)
    return report


def published(path: Path) -> list[str]:
    """Return the tables of one report, or of all reports in the folders below a folder.

    This is what docs/benchmarks.md shows; without a report a line that there is none.

    Raises:
        ValueError: if the path is neither a report nor a folder.
    """
    if not path.is_dir() or (path / JSON_NAME).exists():
        return tables(read_report(path))
    lines: list[str] = []
    for found in sorted(path.glob(f"*/{JSON_NAME}")):
        report = read_report(found)
        lines += [f"**{_device_line(report)}** ({_origin_line(report)})", "", *tables(report)]
    return lines or [NOT_MEASURED, ""]


def decisions(report: dict[str, Any]) -> dict[str, str]:
    """Return what the figures decide; a decision whose figures are missing is noted."""
    return {**_engine_decisions(report), "torch.compile in training": _compile_decision(report)}


def _engine_decisions(report: dict[str, Any]) -> dict[str, str]:
    ratios = []
    for part in _sampling_parts(report):
        rates = {
            (row["engine"], row["batch"]): row["samples_per_second"]
            for row in part["rows"]
            if row["weights"] == "float32"
        }
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


def _compile_decision(report: dict[str, Any]) -> str:
    rows = report["parts"].get("training", {}).get("rows", ())
    rates = {row["compile"]: row["samples_per_second"] for row in rows}
    if len(rates) < 2:
        return "not measured: no device trained with it and without"
    gain = rates[True] / rates[False]
    verdict = "worth it" if gain >= COMPILE_GAIN else "not worth it"
    return f"{verdict}: {gain:.2f} times as fast, {COMPILE_GAIN:g} are asked for"


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
    lines += ["", *tables(report), "**Decisions**", ""]
    lines += [f"- {name}: {text}" for name, text in decisions(report).items()]
    return "\n".join(lines)


def tables(report: dict[str, Any]) -> list[str]:
    """Return the tables of figures; a part without figures has none."""
    parts = report["parts"]
    lines: list[str] = []
    for part in _sampling_parts(report):
        lines += _sampling_table(part)
    if parts.get("training", {}).get("rows"):
        lines += _training_table(parts["training"])
    if parts.get("ceilings", {}).get("rates"):
        rates = [[name, _count(value)] for name, value in parts["ceilings"]["rates"].items()]
        lines += ["**Ceilings**", "", *_table(["of the device", "a second"], rates), ""]
    if parts.get("memory", {}).get("peak_bytes"):
        peaks = [[name, _bytes(value)] for name, value in parts["memory"]["peak_bytes"].items()]
        lines += ["**Memory of sampling**", "", *_table(["audio", "peak"], peaks), ""]
    if found := targets(report):
        rows = [[one.name, *map(_count, (one.found, one.floor, one.aim))] for one in found]
        head = ["target", "measured", "floor", "aim"]
        lines += ["**Targets, on an H100 or H200**", "", *_table(head, rows), ""]
    return lines


def _sampling_table(part: dict[str, Any]) -> list[str]:
    head = ["engine", "weights", "streams", "samples/s of all", "times real time, each"]
    rows = [
        [
            row["engine"],
            row["weights"],
            str(row["batch"]),
            _count(row["samples_per_second"]),
            f"{row['real_time']:.2f}",
        ]
        for row in part["rows"]
    ]
    return [f"**{part['title']}**", "", *_table(head, rows), ""]


def _training_table(part: dict[str, Any]) -> list[str]:
    head = ["torch.compile", "windows", "samples/s", "plain float32 network", "peak memory"]
    rows = [
        [
            "yes" if row["compile"] else "no",
            str(row["batch_size"]),
            _count(row["samples_per_second"]),
            _count(row["plain_samples_per_second"]),
            _bytes(row["peak_bytes"]),
        ]
        for row in part["rows"]
    ]
    how = f"{part['preset']}, {part.get('precision', 'bf16')}"
    title = f"**{part['title']}, {how}, windows of {part['window_s']:g} s**"
    return [title, "", *_table(head, rows), ""]


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
    """The status, with what was raised or is missing and the names of checks that failed."""
    reasons = [part[key] for key in ("error", "missing") if part.get(key)]
    for name, check in part.get("checks", {}).items():
        if not check.get("passed", True):
            reasons.append(f"{name} ({_why(check)})")
    text = part["status"] + (f": {', '.join(reasons)}" if reasons else "")
    return text.replace("|", "\\|").replace("\n", " ")


def _why(check: dict[str, Any]) -> str:
    for key in ("raised", "broken", "refused"):
        if key in check:
            return str(check[key])[:200]
    return f"error {check['error']:.1e}" if "error" in check else "failed"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        f"| {' | '.join('---' for _ in head)} |",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _bytes(value: float | None) -> str:
    return "not known" if value is None else f"{value / 2**20:,.0f} MiB"
