"""Fit the vector that stands for an absent mel in a vocoder, and leave all else as it is.

    python recipes/prompts/null_mel.py MODEL CORPUS OUT --steps 80

Of an ``unconditional`` model only ``no_features`` learns, the vector that stands for the encoded
mel: with windows whose mel is dropped, bits per sample, Adam. What the model does with a mel stays
as it was, bit for bit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

import wavenet
from wavenet.cli.options import integer
from wavenet.data import WindowPlan, Windows, find_corpus, read_cached
from wavenet.data.windows import collate
from wavenet.storage.checkpoint import read_config
from wavenet.training.loss import bits_per_sample

LEARNING_RATE = 0.05
"""For 80 numbers of about unit size."""


def main() -> None:
    """Fit, say how well, and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="what training exported")
    parser.add_argument("corpus", help="the one it was trained on")
    parser.add_argument("out", type=Path, help="folder for the model")
    parser.add_argument("--steps", type=integer, default=80)
    parser.add_argument("--batch-size", type=integer, default=4)
    options = parser.parse_args()
    model = wavenet.load(options.model)
    corpus = read_cached(find_corpus(options.corpus), model.sample_rate)
    learnt, held_out = corpus.split(0.05)
    plan = WindowPlan.of(model, 0.4)
    model.requires_grad_(False)
    model.no_features.requires_grad_(True)
    optimizer = torch.optim.Adam([model.no_features], lr=LEARNING_RATE)
    n_windows = options.steps * options.batch_size
    windows = Windows(learnt, plan, n_windows=n_windows, seed=0, drop={"mel": 1.0, "speaker": 0.5})
    before = without_mel(model, Windows(held_out, plan, n_windows=16, seed=1, drop={"mel": 1.0}))
    for first in tqdm(range(0, n_windows, options.batch_size), "fitting", disable=None):
        indices = range(first, first + options.batch_size)
        optimizer.zero_grad()
        bits_per_sample(model, collate(windows.__getitems__(indices)), plan).backward()
        optimizer.step()
    after = without_mel(model, Windows(held_out, plan, n_windows=16, seed=1, drop={"mel": 1.0}))
    print(f"without a mel: {before:.2f} -> {after:.2f} bits per sample")
    model.save(options.out, provenance=read_config(options.model)["provenance"])


@torch.no_grad()
def without_mel(model: wavenet.WaveNet, windows: Windows) -> float:
    """Bits per sample of held-out windows."""
    batches = (range(first, first + 8) for first in range(0, len(windows), 8))
    bits = [bits_per_sample(model, collate(windows.__getitems__(b)), windows.plan) for b in batches]
    return float(torch.stack(bits).mean())


if __name__ == "__main__":
    main()
