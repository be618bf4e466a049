"""The demo: what the voice in the package makes of speech, and what a fresh network learns.

``make demo`` runs it: the voice vocodes sentences that it was not trained on, to be listened to on
a page; then a new network is trained for 42 seconds, and vocodes sentences that were held out.

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
from wavenet.data import find_corpus, read_cached
from wavenet.features.plots import plot_comparison
from wavenet.storage.pretrained import DEFAULT_VOICE, voice_names
from wavenet.training.recipe import parse_training

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent / "samples"
CORPUS = SAMPLES / "prompts-en"
HELD_OUT = SAMPLES / "voice" / "reference"
"""A sentence of each of the voice's speakers that it was not trained on."""
COMPARED = ("--baselines", "griffin_lim,world,noise", "--metrics", "pesq,stoi")
"""The last baseline is refined noise: what the refinement makes without any network. Other metrics
take longer than all the rest."""
SHOWN_S = 3.0
"""So much of a sentence is in the picture."""


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
    run("evaluate", DEFAULT_VOICE, str(HELD_OUT), "--out", str(report), *COMPARED)
    return True


def held_out(training: Sequence[str]) -> list[Path]:
    """The recordings of the corpus that the training does not hear, the longest one first."""
    config, _, _ = parse_training(training)
    corpus = read_cached(
        find_corpus(str(CORPUS)),
        config.model_config().sample_rate,
        cache=config.cache,
        trim_db=config.trim_db,
    )
    _, part = corpus.split(config.validation_fraction)
    longest_first = sorted(part.utterances, key=lambda each: -len(each.samples))
    return [CORPUS / utterance.name for utterance in longest_first]


def copy_into(folder: Path, recordings: Sequence[Path]) -> None:
    """Put copies of recordings into a folder, and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for recording in recordings:
        shutil.copyfile(recording, folder / recording.name)


def precision() -> tuple[str, ...]:
    """The arguments for bfloat16 products where the CPU has instructions for them."""
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text().split() if cpu.is_file() else []
    fast = not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)
    return ("--trainer.precision", "bf16-mixed") if fast else ()


def draw(recording: Path, spoken: Path, picture: Path) -> None:
    """The beginning of what the fresh network says, beside the recording."""
    made, rate = read_audio(spoken)
    n = round(SHOWN_S * rate)
    speech = read_audio(recording, rate)[0]
    signals = {"recording, held out": speech[:n], "the fresh network, from its mel": made[:n]}
    plot_comparison(signals, rate, picture)


def main(arguments: Sequence[str] | None = None) -> None:
    """Everything into one folder."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="Other arguments are those of wavenet train, such as --minutes 3.",
    )
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    options, training = parser.parse_known_args(arguments)
    for earlier in ("model", "logs", "checkpoints", "fresh", "spoken"):  # of an earlier demo
        shutil.rmtree(options.out / earlier, ignore_errors=True)
    settings = [str(HERE / "config.yaml"), "--corpus", str(CORPUS), *precision(), *training]
    sentences = held_out(settings)
    model, fresh, report = str(options.out / "model"), options.out / "fresh", options.out / "voice"
    recorded, spoken = options.out / "held-out", options.out / "spoken"
    picture = options.out / "spoken.png"

    has_voice = speak_again(report)
    run("receptive-field", settings[0])
    run("train", *settings, "--out", str(options.out))
    copy_into(recorded, sentences)
    run("evaluate", model, str(recorded), "--out", str(fresh), *COMPARED)
    run("vocode", str(recorded), str(spoken), "--model", model)
    draw(sentences[0], (spoken / sentences[0].name).with_suffix(".wav"), picture)
    if has_voice:
        page = report / "index.html"
        print(
            f"\nthe voice in the package, on sentences that it was not trained on\nlisten: {page}"
        )
    print("\na network that has learnt for 42 seconds, on sentences that it was not trained on")
    print(f"listen: {fresh / 'index.html'}\nlook:   {picture}\nmodel:  {model}")


if __name__ == "__main__":
    main()
