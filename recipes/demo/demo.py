"""The demo: what the voice in the package makes of speech, and what a fresh network learns.

``make demo`` runs it: the voice speaks sentences again that it never heard, to be listened to on a
page; then a tiny network says how far it hears, learns for minutes, and babbles.

    python recipes/demo/demo.py --out demo-out
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from wavenet.audio import read_audio
from wavenet.cli.main import main as command_line
from wavenet.features.plots import plot_comparison
from wavenet.storage.pretrained import DEFAULT_VOICE, voice_names

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent / "samples"
CORPUS = SAMPLES / "prompts-en"
HELD_OUT = SAMPLES / "voice" / "reference"
"""A sentence of each of the voice's speakers that it was not trained on."""
SPOKEN_SECONDS = 3.0
QUIETER = ("--temperature", "0.85")
"""A network that has learnt for minutes is unsure, and unsure is noisy."""


def run(*arguments: str) -> None:
    """One ``wavenet`` command, shown before it runs; the demo ends where it fails."""
    print(f"\n$ wavenet {' '.join(arguments)}", flush=True)
    code = command_line(arguments)
    if code:
        sys.exit(code)


def speak_again(report: Path) -> bool:
    """Let the voice say the held-out sentences; False where no voice is in the package."""
    if DEFAULT_VOICE not in voice_names():
        print(f"the voice {DEFAULT_VOICE} is not in this package: the demo goes on without it")
        return False
    run("evaluate", DEFAULT_VOICE, str(HELD_OUT), "--out", str(report))
    return True


def draw(spoken: str, seconds: float, picture: Path) -> None:
    """What the fresh network says, beside real speech."""
    babble, rate = read_audio(spoken)
    real = max(CORPUS.glob("*.flac"), key=lambda path: path.stat().st_size)
    speech = read_audio(real, rate)[0][: int(seconds * rate)]
    plot_comparison({"real speech": speech, "what the network says": babble}, rate, picture)


def main(arguments: Sequence[str] | None = None) -> None:
    """Everything into one folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--seconds", type=float, default=SPOKEN_SECONDS)
    options, training = parser.parse_known_args(arguments)
    for earlier in ("model", "logs", "checkpoints"):  # of the demo before; other files stay
        shutil.rmtree(options.out / earlier, ignore_errors=True)
    corpus, config = str(CORPUS), str(HERE / "config.yaml")
    model, spoken = str(options.out / "model"), str(options.out / "generated.wav")
    picture, report = options.out / "generated.png", options.out / "voice"

    has_voice = speak_again(report)
    run("receptive-field", config)
    run("train", config, "--corpus", corpus, "--out", str(options.out), *training)
    seconds = str(options.seconds)
    run("generate", spoken, "--model", model, "--seconds", seconds, "--seed", "0", *QUIETER)
    draw(spoken, options.seconds, picture)
    if has_voice:
        page = report / "index.html"
        print(f"\nthe voice in the package, saying sentences that it never heard\nlisten: {page}")
    print(f"\na network that has learnt for minutes\nlisten: {spoken}\nlook:   {picture}")
    print(f"model:  {model}")


if __name__ == "__main__":
    main()
