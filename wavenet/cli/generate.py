"""``wavenet generate``, and the arguments of every command that makes a model speak."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from wavenet.cli.options import (
    add_device,
    add_drawing,
    add_model,
    add_weights,
    any_name,
    audio_name,
    device,
    integer,
    seconds,
)
from wavenet.cli.progress import seconds_bar

if TYPE_CHECKING:
    from torch import Tensor

    from wavenet.generation.speeches import Manner
    from wavenet.model import WaveNet

DEFAULT_SECONDS = 3.0


def add_arguments(generate: argparse.ArgumentParser) -> None:
    """The arguments of ``wavenet generate``."""
    generate.add_argument(
        "out",
        type=any_name,
        metavar="OUT",
        help="write this .wav, .flac or .ogg file; - writes raw 16-bit samples to standard output",
    )
    add_model(generate)
    generate.add_argument(
        "--seconds",
        type=seconds,
        metavar="S",
        help="generate this much audio (default: the length of the --mel-from input, or else "
        f"{DEFAULT_SECONDS:g})",
    )
    generate.add_argument(
        "--prime",
        type=audio_name,
        metavar="IN",
        help="continue this recording; the output does not contain it",
    )
    generate.add_argument(
        "--mel-from",
        type=audio_name,
        metavar="IN",
        help="condition the model on the mel spectrogram of this recording, or on a stored mel",
    )
    add_manner(generate)


def add_manner(parser: argparse.ArgumentParser) -> None:
    """Options of sampling."""
    parser.add_argument(
        "--speaker",
        metavar="NAME|INDEX",
        help="select a speaker of the model by name or index; '' selects none",
    )
    parser.add_argument(
        "--seed",
        type=integer,
        default=0,
        metavar="N",
        help="seed the random draws: the same seed gives the same audio (default: 0)",
    )
    add_drawing(parser)
    parser.add_argument(
        "--engine",
        default="auto",
        help="sample with this engine: auto (default) takes the fastest that runs the model, "
        "eager is plain PyTorch, cpu is compiled, gpu replays CUDA graphs, and gpu-fused is a "
        "Triton kernel that has not been measured yet",
    )
    add_weights(parser)
    add_device(parser)


def manner(options: argparse.Namespace, model: WaveNet) -> Manner:
    """Return the sampling options that ``add_manner`` has parsed."""
    from wavenet.generation.speeches import Manner

    return Manner(
        speaker=_speaker(options.speaker, model),
        seed=options.seed,
        temperature=options.temperature,
        top_p=options.top_p,
        engine=options.engine,
        weights=options.weights,
    )


def run(options: argparse.Namespace) -> str | None:
    """Make the file, and say which; or fill the pipe, and say nothing."""
    import torch

    from wavenet.audio import read_audio, require_extension, write_audio
    from wavenet.generation.sampling import stream
    from wavenet.model.from_checkpoint import load
    from wavenet.storage.files import require_writable

    if options.out == "-" and sys.stdout.isatty():
        raise ValueError("- writes raw samples, which a terminal takes for commands; add a pipe")
    if options.out != "-":
        require_extension(options.out)
        require_writable(options.out)
    model = load(options.model, device=device(options.device))
    prime = None if options.prime is None else read_audio(options.prime, model.sample_rate)[0]
    mel, n_samples = (None, None) if options.mel_from is None else _mel(options, model)
    seconds = options.seconds
    if seconds is None and n_samples is None:
        seconds = DEFAULT_SECONDS
    elif seconds is None and n_samples is not None:  # as long as what it speaks again
        n_samples = max(1, n_samples - (0 if prime is None else len(prime)))
    how = manner(options, model)
    chunks = stream(
        model,
        chunk_samples=model.sample_rate // 20,
        duration_s=seconds,
        n_samples=n_samples if seconds is None else None,
        mel=mel,
        speaker=how.speaker,
        seed=how.seed,
        temperature=how.temperature,
        top_p=how.top_p,
        prime=prime,
        engine=how.engine,
        weights=how.weights,
    )
    if options.out == "-":
        for chunk in chunks:
            sys.stdout.buffer.write(_pcm(chunk[0]))
            sys.stdout.buffer.flush()
        return None
    duration_s = max(chunks.n_samples or [0]) / model.sample_rate
    parts = []
    with seconds_bar(duration_s, "generating") as bar:
        for chunk in chunks:
            parts.append(chunk[0])
            bar.update(chunk.shape[1] / model.sample_rate)
    write_audio(options.out, torch.cat(parts), model.sample_rate)
    return f"{options.out}: {duration_s:.3f} s at {model.sample_rate} Hz"


def _mel(options: argparse.Namespace, model: WaveNet) -> tuple[Tensor, int]:
    """``[M, F]`` of ``--mel-from``, and how many samples it was made from."""
    from pathlib import Path

    import torch

    from wavenet.generation.mel_sources import open_source

    if model.config.mel is None:
        raise ValueError(f"--mel-from={options.mel_from}, but {options.model} takes no mel")
    source = open_source(Path(options.mel_from), model)
    return torch.cat(list(source.frames()), dim=-1), source.n_samples


def _speaker(text: str | None, model: WaveNet) -> int | str | None:
    """A name, or else an index; names may be numbers."""
    is_index = text is not None and text.isascii() and text.isdecimal() and len(text) < 10
    if text is None or text in model.config.speaker_names or not is_index:
        return text
    return int(text)


def _pcm(samples: Tensor) -> bytes:
    """16-bit little-endian samples."""
    data: bytes = (
        (samples * 32768).round().clamp(-32768, 32767).short().numpy().astype("<i2").tobytes()
    )
    return data
