"""Make the sounds of samples/voice and their picture: held-out sentences, vocoded by a model.

    python recipes/prompts/samples.py prompts-16k corpora/prompts

One sentence of each speaker: as recorded, by Griffin-Lim from the model's own mel, by WORLD, by the
network alone and with refinement; and an unconditional sample. The sentences must be in the
validation part of the corpus, as the recipe splits it. A README.md beside the sounds has the
command behind each. Run it in the repository's root, with the extras ``train`` and ``eval``. The
same model, corpus and machine give the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import wavenet
from wavenet.audio import read_audio, write_audio
from wavenet.benchmark.timing import limited_threads
from wavenet.cli.main import main as command_line
from wavenet.data import Corpus, find_corpus
from wavenet.evaluation.baselines import make_copy, why_unavailable
from wavenet.evaluation.likelihood import whole_mel
from wavenet.features.plots import plot_spectrograms
from wavenet.model import WaveNet
from wavenet.storage.checkpoint import WEIGHTS_NAME, find_checkpoint
from wavenet.storage.files import atomic_write
from wavenet.training.recipe import parse_training

SENTENCES = (
    "en/queue-youarenext.flac",
    "fr/agent-alreadyon.flac",
    "it/confbridge-remove-last-out.flac",
)
"""Below the corpus; the folder is the speaker."""
BASELINES = {"griffin_lim": "griffin-lim", "world": "world"}
"""Key in ``wavenet.evaluation``, and the folder of its copies."""
REFERENCE, BABBLE = "reference", "babble.flac"
BABBLE_S = 6.0
SEED = 0
SHOWN_S = 3.0
"""Length of the first sentence in the picture, in which harmonics are visible."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make everything; 2 for a mistake in the input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "voice", metavar="VOICE", help="name of a bundled model, or a checkpoint folder"
    )
    parser.add_argument("corpus", type=Path, metavar="CORPUS", help="the folder with en, fr, it")
    parser.add_argument("--out", type=Path, default=Path("samples/voice"), help="of the sounds")
    parser.add_argument("--picture", type=Path, default=Path("samples/pictures/voice.png"))
    options = parser.parse_args(arguments)
    try:
        with limited_threads(1):
            make(options)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"samples.py: {error}", file=sys.stderr)
        return 2
    print(f"listen: {options.out}\nlook:   {options.picture}")
    return 0


def make(options: argparse.Namespace) -> None:
    """Make all sounds, the picture, and the page with the commands."""
    require_held_out(options.corpus)
    for key in BASELINES:
        if (reason := why_unavailable(key)) is not None:
            raise ModuleNotFoundError(f"{key}: {reason}")
    model, name = wavenet.load(options.voice), Path(options.voice).name
    manner = ("--model", options.voice, "--seed", str(SEED))
    commands = []
    for sentence in SENTENCES:
        reference = options.out / REFERENCE / sentence
        write_reference(options.corpus / sentence, reference)
        write_baselines(model, options.out, sentence)
        spoken, alone = (str(options.out / folder / sentence) for folder in (name, alone_of(name)))
        speaker = sentence.split("/")[0]
        commands.append(run("vocode", str(reference), spoken, *manner, "--speaker", speaker))
        bare = ("--speaker", speaker, "--refine", "0")
        commands.append(run("vocode", str(reference), alone, *manner, *bare))
    babble = str(options.out / name / BABBLE)
    commands.append(run("generate", babble, "--seconds", f"{BABBLE_S:g}", *manner))
    draw(options.out, name, options.picture)
    with atomic_write(options.out / "README.md") as temporary:
        temporary.write_text(page(options, name, commands), encoding="utf-8")


def alone_of(name: str) -> str:
    """Folder of the sounds that the network makes without refinement."""
    return f"{name}-network-alone"


def require_held_out(corpus: Path) -> None:
    """Raise ValueError unless the recipe validates on all sentences, and so trains on none."""
    config, _, _ = parse_training([str(Path(__file__).parent / "config.yaml")])
    read = Corpus.read(
        find_corpus(str(corpus)),
        config.model_config().sample_rate,
        trim_db=config.trim_silence or None,
    )
    _, held_out = read.split(config.validation_fraction)
    names = {utterance.name for utterance in held_out.utterances}
    for sentence in SENTENCES:
        if sentence not in names:
            raise ValueError(
                f"{corpus}: {sentence} is not held out from training; give the folder of the whole "
                "corpus, or choose another sentence"
            )


def write_reference(source: Path, target: Path) -> None:
    """Copy the recording, byte for byte."""
    with atomic_write(target) as temporary:
        temporary.write_bytes(source.read_bytes())


def write_baselines(model: WaveNet, out: Path, sentence: str) -> None:
    """Write the copies of Griffin-Lim and WORLD."""
    audio, rate = read_audio(out / REFERENCE / sentence, model.sample_rate)
    mel = whole_mel(model, audio)
    for key, folder in BASELINES.items():
        write_audio(out / folder / sentence, make_copy(key, model, audio, mel, SEED), rate)


def run(*arguments: str) -> str:
    """One ``wavenet`` command, shown before it runs; returns its line."""
    line = f"wavenet {shlex.join(arguments)}"
    print(f"$ {line}", flush=True)
    if code := command_line(arguments):
        sys.exit(code)
    return line


def draw(out: Path, name: str, picture: Path) -> None:
    """Draw spectrograms of the beginning of the first sentence, recorded and vocoded."""
    signals = {}
    for title, folder in (
        ("recording", REFERENCE),
        ("Griffin-Lim, from the mel", "griffin-lim"),
        ("WORLD, analysed more finely than a mel", "world"),
        (f"{name}, from the mel", name),
    ):
        audio, rate = read_audio(out / folder / SENTENCES[0])
        signals[title] = audio[: round(SHOWN_S * rate)]
    plot_spectrograms(signals, rate, picture)


def page(options: argparse.Namespace, name: str, commands: list[str]) -> str:
    """Return Markdown: the sounds in a table, and the command behind each."""
    weights = (find_checkpoint(options.voice) / WEIGHTS_NAME).read_bytes()
    program = f"python recipes/prompts/samples.py {options.voice} corpora/prompts"
    rows = {
        "recording": REFERENCE,
        "Griffin-Lim": "griffin-lim",
        "WORLD": "world",
        name: name,
        f"{name}, network alone": alone_of(name),
    }
    table = [
        f"| {title} | "
        + " | ".join(f"[{Path(sentence).stem}]({folder}/{sentence})" for sentence in SENTENCES)
        + " |"
        for title, folder in rows.items()
    ]
    speakers = " | ".join(sentence.split("/")[0] for sentence in SENTENCES)
    lines = [
        f"# Sounds of {name}",
        "",
        f"Sentences that {name} was not trained on, and [an unconditional sample]"
        f"({name}/{BABBLE}).",
        "Speakers, licences, attribution: [samples/README.md](../README.md).",
        "",
        f"| | {speakers} |",
        "| --- | --- | --- | --- |",
        *table,
        "",
        f"All made by `{program}`. It copied the recordings,",
        "made Griffin-Lim's and WORLD's copies as `wavenet evaluate` does, and ran:",
        "",
        "```sh",
        *commands,
        "```",
        "",
        f"`{WEIGHTS_NAME}`: sha256 {hashlib.sha256(weights).hexdigest()}",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
