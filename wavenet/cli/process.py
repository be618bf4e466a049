"""``wavenet process``: run audio through an amplifier model."""

from __future__ import annotations

import argparse
from pathlib import Path

from wavenet.cli.options import add_fast_tanh, add_submodel, any_name, audio_name, integer
from wavenet.cli.progress import seconds_bar
from wavenet.cli.standard_streams import print_message, print_result
from wavenet.storage.files import require_writable
from wavenet.storage.paths import require_other_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("source", type=audio_name, metavar="IN", help="read this audio file")
    parser.add_argument(
        "target",
        type=any_name,
        metavar="OUT",
        help="write this .wav file (32-bit float) or .flac file (24 bits)",
    )
    parser.add_argument(
        "--model",
        type=any_name,
        required=True,
        metavar="FILE",
        help="run this model: a .nam file or the checkpoint folder of an imported one",
    )
    add_submodel(parser, "run", "the largest")
    add_fast_tanh(parser)
    parser.add_argument(
        "--chunk",
        type=integer,
        default=512,
        metavar="N",
        help="pass this many samples to the model at a time (default: 512)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the model over the file; print its length, and on standard error the speed.

    Raises:
        ValueError: for whatever cannot be done; the message is one line.
    """
    import torch

    from wavenet.audio import audio_info
    from wavenet.audio.opening import require_no_folder
    from wavenet.audio.writing import require_extension
    from wavenet.cli.nam_models import load_model
    from wavenet.nn import with_fast_tanh
    from wavenet.processing.files import FORMATS, process_file

    source, target = Path(options.source), Path(options.target)
    require_no_folder(source)
    require_extension(target, FORMATS)
    require_other_file(target, source, options.model)
    require_writable(target)
    duration_s = audio_info(source).duration_s
    model = load_model(options.model, submodel=options.submodel)
    if options.fast_tanh:
        model = with_fast_tanh(model)
    torch.set_num_threads(1)  # a chunk is too small to share: an LSTM becomes slower by sharing it
    with seconds_bar(duration_s, "processing") as bar:
        done = process_file(model, source, target, chunk=options.chunk, progress=bar.update)
    print_result(f"{target}: {done.duration_s:.3f} s")
    how = "compiled" if done.compiled else "by torch"
    print_message(f"{done.elapsed_s:.2f} s, {done.real_time_factor:.1f} x real time, {how}")
    if done.clipped:
        print_message(f"{done.clipped} samples were clipped at full scale; write .wav")
    return 0
