"""The report of an evaluation, as ``report.json`` and as Markdown.

``report.json`` is one object; its keys stay what they are as long as ``format_version`` does:

    format, format_version   "wavenet-evaluation", 1
    model                    name, parameters, sample_rate, config, provenance (null where the
                             model's folder is not known), weights_sha256: of all tensors, by name
    settings                 folder, listed, measured, choice, seed, temperature, top_p,
                             noise_shaping, weights, engine, rows, longest_s, f0_tracker, intervals,
                             command
    software                 versions of packages (null: not installed), processor, cores
    metrics                  by key: title, unit, higher_is_better, definition
    systems                  in the order of the tables, the model first: key, title, note
    summary                  system -> metric -> {mean, low, high, n}: low and high are the ends of
                             the 95% interval; null for fewer than two values, or without scipy
    differences              baseline -> metric -> the same of (model - baseline), in pairs
    all_samples              bits_per_sample, weighing every sample alike, and n_samples
    utterances               sorted by name: name, speaker, duration_s, copied_s,
                             scores: system -> metric -> number,
                             missing: system -> metric (or "copy") -> reason
    left_out                 a line for each file that could not be used
    unavailable              metric, baseline or "intervals" -> why nothing here has it
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from wavenet.benchmark.hardware import describe_machine
from wavenet.evaluation.evaluate import LONGEST_S, ROWS, Evaluation, Measured
from wavenet.evaluation.metrics import INSTALL, METRICS, Metric
from wavenet.evaluation.statistics import METHOD, Mean, has_scipy, mean_of
from wavenet.evaluation.text import (
    code_span,
    escaped,
    plain_text,
    portable_command,
    portable_path,
)
from wavenet.evaluation.utterances import Chosen
from wavenet.model import WaveNet
from wavenet.storage.checkpoint import read_config
from wavenet.storage.sharing import shareable

FORMAT = "wavenet-evaluation"
FORMAT_VERSION = 1
_PACKAGES = (
    *("wavenet-audio", "torch", "numpy", "numba", "librosa", "scipy", "pesq", "pystoi", "pyworld"),
    *("soundfile", "soxr"),
)

Summary = dict[str, dict[str, Mean]]


def make_report(
    evaluation: Evaluation,
    measured: Sequence[Measured],
    chosen: Chosen,
    *,
    source: str,
    folder: str,
    command: str,
) -> dict[str, Any]:
    """The content of ``report.json``, which names no folder of this machine.

    Args:
        evaluation: what was evaluated.
        measured: every recording, sorted by name.
        chosen: where they come from.
        source: the model as the user named it.
        folder: the recordings as the user named them.
        command: what was called.
    """
    unavailable = dict(evaluation.unavailable)
    if not has_scipy():
        unavailable["intervals"] = f"scipy is {INSTALL}"
    report: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": _model(evaluation.model, evaluation.systems["model"].title, source),
        "settings": _settings(evaluation, measured, chosen, folder, command),
        "software": _software(),
        "metrics": {metric.key: _metric(metric) for metric in METRICS},
        "systems": [vars(system) for system in evaluation.systems.values()],
        "summary": _plain(summary(evaluation, measured)),
        "differences": _plain(differences(evaluation, measured)),
        "all_samples": _all_samples(measured),
        "utterances": [_utterance(one, evaluation.model.sample_rate) for one in measured],
        "left_out": list(chosen.left_out),
        "unavailable": unavailable,
    }
    plain: dict[str, Any] = plain_text(report)
    return plain


def summary(evaluation: Evaluation, measured: Sequence[Measured]) -> Summary:
    """Means of every system and metric that has values."""
    return {key: _means([_scores(one, key) for one in measured]) for key in evaluation.systems}


def differences(evaluation: Evaluation, measured: Sequence[Measured]) -> Summary:
    """Means of (model - baseline) over recordings where both have a value."""
    found = {}
    for key in evaluation.systems:
        if key == "model":
            continue
        pairs = [(_scores(one, "model"), _scores(one, key)) for one in measured]
        found[key] = _means(
            [
                {name: own[name] - other[name] for name in own if name in other}
                for own, other in pairs
            ]
        )
    return found


def weights_sha256(model: WaveNet) -> str:
    """SHA-256 of the names, types, shapes and bytes of all tensors, ordered by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()


def markdown(report: dict[str, Any]) -> str:
    """The summary as a Markdown document: a table, and what has to be known to read it."""
    shown = [m for m in METRICS if any(m.key in row for row in report["summary"].values())]
    arrows = {metric.key: "↑" if metric.higher_is_better else "↓" for metric in shown}
    lines = [
        f"# {escaped(report['model']['name'])}",
        "",
        f"{_counted(report)}; means with 95% intervals ({report['settings']['intervals']}). "
        "↑ higher is better, ↓ lower is better.",
        "",
        "| | " + " | ".join(f"{_head(metric)} {arrows[metric.key]}" for metric in shown) + " |",
        "| --- |" + " --- |" * len(shown),
    ]
    for system in report["systems"]:
        means = report["summary"][system["key"]]
        cells = [cell(means.get(metric.key), metric) for metric in shown]
        lines.append(f"| {escaped(system['title'])} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {escaped(s['title'])}: {s['note']}" for s in report["systems"]), ""]
    lines += [f"- {m.title}: {m.definition}" for m in shown]
    if report["settings"]["f0_tracker"] is not None:
        lines.append(f"- F0 is found by {report['settings']['f0_tracker']}.")
    for title, notes in notes_of(report).items():
        lines += ["", f"{title}:", "", *(f"- {escaped(note)}" for note in notes)]
    lines += ["", code_span(report["settings"]["command"]), ""]
    lines.append(f"weights sha256 `{report['model']['weights_sha256']}`")
    return "\n".join(lines) + "\n"


def notes_of(report: dict[str, Any]) -> dict[str, list[str]]:
    """Return what is not in the table, and why: title to lines; without empty ones."""
    missing = [line for one in report["utterances"] for line in _missing_of(one)]
    notes = {
        "Not measured here": [f"{key}: {why}" for key, why in report["unavailable"].items()],
        "No value": missing,
        "Files left out": report["left_out"],
    }
    return {title: lines for title, lines in notes.items() if lines}


def _missing_of(utterance: dict[str, Any]) -> Iterator[str]:
    """Yield what has no value: a line for each reason, and not for each of its values."""
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for system, reasons in utterance["missing"].items():
        for reason in dict.fromkeys(reasons.values()):
            keys = ", ".join(key for key, why in reasons.items() if why == reason)
            alike[reason, keys].append(system)
    for (reason, keys), systems in alike.items():
        yield f"{utterance['name']}: {reason}: {keys} ({', '.join(systems)})"


def cell(mean: dict[str, Any] | None, metric: Metric) -> str:
    """A mean and its interval, such as ``2.21 (2.10 to 2.33)``; a dash without a value."""
    if mean is None:
        return "–"
    digits = metric.digits
    text = f"{mean['mean']:.{digits}f}"
    if mean["low"] is None:
        return text
    return f"{text} ({mean['low']:.{digits}f} to {mean['high']:.{digits}f})"


def to_json(report: dict[str, Any]) -> str:
    """Strict JSON: no NaN, no infinity."""
    return json.dumps(report, indent=1, allow_nan=False) + "\n"


def _means(rows: Sequence[dict[str, float]]) -> dict[str, Mean]:
    found = {}
    for metric in METRICS:
        mean = mean_of([row[metric.key] for row in rows if metric.key in row])
        if mean is not None:
            found[metric.key] = mean
    return found


def _scores(measured: Measured, system: str) -> dict[str, float]:
    return measured.scores[system].values if system in measured.scores else {}


def _plain(means: Summary) -> dict[str, dict[str, Any]]:
    return {
        system: {key: mean.to_dict() for key, mean in row.items()} for system, row in means.items()
    }


def _model(model: WaveNet, name: str, source: str) -> dict[str, Any]:
    content = read_config(source) if Path(source).is_dir() else {}
    origin_is_known = isinstance(content.get("provenance"), dict)
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sample_rate": model.sample_rate,
        "config": model.config.to_dict(),
        "provenance": shareable(content)["provenance"] if origin_is_known else None,
        "weights_sha256": weights_sha256(model),
    }


def _settings(
    evaluation: Evaluation, measured: Sequence[Measured], chosen: Chosen, folder: str, command: str
) -> dict[str, Any]:
    settings, tracker = evaluation.settings, evaluation.instruments.tracker
    return {
        "folder": portable_path(folder),
        "listed": chosen.listed,
        "measured": len(measured),
        "seed": settings.seed,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "noise_shaping": settings.noise_shaping,
        "weights": settings.weights,
        "engine": settings.engine,
        "rows": ROWS,
        "longest_s": LONGEST_S,
        "f0_tracker": None if tracker is None else tracker.name,
        "intervals": METHOD if has_scipy() else None,
        "command": portable_command(command),
    }


def _software() -> dict[str, Any]:
    machine = describe_machine()
    versions = {package: _version(package) for package in _PACKAGES}
    return {"processor": machine["processor"], "cores": machine["cores"], "packages": versions}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        "title": metric.title,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "definition": metric.definition,
    }


def _all_samples(measured: Sequence[Measured]) -> dict[str, Any]:
    counted = [
        (len(one.utterance.samples), one.scores["model"].values["bits_per_sample"])
        for one in measured
        if "bits_per_sample" in one.scores["model"].values
    ]
    n_samples = sum(n for n, _ in counted)
    bits = sum(n * bits for n, bits in counted) / n_samples if n_samples else None
    return {"bits_per_sample": bits, "n_samples": n_samples}


def _utterance(one: Measured, sample_rate: int) -> dict[str, Any]:
    return {
        "name": one.utterance.name,
        "speaker": one.utterance.speaker,
        "duration_s": len(one.utterance.samples) / sample_rate,
        "copied_s": one.copied_samples / sample_rate,
        "scores": {key: scores.values for key, scores in one.scores.items()},
        "missing": {key: scores.missing for key, scores in one.scores.items() if scores.missing},
    }


def _counted(report: dict[str, Any]) -> str:
    settings = report["settings"]
    seconds = sum(one["duration_s"] for one in report["utterances"])
    return (
        f"{settings['measured']} of {settings['listed']} recordings ({seconds:.0f} s) of "
        f"{code_span(settings['folder'])}, seed {settings['seed']}, "
        f"temperature {settings['temperature']:g}"
        + ("" if settings["top_p"] is None else f", top-p {settings['top_p']:g}")
        + (f", noise shaping {settings['noise_shaping']:g}" if settings["noise_shaping"] else "")
        + f", {settings['weights']} weights"
    )


def _head(metric: Metric) -> str:
    return f"{metric.title} ({metric.unit})" if metric.unit not in ("", "bits") else metric.title
