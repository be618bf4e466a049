"""``wavenet evaluate``: measure the quality of a model, and write a report."""

from __future__ import annotations

import argparse
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from wavenet.cli.options import MODEL_HELP, add_drawing, add_json, add_weights, any_name, integer
from wavenet.cli.progress import counted
from wavenet.cli.standard_streams import print_result

if TYPE_CHECKING:
    from wavenet.data import Utterance
    from wavenet.evaluation.evaluate import Evaluation, Measured, Settings
    from wavenet.evaluation.page import PageEntry
    from wavenet.model.config import WaveNetConfig

_progress = partial(counted, unit="recording")

DEFAULT_UTTERANCES = 12
"""Recordings on the page of a report."""

BASELINES = (
    "griffin_lim",
    "world",
    "world_refined",
    "pulses",
    "noise",
    "quantiser",
    "mu_law_256",
)
METRICS = ("pesq", "stoi", "visqol", "dnsmos", "f0")


def add_arguments(evaluate: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    evaluate.add_argument(
        "model", type=any_name, metavar="MODEL", help=f"evaluate this model: {MODEL_HELP}"
    )
    evaluate.add_argument(
        "folder",
        type=any_name,
        metavar="FOLDER",
        help="evaluate on the recordings in this folder or manifest, or on this one file; the "
        "model must not have been trained on them",
    )
    evaluate.add_argument(
        "--out",
        type=any_name,
        required=True,
        metavar="REPORT",
        help="write the report to this folder: a new or empty one, or that of an earlier report",
    )
    evaluate.add_argument(
        "--utterances",
        type=integer,
        metavar="N",
        help="evaluate on this many recordings, which --seed chooses (default: all)",
    )
    evaluate.add_argument(
        "--seed",
        type=integer,
        default=0,
        metavar="N",
        help="seed the choice of recordings and the sampling (default: 0)",
    )
    add_drawing(evaluate)
    add_weights(evaluate)
    evaluate.add_argument(
        "--engine",
        default="auto",
        help="sample with this engine: auto (default), eager, cpu or gpu",
    )
    evaluate.add_argument(
        "--speaker",
        metavar="NAME",
        help="synthesize with this speaker of the model, whatever the recordings' own",
    )
    evaluate.add_argument(
        "--refine",
        type=integer,
        metavar="N",
        help="refine towards the mel with this many passes (default: the model's own; 0: none)",
    )
    evaluate.add_argument(
        "--baselines",
        metavar="LIST",
        help=f"compare with these of {','.join(BASELINES)}, or with none (default: all)",
    )
    evaluate.add_argument(
        "--metrics",
        metavar="LIST",
        help="beside bits, log-mel distance, MCD and speed measure these of "
        f"{','.join(METRICS)}, or none; visqol, dnsmos and f0 take seconds for each recording "
        "(default: all that are installed)",
    )
    evaluate.add_argument(
        "--page-utterances",
        type=integer,
        default=DEFAULT_UTTERANCES,
        metavar="N",
        help="put the audio of this many recordings on the report's page (default: "
        f"{DEFAULT_UTTERANCES})",
    )
    add_json(evaluate, "the content of report.json")


def run(options: argparse.Namespace) -> int:
    """Measure, write the report, and print its tables.

    Raises:
        ValueError: for whatever cannot be evaluated; the message is one line.
    """
    _check(options)
    from wavenet.data import find_corpus
    from wavenet.evaluation.evaluate import NO_MEL, Evaluation, in_order
    from wavenet.evaluation.metrics import INSTALL
    from wavenet.evaluation.output import (
        JSON_NAME,
        MARKDOWN_NAME,
        PAGE_NAME,
        require_own_report,
        require_report_folder,
        write_files,
    )
    from wavenet.evaluation.page import has_pictures, render, require_template_engine
    from wavenet.evaluation.report import make_report, markdown, to_json, weights_sha256
    from wavenet.evaluation.text import portable_model
    from wavenet.evaluation.utterances import choose, with_speaker
    from wavenet.loading import load_wavenet

    out = require_report_folder(options.out)
    require_template_engine()
    model = load_wavenet(options.model)
    require_own_report(out, weights_sha256(model))
    settings = _settings(options, model.config)
    if options.speaker is not None and not model.config.speakers:
        raise ValueError(f"--speaker={options.speaker}, but {options.model} takes no speaker")
    evaluation = Evaluation(model, portable_model(options.model), settings)
    chosen = choose(
        find_corpus(options.folder),
        model.sample_rate,
        options.utterances,
        seed=options.seed,
        progress=lambda recordings: _progress(recordings, "reading", len(recordings)),
    )
    utterances = with_speaker(chosen.utterances, options.speaker)
    measured, entries = _measure(evaluation, utterances, options.page_utterances)
    if not has_pictures():
        evaluation.unavailable["spectrograms"] = f"matplotlib is {INSTALL}"
    report = make_report(
        evaluation,
        in_order(measured),
        chosen,
        source=options.model,
        folder=options.folder,
        command=shlex.join(["wavenet", *options.given]),
    )
    text = markdown(report)
    page = render(report, entries)
    write_files(out, {JSON_NAME: to_json(report), MARKDOWN_NAME: text, PAGE_NAME: page})
    if options.json:
        print_result(json.dumps(report, allow_nan=False))
        return 0
    hint = f"\n{NO_MEL}" if model.config.mel is None else ""
    print_result(f"{text}{hint}\nlisten: {out / PAGE_NAME}\nnumbers: {out / JSON_NAME}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raise ValueError for numbers that mean nothing, before the model is read."""
    if options.page_utterances < 0:
        raise ValueError(f"--page-utterances={options.page_utterances} must not be negative")
    if options.utterances is not None and options.utterances < 1:
        raise ValueError(f"--utterances={options.utterances} must be at least 1")
    if options.seed < 0:
        raise ValueError(f"--seed={options.seed} must not be negative")
    if options.temperature is not None and not 0 < options.temperature < math.inf:
        raise ValueError(f"--temperature={options.temperature} must be above 0, such as 0.9 or 1.0")


def _measure(
    evaluation: Evaluation, utterances: Sequence[Utterance], on_page: int
) -> tuple[list[Measured], list[PageEntry]]:
    """Return the measures of every utterance, and the audio of those on the page, by name."""
    from wavenet.evaluation.page import page_entry, spread

    wanted = spread([utterance.name for utterance in utterances], on_page)
    systems = list(evaluation.systems.values())
    measured, entries = [], []
    for one in _progress(evaluation.run(utterances), "measuring", len(utterances)):
        if one.copied_samples and one.utterance.name in wanted:
            entries.append(page_entry(one, systems, evaluation.model.sample_rate))
        measured.append(replace(one, copies={}))  # the sounds of all would fill the memory
    entries.sort(key=lambda one: one.name)
    return measured, entries


def _or_own(given: float | None, own: float) -> float:
    """Return the value that was given, or the model's own."""
    return own if given is None else given


def _settings(options: argparse.Namespace, config: WaveNetConfig) -> Settings:
    from wavenet.evaluation.evaluate import Settings

    return Settings(
        seed=options.seed,
        temperature=_or_own(options.temperature, config.temperature),
        top_p=options.top_p,
        noise_shaping=_or_own(options.noise_shaping, config.noise_shaping),
        weights=options.weights,
        engine=options.engine,
        refine=options.refine,
        baselines=_names(options.baselines),
        metrics=_names(options.metrics),
    )


def _names(listed: str | None) -> tuple[str, ...] | None:
    """Return the names of a list with commas, each once; of ``none`` no name."""
    if listed is None:
        return None
    return tuple(dict.fromkeys(filter(None, "" if listed == "none" else listed.split(","))))
