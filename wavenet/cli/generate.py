"""``wavenet generate``, and the arguments of every command that generates audio."""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
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
from wavenet.cli.standard_streams import print_result

if TYPE_CHECKING:
    from torch import Tensor

    from wavenet.generation.options import SamplingOptions
    from wavenet.generation.prompts import Prompt
    from wavenet.model import WaveNet

DEFAULT_SECONDS = 3.0
_NAMES_SHOWN = 12


def add_arguments(generate: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
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
        help="generate this much audio (default: the length of the --mel-from input or of the "
        "--features, or else "
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
    generate.add_argument(
        "--features",
        type=any_name,
        metavar="FILE",
        help="condition a model of other features on those in this .npy or .npz file, "
        "[channels, frames]",
    )
    add_sampling_options(generate)


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of sampling."""
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
    parser.add_argument(
        "--refine",
        type=integer,
        metavar="N",
        help="refine towards the mel with this many passes (default: the model's own; 0: none)",
    )
    add_weights(parser)
    add_device(parser)


def sampling_options(options: argparse.Namespace, model: WaveNet) -> SamplingOptions:
    """Return the sampling options that ``add_sampling_options`` has parsed."""
    from wavenet.generation.options import SamplingOptions

    return SamplingOptions(
        speaker=_speaker(options.speaker, model),
        seed=options.seed,
        temperature=options.temperature,
        top_p=options.top_p,
        noise_shaping=options.noise_shaping,
        engine=options.engine,
        weights=options.weights,
        refine=options.refine,
    )


def run(options: argparse.Namespace) -> int:
    """Write the file and print its name and length; or fill the pipe and print nothing."""
    from wavenet.audio import require_extension
    from wavenet.loading import load_wavenet
    from wavenet.storage.files import require_writable
    from wavenet.storage.paths import require_other_file

    to_pipe = options.out == "-"
    if to_pipe and sys.stdout.isatty():
        raise ValueError("- writes raw samples, which a terminal takes for commands; add a pipe")
    if not to_pipe:
        require_extension(options.out)
        require_other_file(options.out, options.prime, options.mel_from, options.features)
        require_writable(options.out)
    model = load_wavenet(options.model, device=device(options.device))
    _require_mel(options, model)
    n_samples, chunks = _from_mel(options, model) if _is_copy(options) else _stream(options, model)
    if to_pipe:
        _fill_pipe(chunks)
        return 0
    _write(options.out, chunks, n_samples, model.sample_rate)
    print_result(f"{options.out}: {n_samples / model.sample_rate:.3f} s at {model.sample_rate} Hz")
    return 0


def _require_mel(options: argparse.Namespace, model: WaveNet) -> None:
    """Raise ValueError for a model that needs what was not given, or takes none of it."""
    config = model.config
    if options.mel_from is not None and config.mel is None:
        raise ValueError(f"--mel-from={options.mel_from}, but {options.model} takes no mel")
    if options.features is not None and config.features is None:
        raise ValueError(
            f"--features={options.features}, but {options.model} takes no features beside a mel"
        )
    given = options.mel_from is not None or options.features is not None
    if given or config.local is None or config.unconditional:
        return
    if config.features is not None:
        raise ValueError(
            f"{options.model} needs features, {config.features.channels} values every "
            f"{config.features.hop_samples} samples; give --features FILE"
        )
    raise ValueError(
        f"{options.model} needs a mel: use wavenet vocode IN OUT, or give --mel-from IN"
    )


def _is_copy(options: argparse.Namespace) -> bool:
    """Return whether a mel is all that it begins from."""
    return options.mel_from is not None and options.prime is None


def _from_mel(options: argparse.Namespace, model: WaveNet) -> tuple[int, Iterator[Tensor]]:
    """Return the number of samples of a mel, and chunks ``[n]`` of them, made when needed."""
    from wavenet.generation.batching import BatchedVocoder
    from wavenet.generation.mel_sources import open_source

    source = open_source(Path(options.mel_from), model)
    n_samples = _length(options, model)
    if n_samples is None:
        n_samples = source.n_samples
    if n_samples > source.longest:
        raise ValueError(
            f"--seconds={options.seconds} is more than the mel describes, "
            f"{source.longest / model.sample_rate:.3f} s; ask for less"
        )
    vocoder = BatchedVocoder(
        model,
        [source.frames()],
        sampling_options(options, model),
        batch_size=1,
        n_samples=[n_samples],
    )
    samples = (chunk.samples for (chunk,) in vocoder)
    return n_samples, _first(samples, n_samples)


def _stream(options: argparse.Namespace, model: WaveNet) -> tuple[int, Iterator[Tensor]]:
    """Return the number of samples after silence or a prompt, and chunks ``[n]`` of them."""
    import torch

    from wavenet.generation.sampling import stream

    prompt = None if options.prime is None else _prompt(options.prime, model.sample_rate)
    mel, n_samples = None, _length(options, model)
    if options.mel_from is not None:
        from wavenet.generation.mel_sources import open_source

        source = open_source(Path(options.mel_from), model)
        mel = torch.cat(list(source.frames()), dim=-1)
        if n_samples is None:  # as long as its source
            n_samples = max(1, source.n_samples - (0 if prompt is None else prompt.n_samples))
    if options.features is not None:
        from wavenet.data.frame_features import whole_features

        assert model.config.features is not None
        mel = whole_features(options.features, model.config.features)
        if n_samples is None:
            described = mel.shape[1] * model.config.features.hop_samples
            n_samples = max(1, described - (0 if prompt is None else prompt.n_samples))
    if n_samples is None:
        n_samples = round(DEFAULT_SECONDS * model.sample_rate)
    how = sampling_options(options, model)
    chunks = stream(
        model,
        chunk_samples=model.sample_rate // 20,
        n_samples=n_samples,
        mel=mel,
        speaker=how.speaker,
        seed=how.seed,
        temperature=how.temperature,
        top_p=how.top_p,
        noise_shaping=how.noise_shaping,
        prime=prompt,
        engine=how.engine,
        weights=how.weights,
        refine=how.refine,
    )
    return n_samples, (chunk[0] for chunk in chunks)


def _length(options: argparse.Namespace, model: WaveNet) -> int | None:
    """Samples that ``--seconds`` asks for."""
    seconds = options.seconds
    if seconds is None:
        return None
    if not 0 < seconds < math.inf:
        raise ValueError(f"--seconds={seconds} must be a positive number of seconds")
    return max(1, round(seconds * model.sample_rate))


def _prompt(path: str, sample_rate: int) -> Prompt:
    """An audio file to carry on, which is read piece by piece."""
    from wavenet.audio.blocks import count_samples, read_blocks
    from wavenet.generation.prompts import Prompt

    return Prompt(count_samples(path, sample_rate), lambda: read_blocks(path, sample_rate))


def _first(pieces: Iterable[Tensor], n_samples: int) -> Iterator[Tensor]:
    """No more than so many samples of all the pieces."""
    for piece in pieces:
        yield piece[:n_samples]
        n_samples -= len(piece)
        if n_samples <= 0:
            return


def _write(path: str, chunks: Iterator[Tensor], n_samples: int, sample_rate: int) -> None:
    """Write chunks to the file as they are made."""
    from wavenet.audio.writing import open_writer, require_room

    require_room(path, n_samples)
    first = next(chunks)  # what cannot be made shall leave no trace
    with (
        seconds_bar(n_samples / sample_rate, "generating") as bar,
        open_writer(path, sample_rate) as writer,
    ):
        for chunk in itertools.chain((first,), chunks):
            writer.write(chunk)
            bar.update(len(chunk) / sample_rate)


def _fill_pipe(chunks: Iterator[Tensor]) -> None:
    """16-bit little-endian samples to standard output."""
    from wavenet.audio.writing import require_finite, stored_values

    for chunk in chunks:
        require_finite("-", chunk)
        sys.stdout.buffer.write(stored_values(chunk, "PCM_16").astype("<i2").tobytes())
        sys.stdout.buffer.flush()


def _speaker(text: str | None, model: WaveNet) -> int | str | None:
    """``speaker_of_text``.

    Raises:
        ValueError: if none is given and the model cannot do without.
    """
    from wavenet.generation.arguments import speaker_of_text

    if text is None and model.config.speakers and not model.config.unconditional:
        names = model.config.speaker_names[:_NAMES_SHOWN] or (f"0 to {model.config.speakers - 1}",)
        more = ", ..." if model.config.speakers > _NAMES_SHOWN and len(names) > 1 else ""
        raise ValueError(f"--speaker is missing; the model knows {', '.join(names)}{more}")
    return speaker_of_text(text, model)
