"""The parts of ``wavenet doctor``: what is checked and measured on a device, in this order.

A part is a function of the device that yields plain values. It runs in a process of its own
(``python -m wavenet.benchmark.doctor.parts NAME DEVICE``), which writes them as lines of JSON: each
has all results so far, and the last one counts.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from wavenet.benchmark.doctor.checks import blocks, contract, refinement, training_window
from wavenet.benchmark.doctor.device import describe
from wavenet.benchmark.doctor.engine_checks import engines
from wavenet.benchmark.doctor.measures import ceilings, memory, sampling
from wavenet.benchmark.doctor.part import Missing, Part, Values
from wavenet.benchmark.doctor.training import resumed_training, training
from wavenet.storage.pretrained import DEFAULT_VOICE

PARTS: dict[str, Part] = {
    "device": Part("Device", 5, describe),
    "blocks": Part("Blocks: chunks equal the whole", 15, blocks),
    "contract": Part("Contract of causal blocks (check_causal)", 20, contract),
    "refinement": Part("Refinement against the CPU", 10, refinement),
    "training_window": Part("Training window against stream", 15, training_window),
    "engines": Part("Engines against stream", 75, engines),
    "ceilings": Part("Ceilings of the device", 15, ceilings),
    "sampling_nv": Part("Sampling, preset nv", 55, lambda d: sampling(d, "nv")),
    "sampling_medium": Part("Sampling, preset medium", 55, lambda d: sampling(d, "medium")),
    "sampling_voice": Part(f"Sampling, {DEFAULT_VOICE}", 55, lambda d: sampling(d, DEFAULT_VOICE)),
    "training": Part("Training step", 50, training),
    "resumed_training": Part("Training, interrupted and resumed", 70, resumed_training),
    "memory": Part("Memory of sampling", 40, memory),
}
"""In the order in which they run."""


def main(arguments: list[str] | None = None) -> int:
    """Run one part and print its values as lines of JSON."""
    parser = argparse.ArgumentParser(prog="wavenet.benchmark.doctor.parts")
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("device")
    options = parser.parse_args(arguments)
    values: Values = {}
    try:
        for values in PARTS[options.name].measure(torch.device(options.device)):
            _write(values)
    except (Missing, ModuleNotFoundError) as error:
        _write({**values, "missing": str(error)})
    return 0


def _write(values: Values) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
