"""The command line: it parses, calls and prints. What it does is done by the package.

A mistake of the user's ends in one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from wavenet.checkpoint import CONFIG_NAME, read_config
from wavenet.receptive_fields import command as field_command
from wavenet.training.errors import TrainingError

if TYPE_CHECKING:
    from wavenet import WaveNet

DEFAULT_SECONDS = 3.0
INTERRUPTED = 130
"""Exit code after ctrl-C: 128 and the number of the signal."""


class UsageError(ValueError):
    """Arguments that are none of the command's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; default, those of the process.

    Returns:
        The exit code: 0, 2 for a mistake in the input, 130 when interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = "wavenet"
    try:
        if given[:1] == ["train"]:  # its keys are those of the configuration, typed by jsonargparse
            options = argparse.Namespace(command="train", run=_train, arguments=given[1:])
        else:
            options = _parser().parse_args(given)
        name = f"wavenet {options.command}"
        with _messages_on_stderr():
            code: int = options.run(options) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever listened has left
        _give_up_stdout()
        return 0
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except (ValueError, OSError, ModuleNotFoundError, TrainingError) as error:
        _give_up_stdout()
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return code


@contextlib.contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Show what the package reports while it works, such as files that were left out."""
    logger, handler = logging.getLogger("wavenet"), logging.StreamHandler(sys.stderr)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _give_up_stdout() -> None:
    """Where standard output takes no more, keep Python from trying once again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _Parser(argparse.ArgumentParser):
    """Its errors are one line, and raised."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{self.prog}: {message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wavenet", description="Causal dilated convolutions that generate speech and audio."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("train", help="train a model on a folder of audio")

    inspect = commands.add_parser("inspect", help="what a corpus holds, and what is odd about it")
    inspect.add_argument("corpus", metavar="CORPUS", help="a folder, a manifest or a name")
    inspect.add_argument("--corpus-root", default="corpora", help="where named corpora lie")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    inspect.set_defaults(run=_inspect)

    generate = commands.add_parser("generate", help="generate audio from a model")
    generate.add_argument(
        "out", metavar="OUT", help="a .wav, .flac or .ogg file; - for raw 16-bit samples to a pipe"
    )
    generate.add_argument("--model", required=True, metavar="FOLDER", help="a checkpoint")
    generate.add_argument("--seconds", type=float, help=f"length (default {DEFAULT_SECONDS:g})")
    generate.add_argument("--seed", type=int, default=0, help="same seed, same file (default 0)")
    generate.add_argument("--temperature", type=float, default=1.0, help="below 1: less noisy")
    generate.add_argument("--top-p", type=float, help="nucleus sampling, mu-law models only")
    generate.add_argument("--speaker", help="name or index")
    generate.add_argument("--prime", metavar="IN", help="audio to carry on")
    generate.add_argument("--mel-from", metavar="IN", help="audio whose log-mel is to be spoken")
    generate.add_argument(
        "--engine", default="auto", help="auto, eager, cpu, gpu or gpu-fused (not measured yet)"
    )
    generate.add_argument("--weights", default="float32", help="float32, float16 or bfloat16")
    generate.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    generate.set_defaults(run=_generate)

    info = commands.add_parser("info", help="what a checkpoint is and where it comes from")
    info.add_argument("model", metavar="FOLDER", help="a checkpoint")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)

    field = commands.add_parser("receptive-field", help="how far back a network hears")
    field_command.add_arguments(field)
    field.set_defaults(run=_receptive_field)

    _add_bench(commands)
    return parser


def _add_bench(commands: Any) -> None:
    bench = commands.add_parser("bench", help="how fast this machine is")
    measures = bench.add_subparsers(dest="measure", required=True, metavar="MEASURE")

    sample = measures.add_parser(
        "sample", help="samples a second, beside the eager engine and the machine's own limit"
    )
    which = sample.add_mutually_exclusive_group()
    which.add_argument("--preset", default="small", help="tiny, small (default), medium or nv")
    which.add_argument("--model", metavar="FOLDER", help="a checkpoint instead of a preset")
    sample.add_argument(
        "--engine", default="auto", help="auto, eager, cpu; gpu or gpu-fused: on a CUDA device"
    )
    sample.add_argument("--weights", default="float32", help="float32, float16 or bfloat16")
    sample.add_argument(
        "--batch", type=int, metavar="N", help="rows (default 1; on a GPU from 1 to 2048)"
    )
    length = sample.add_mutually_exclusive_group()
    length.add_argument("--samples", type=int, help="of a row in a round (default: 0.1 s of work)")
    length.add_argument("--seconds", type=float, help="the same, in seconds of audio")
    sample.set_defaults(run=_bench_sample)

    live = measures.add_parser(
        "process", help="a guitar-amplifier network in chunks of 32 to 512 samples at 48 kHz"
    )
    live.set_defaults(run=_bench_process)
    for measure in (sample, live):
        measure.add_argument("--rounds", type=int, default=9, help="take the median (default 9)")
        measure.add_argument("--threads", type=int, default=1, help="at most (default 1)")
        measure.add_argument("--json", action="store_true", help="print one JSON object")


def _train(options: argparse.Namespace) -> int:
    from wavenet.training.config import MISSING_PACKAGES, parse_training

    config, out, resume = parse_training(options.arguments)
    if out is None:
        raise ValueError("--out is missing; name the folder for the model")
    try:
        from wavenet.training.run import is_writer, train
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{MISSING_PACKAGES} ({error})") from error

    command = shlex.join(["wavenet", "train", *options.arguments])
    result = train(config, out, command=command, resume=resume)
    if not is_writer():  # of several processes one speaks
        return INTERRUPTED if result.interrupted else 0
    ended = "interrupted after" if result.interrupted else "trained for"
    print(
        f"{ended} {result.steps} steps: {result.bits_before:.3f} -> {result.bits_after:.3f} bits "
        f"per sample (best constant distribution {result.constant_bits:.3f})\n"
        f"model: {result.model_folder}"
    )
    return INTERRUPTED if result.interrupted else 0


def _inspect(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from wavenet.data import find_corpus
    from wavenet.data.inspect import inspect_corpus

    shown = functools.partial(tqdm, desc="reading", unit="file", leave=False, disable=None)
    listing = find_corpus(options.corpus, root=options.corpus_root)
    found = inspect_corpus(options.corpus, listing, progress=shown)
    text = json.dumps(found.to_dict()) if options.json else str(found)
    print(text.encode("utf-8", "backslashreplace").decode())  # names need not be Unicode


def _generate(options: argparse.Namespace) -> None:
    import torch

    from wavenet import load, log_mel, stream
    from wavenet.audio import read_audio, require_extension, write_audio

    to_pipe = options.out == "-"
    if not to_pipe:
        require_extension(options.out)
    model = load(options.model, device=_device(options.device))
    prime = mel = None
    if options.prime is not None:
        prime, _ = read_audio(options.prime, model.sample_rate)
    if options.mel_from is not None:
        if model.config.mel is None:
            raise ValueError(f"--mel-from={options.mel_from}, but {options.model} takes no mel")
        audio, _ = read_audio(options.mel_from, model.sample_rate)
        mel = log_mel(audio, model.config.mel, model.mel_filterbank.cpu())
    elif model.config.mel is not None:
        raise ValueError(
            f"{options.model} speaks from a mel spectrogram; give --mel-from IN.wav to say what"
        )
    seconds = options.seconds
    if seconds is None and mel is None:
        seconds = DEFAULT_SECONDS
    chunks = stream(
        model,
        chunk_samples=model.sample_rate // 20,
        duration_s=seconds,
        mel=mel,
        speaker=_speaker(options.speaker, model),
        seed=options.seed,
        temperature=options.temperature,
        top_p=options.top_p,
        prime=prime,
        engine=options.engine,
        weights=options.weights,
    )
    if to_pipe:
        for chunk in chunks:
            sys.stdout.buffer.write(_pcm(chunk[0]))
            sys.stdout.buffer.flush()
        return
    total = max(chunks.n_samples or [0])
    parts = []
    with _progress_bar(total, model.sample_rate) as bar:
        for chunk in chunks:
            parts.append(chunk[0])
            bar.update(chunk.shape[1] / model.sample_rate)
    write_audio(options.out, torch.cat(parts), model.sample_rate)
    print(f"{options.out}: {total / model.sample_rate:.3f} s at {model.sample_rate} Hz")


def _info(options: argparse.Namespace) -> None:
    from wavenet import load, receptive_field

    model = load(options.model)
    content = read_config(options.model)
    field = receptive_field(model)
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiply_adds_per_sample": model.multiply_adds,
        "receptive_field_samples": field.samples,
        "receptive_field_ms": field.milliseconds,
        **content,
    }
    if options.json:
        print(json.dumps(facts))
        return
    print(f"{facts['parameters']:,} parameters, {model.multiply_adds:,} multiply-adds per sample")
    print(f"receptive field: {field.samples} samples = {field.milliseconds:.3f} ms")
    for title in ("config", "provenance"):
        print(f"{title}:")
        _print_tree(content[title], indent="  ")


def _bench_sample(options: argparse.Namespace) -> None:
    from wavenet import WaveNet, WaveNetConfig, load
    from wavenet.evaluation.device import BATCHES, DEVICE_ENGINES, DeviceSpeed, measure_on_device
    from wavenet.evaluation.speed import SamplingSpeed, measure_sampling

    if options.model is None:
        name, model = options.preset, WaveNet(WaveNetConfig.preset(options.preset)).eval()
    else:
        name, model = options.model, load(options.model)
    samples = options.samples
    if options.seconds is not None:
        if not 0 < options.seconds < math.inf:
            raise ValueError(f"--seconds={options.seconds} must be a positive number of seconds")
        samples = max(1, round(options.seconds * model.sample_rate))
    speed: SamplingSpeed | DeviceSpeed
    if options.engine in DEVICE_ENGINES:
        speed = measure_on_device(
            model,
            engine=options.engine,
            weights=options.weights,
            batches=BATCHES if options.batch is None else (options.batch,),
            samples=samples,
            rounds=options.rounds,
        )
    else:
        speed = measure_sampling(
            model,
            engine=options.engine,
            weights=options.weights,
            batch=1 if options.batch is None else options.batch,
            samples=samples,
            rounds=options.rounds,
            threads=options.threads,
        )
    print(json.dumps({"model": name, **speed.to_dict()}) if options.json else f"{name}\n{speed}")


def _bench_process(options: argparse.Namespace) -> None:
    from wavenet.evaluation.live import measure_processing

    speed = measure_processing(rounds=options.rounds, threads=options.threads)
    print(speed.to_json() if options.json else speed)


def _receptive_field(options: argparse.Namespace) -> None:
    from wavenet import load
    from wavenet.audio import read_audio

    print(
        field_command.answer(
            options,
            _read_target,
            load,
            lambda path, rate: read_audio(path, rate)[0],
            _multiply_adds_per_second,
        )
    )


def _multiply_adds_per_second(residual_channels: int) -> float:
    """Of the CPU engine on this machine, with one thread, in a WaveNet of this width."""
    from wavenet import WaveNet, WaveNetConfig
    from wavenet.evaluation.speed import measure_sampling

    config = WaveNetConfig(
        layers_per_stack=8,
        stacks=2,
        residual_channels=residual_channels,
        skip_channels=2 * residual_channels,
    )
    model = WaveNet(config).eval()
    speed = measure_sampling(model, engine="cpu", batch=1, samples=500, rounds=3, threads=1)
    return speed.samples_per_second.median * model.multiply_adds


def _read_target(path: Path) -> Any:
    """The model configuration in a checkpoint folder or a recipe."""
    from wavenet import WaveNetConfig

    if path.is_dir() and not (path / CONFIG_NAME).exists() and (path / "config.yaml").exists():
        path = path / "config.yaml"
    if path.suffix not in (".yaml", ".yml"):
        return WaveNetConfig.from_dict(read_config(path)["config"])
    from wavenet.training.config import parse_training

    return parse_training([str(path)])[0].model_config()


def _speaker(text: str | None, model: WaveNet) -> int | str | None:
    """A name, or else an index; names may be numbers."""
    if text is None or text in model.config.speaker_names or not text.isdecimal():
        return text
    return int(text)


def _device(text: str) -> Any:
    """The torch.device of that name, if it is here."""
    import torch

    try:
        device = torch.device(text)
    except RuntimeError:
        raise ValueError(f"--device={text!r} is no device; give cpu, cuda or cuda:0") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"--device={text}: found {torch.cuda.device_count()} CUDA GPUs here; leave --device out"
        )
    return device


def _pcm(samples: Any) -> bytes:
    """16-bit little-endian samples."""
    data: bytes = (
        (samples * 32768).round().clamp(-32768, 32767).short().numpy().astype("<i2").tobytes()
    )
    return data


def _progress_bar(total: int, sample_rate: int) -> Any:
    from tqdm import tqdm

    layout = "{l_bar}{bar}| {n:.1f}/{total:.1f} s of audio [{elapsed}<{remaining}]"
    return tqdm(
        total=total / sample_rate,
        desc="generating",
        bar_format=layout,
        leave=False,
        disable=None,  # shown on a terminal
    )


def _print_tree(values: dict[str, Any], indent: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_tree(value, indent + "  ")
        elif value is not None:
            print(f"{indent}{key}: {value}")


if __name__ == "__main__":
    sys.exit(main())
