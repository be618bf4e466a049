"""The parts of ``wavenet doctor``: what is checked and measured on a device, in this order.

A part is a function of the device that returns plain values. It runs in a process of its own
(``python -m wavenet.benchmark.doctor.parts NAME DEVICE``), which writes them as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from wavenet.benchmark.doctor.checks import blocks, engines, training_window
from wavenet.benchmark.doctor.measures import ceilings, memory, sampling
from wavenet.benchmark.doctor.part import Missing, Part
from wavenet.benchmark.doctor.training import resumed_training, training
from wavenet.storage.pretrained import DEFAULT_VOICE

PARTS: dict[str, Part] = {
    "blocks": Part("Blocks: chunks equal the whole", 20, blocks),
    "training_window": Part("Training window against stream", 20, training_window),
    "engines": Part("Engines against stream", 60, engines),
    "ceilings": Part("Ceilings of the device", 20, ceilings),
    "sampling_nv": Part("Sampling, preset nv", 60, lambda d: sampling(d, "nv")),
    "sampling_medium": Part("Sampling, preset medium", 60, lambda d: sampling(d, "medium")),
    "sampling_voice": Part(f"Sampling, {DEFAULT_VOICE}", 60, lambda d: sampling(d, DEFAULT_VOICE)),
    "memory": Part("Memory of sampling", 30, memory),
    "training": Part("Training step", 60, training),
    "resumed_training": Part("Training, interrupted and resumed", 90, resumed_training),
}
"""In the order in which they run."""


def main(arguments: list[str] | None = None) -> int:
    """Run one part and print its values as one line of JSON."""
    parser = argparse.ArgumentParser(prog="wavenet.benchmark.doctor.parts")
    parser.add_argument("name", choices=PARTS)
    parser.add_argument("device")
    options = parser.parse_args(arguments)
    try:
        values = PARTS[options.name].measure(torch.device(options.device))
    except (Missing, ModuleNotFoundError) as error:
        values = {"missing": str(error)}
    json.dump(values, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
