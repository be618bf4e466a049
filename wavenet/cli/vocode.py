"""``wavenet vocode``: synthesize audio from mel spectrograms or recordings."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from wavenet.cli.generate import add_sampling_options, sampling_options
from wavenet.cli.options import (
    LARGEST_BATCH,
    add_model,
    any_name,
    audio_name,
    device,
    integer_up_to,
    shard,
)
from wavenet.cli.progress import reading, seconds_bar
from wavenet.cli.standard_streams import print_result

if TYPE_CHECKING:
    from wavenet.generation.vocode_files import Job, Outcome
    from wavenet.model import WaveNet

logger = logging.getLogger("wavenet")


def add_arguments(vocode: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    vocode.add_argument(
        "source",
        type=audio_name,
        metavar="IN",
        help="read this recording, this mel (.npz of wavenet mel, or a bare .npy), or every such "
        "file in this folder",
    )
    vocode.add_argument(
        "out",
        type=any_name,
        metavar="OUT",
        help="write this .wav, .flac or .ogg file; if IN is a folder, write into this folder",
    )
    add_model(vocode)
    vocode.add_argument(
        "--mel-config",
        type=any_name,
        metavar="NAME|FILE",
        help="read a bare .npy as a mel with these settings: wavenet-16k, tacotron2, hifigan, "
        "bigvgan-24k, a JSON file of settings, or the configuration of HiFi-GAN, BigVGAN, VITS or "
        "Matcha-TTS (default: the model's settings)",
    )
    vocode.add_argument(
        "--batch-size",
        type=integer_up_to(LARGEST_BATCH),
        default=8,
        metavar="N",
        help="synthesize this many files of a folder in parallel (default: 8)",
    )
    vocode.add_argument(
        "--shard",
        type=shard,
        metavar="I/N",
        help="of a folder, synthesize the I-th of N parts of its files, for N jobs that share the "
        "work: the first file, the one N files on, and so forth",
    )
    add_sampling_options(vocode)


def run(options: argparse.Namespace) -> int:
    """Synthesize one file or a folder of them, and print the length of the audio.

    Returns:
        The exit code: 2 if a file of the folder was left out.
    """
    from wavenet.features.acoustic_configs import read_mel_config
    from wavenet.loading import load_wavenet

    jobs, refused, is_folder = _jobs(
        Path(options.source), Path(options.out), options.mel_config is not None, options.shard
    )
    given = None if options.mel_config is None else read_mel_config(options.mel_config)
    model = load_wavenet(options.model, device=device(options.device))
    if model.config.mel is None:
        raise ValueError(f"{options.model} takes no mel; choose a mel-conditioned model")
    for line in refused:
        logger.warning("left out: %s", line)
    outcome, seconds = _vocode(options, model, jobs, given, is_folder)
    if not is_folder and outcome.failures:
        raise ValueError(outcome.failures[0])
    made_s = outcome.n_samples / model.sample_rate
    if outcome.written:
        logger.info(
            "%.0f samples/s, %.2f x real time", outcome.n_samples / seconds, made_s / seconds
        )
    files = f" in {outcome.written} files" if is_folder else ""
    print_result(f"{options.out}: {made_s:.3f} s at {model.sample_rate} Hz{files}")
    return 2 if refused or outcome.failures else 0


def _jobs(
    source: Path, out: Path, bare_mels: bool, shard: tuple[int, int] | None
) -> tuple[list[Job], list[str], bool]:
    """Return the jobs, a line for each file that is refused, and whether the source is a folder."""
    from wavenet.audio import require_extension
    from wavenet.generation.vocode_files import Job, jobs_of_folder
    from wavenet.storage.files import require_writable
    from wavenet.storage.paths import require_other_file

    if source.is_dir():
        jobs, refused = jobs_of_folder(source, out, bare_mels=bare_mels)
        require_writable(out / "one.wav")
        part, parts = shard or (1, 1)
        return jobs[part - 1 :: parts], refused[part - 1 :: parts], True
    if not source.exists():
        raise ValueError(f"{source}: cannot be read: No such file or directory; check the path")
    if shard is not None:
        raise ValueError(f"--shard divides the files of a folder; {source} is one file, drop it")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file inside it, such as {out / 'out.wav'}")
    require_extension(out)
    require_other_file(out, source)
    require_writable(out)
    return [Job(source, out)], [], False


def _vocode(
    options: argparse.Namespace, model: WaveNet, jobs: list[Job], given: object, is_folder: bool
) -> tuple[Outcome, float]:
    """Synthesize with two bars: one while files are read, one while audio is made."""
    from wavenet.features.mel_config import MelConfig
    from wavenet.generation.vocode_files import vocode_files

    assert given is None or isinstance(given, MelConfig)
    started = time.monotonic()
    bar = seconds_bar(0, "vocoding")

    def progress(made: int, total: int) -> None:
        nonlocal started
        if bar.total != total / model.sample_rate:  # all have been read: synthesis begins
            bar.reset(total / model.sample_rate)
            started = time.monotonic()
        bar.update(made / model.sample_rate)

    def report(line: str) -> None:
        if is_folder:
            bar.clear()
            logger.warning("left out: %s", line)

    with bar:
        outcome = vocode_files(
            model,
            reading(jobs),
            sampling_options(options, model),
            mel_config=given,
            batch_size=options.batch_size,
            report=report,
            progress=progress,
        )
    return outcome, time.monotonic() - started
