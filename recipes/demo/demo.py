"""The demo: how far it hears, how it learns, and what it says. ``make demo`` runs it.

python recipes/demo/demo.py --out demo-out
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import wavenet
from wavenet.audio import read_audio
from wavenet.cli import main as command_line
from wavenet.plots import plot_comparison

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
SPOKEN_SECONDS = 3.0
QUIETER = ("--temperature", "0.85")
"""A network that has learnt for minutes is unsure, and unsure is noisy."""


def run(*arguments: str) -> None:
    """One ``wavenet`` command, shown before it runs; the demo ends where it fails."""
    print(f"\n$ wavenet {' '.join(arguments)}", flush=True)
    code = command_line(arguments)
    if code:
        sys.exit(code)


def main() -> None:
    """Train, generate and draw into one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--seconds", type=float, default=SPOKEN_SECONDS)
    options, training = parser.parse_known_args()
    for earlier in (
        "model",
        "logs",
        "checkpoints",
    ):  # of the demo before; other files in the folder stay
        shutil.rmtree(options.out / earlier, ignore_errors=True)
    seconds = str(options.seconds)
    corpus, config = str(REPOSITORY / "samples"), str(HERE / "config.yaml")
    model, spoken = str(options.out / "model"), str(options.out / "generated.wav")

    run("receptive-field", config)
    run("train", config, "--corpus", corpus, "--out", str(options.out), *training)
    run("generate", spoken, "--model", model, "--seconds", seconds, "--seed", "0", *QUIETER)

    rate = wavenet.load(model).sample_rate
    real = max(
        (REPOSITORY / "samples" / "prompts-en").glob("*.flac"), key=lambda p: p.stat().st_size
    )
    speech = read_audio(real, rate)[0][: int(options.seconds * rate)]
    picture = options.out / "generated.png"
    plot_comparison(
        {"real speech": speech, "what the network says": read_audio(spoken)[0]}, rate, picture
    )
    print(f"\nlisten: {spoken}\nlook:   {picture}\nmodel:  {model}")


if __name__ == "__main__":
    main()
