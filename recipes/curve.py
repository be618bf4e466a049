"""The curve of a run, for the page of its recipe: OUT is what ``wavenet train --out`` wrote.

python recipes/curve.py OUT recipes/NAME/curve.csv

writes curve.csv (step, seconds since the first validation, bits per sample on the validation
windows) and curve.png beside it: these, those of the training steps, and the best constant
distribution on the same windows, for which the corpus must still lie where the run found it, in a
folder or in a store.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import wavenet
from wavenet.cli.options import any_name
from wavenet.data import WindowPlan, Windows
from wavenet.storage.files import atomic_write
from wavenet.storage.object_store import is_url
from wavenet.training.config import TrainingConfig
from wavenet.training.corpus import open_corpus
from wavenet.training.recipe import parse_training
from wavenet.training.run import VALIDATION_SEED, constant_bits

SMOOTHED = 5
"""At most so many logged training steps make a point: each of them alone is a few windows."""


class Point(NamedTuple):
    """Bits per sample once so many steps were made, and the time in seconds."""

    step: int
    time_s: float
    bits: float


def read_curves(out: Path) -> tuple[list[Point], list[Point]]:
    """Validation, before training first, and training.

    Raises:
        ValueError: if there are none.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logs = out / "logs"
    log = EventAccumulator(str(logs), size_guidance={"scalars": 0})
    found = log.Reload().Tags()["scalars"] if logs.is_dir() else ()
    for name in ("valid/bits", "train/bits"):
        if name not in found:
            raise ValueError(f"{logs} holds no {name}; name the --out of a run that validated once")
    config, _, _ = parse_training([str(out / "config.yaml")])
    valid = [
        Point(_steps_made(event.step, config) if i else 0, event.wall_time, event.value)
        for i, event in enumerate(_by_time(log.Scalars("valid/bits")))
    ]
    train = [Point(e.step + 1, e.wall_time, e.value) for e in _by_time(log.Scalars("train/bits"))]
    return valid, train


def _by_time(events: list[Any]) -> list[Any]:
    """Logs lie in several files, and those of one second may be read in another order."""
    return sorted(events, key=lambda event: event.wall_time)


def _steps_made(logged: int, config: TrainingConfig) -> int:
    """A validation amid training is logged at the index, from 0, of the step before it."""
    return min(logged + ((logged + 1) % config.validate_every == 0), config.max_steps)


def best_constant(out: Path) -> float:
    """Bits per sample of the best constant distribution on the run's own validation windows."""
    config, _, _ = parse_training([str(out / "config.yaml")])
    model = wavenet.load(out / "model")
    corpus = open_corpus(config, model.sample_rate)
    plan = WindowPlan.of(model, config.window_s)
    train, valid = corpus.split(config.validation_fraction)
    n_windows = config.validation_windows
    return constant_bits(train, Windows(valid, plan, n_windows=n_windows, seed=VALIDATION_SEED))


def write_table(valid: Sequence[Point], path: Path) -> None:
    """One line for each validation."""
    with atomic_write(path) as beside, open(beside, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["step", "seconds", "validation_bits_per_sample"])
        for point in valid:
            seconds = point.time_s - valid[0].time_s
            rows.writerow([point.step, f"{seconds:.0f}", f"{point.bits:.4f}"])


def draw(valid: Sequence[Point], train: Sequence[Point], constant: float, path: Path) -> None:
    """Bits per sample over steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    width = max(1, min(SMOOTHED, len(train) // 4))
    even = np.ones(width) / width
    smooth = [np.convolve(values, even, "valid") for values in zip(*train, strict=True)]
    axes.plot(smooth[0], smooth[2], color="0.7", label=f"training, {width} points averaged")
    steps, _, bits = zip(*valid, strict=True)
    axes.plot(steps, bits, marker="o", markersize=3, color="tab:blue", label="validation")
    axes.axhline(constant, color="tab:red", linestyle="--", label="best constant distribution")
    axes.set(xlabel="step", ylabel="bits per 16-bit sample")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as beside:
        figure.savefig(beside, format="png", dpi=100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table and the picture; a mistake is one line and exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=any_name, metavar="OUT", help="the folder of a run")
    parser.add_argument("table", type=Path, metavar="CSV", help="such as recipes/NAME/curve.csv")
    options = parser.parse_args(arguments)
    try:
        if is_url(options.out):
            raise ValueError(f"{options.out} is a URL; copy the folder of the run to this machine")
        out = Path(options.out)
        valid, train = read_curves(out)
        constant = best_constant(out)
        write_table(valid, options.table)
        draw(valid, train, constant, options.table.with_suffix(".png"))
    except (ValueError, OSError) as error:
        print(f"curve: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    last = valid[-1]
    print(
        f"{options.table}: {valid[0].bits:.2f} to {last.bits:.2f} bits per sample in "
        f"{last.step} steps; best constant distribution {constant:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
