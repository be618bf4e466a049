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
from typing import Any, NoReturn

from wavenet import __version__
from wavenet.checkpoint import CONFIG_NAME, read_config
from wavenet.ending import unwound_by_sigterm
from wavenet.evaluation import command as evaluate_command
from wavenet.generation import command as generate_command
from wavenet.hub import resolve
from wavenet.interop import command as interop_command
from wavenet.messages import OneLine
from wavenet.processing import command as process_command
from wavenet.receptive_fields import command as field_command
from wavenet.training.errors import TrainingError
from wavenet.vocoding import command as vocode_command

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
            options.given = given
        name = f"wavenet {options.command}"
        own_end = options.command == "train"  # with a checkpoint, after the step being made
        with _messages_on_stderr(), contextlib.nullcontext() if own_end else unwound_by_sigterm():
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
    handler.setFormatter(OneLine())
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
    parser.add_argument("--version", action="version", version=f"wavenet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("train", help="train a model on a folder of audio")

    inspect = commands.add_parser("inspect", help="what a corpus holds, and what is odd about it")
    inspect.add_argument("corpus", metavar="CORPUS", help="a folder, a manifest or a name")
    inspect.add_argument("--corpus-root", default="corpora", help="where named corpora lie")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    inspect.set_defaults(run=_inspect)

    generate = commands.add_parser("generate", help="generate audio from a model")
    generate_command.add_arguments(generate)
    generate.set_defaults(run=_generate)

    vocode = commands.add_parser("vocode", help="a model's speech for audio, or for its mel")
    vocode_command.add_vocode_arguments(vocode)
    vocode.set_defaults(run=_vocode)

    mel = commands.add_parser("mel", help="the log-mel spectrogram of audio, with its settings")
    vocode_command.add_mel_arguments(mel)
    mel.set_defaults(run=_mel)

    process = commands.add_parser("process", help="run audio through an amplifier model")
    process_command.add_arguments(process)
    process.set_defaults(run=_process)

    info = commands.add_parser("info", help="what a checkpoint is and where it comes from")
    info.add_argument("model", metavar="MODEL", help="a checkpoint's folder or a voice")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)

    evaluate = commands.add_parser("evaluate", help="how good a model is, in numbers and to hear")
    evaluate_command.add_arguments(evaluate)
    evaluate.set_defaults(run=_evaluate)

    convert = commands.add_parser("import", help="read another program's model")
    interop_command.add_import_arguments(convert)
    convert.set_defaults(run=_import)

    convert = commands.add_parser("export", help="write a model for another program")
    interop_command.add_export_arguments(convert)
    convert.set_defaults(run=_export)

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

    train = measures.add_parser(
        "train", help="samples a second of a training step, beside a plain network of Conv1d"
    )
    train.add_argument("--preset", default="medium", help="tiny, small, medium (default) or nv")
    train.add_argument("--precision", default="32", help="32 (default) or bf16")
    train.add_argument("--window-s", type=float, default=1.0, help="of a window (default 1)")
    train.add_argument("--batch-size", type=int, default=2, help="windows in a step (default 2)")
    train.add_argument("--recompute", action="store_true", help="less memory, more time")
    train.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    train.set_defaults(run=_bench_train)

    live = measures.add_parser(
        "process", help="a guitar-amplifier network in chunks of 32 to 512 samples at 48 kHz"
    )
    live.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a .nam file, a checkpoint, or one of NAM's sizes",
    )
    live.set_defaults(run=_bench_process)
    for measure, rounds in ((sample, 9), (train, 5), (live, 9)):
        text = f"take the median (default {rounds})"
        measure.add_argument("--rounds", type=int, default=rounds, help=text)
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
    said = generate_command.run(options)
    if said is not None:
        print(said)


def _vocode(options: argparse.Namespace) -> int:
    said, code = vocode_command.run_vocode(options)
    print(said)
    return code


def _mel(options: argparse.Namespace) -> None:
    print(vocode_command.run_mel(options))


def _process(options: argparse.Namespace) -> None:
    from wavenet.interop.nam import load_model

    made, speed, remarks = process_command.answer(options, load_model)
    print(made)
    for line in (speed, *remarks):
        print(line, file=sys.stderr)


def _info(options: argparse.Namespace) -> None:
    from wavenet import load, receptive_field

    folder = resolve(options.model)
    model, content = load(folder), read_config(folder)
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


def _evaluate(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from wavenet import load

    def shown(items: Any, title: str, total: int) -> Any:
        return tqdm(items, title, total, leave=False, disable=None, unit="recording")

    given = ["wavenet", *options.given]
    text = evaluate_command.answer(options, load, shown, shlex.join(given))
    print(text.encode("utf-8", "backslashreplace").decode())  # names need not be Unicode


def _import(options: argparse.Namespace) -> None:
    print(interop_command.import_file(options))


def _export(options: argparse.Namespace) -> None:
    print(interop_command.export_file(options))


def _bench_sample(options: argparse.Namespace) -> None:
    from wavenet import WaveNet, WaveNetConfig
    from wavenet.evaluation.device import BATCHES, DEVICE_ENGINES, DeviceSpeed, measure_on_device
    from wavenet.evaluation.speed import SamplingSpeed, measure_sampling
    from wavenet.model_loading import load

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


def _bench_train(options: argparse.Namespace) -> None:
    from wavenet import WaveNetConfig
    from wavenet.evaluation.training_speed import measure_training

    speed = measure_training(
        WaveNetConfig.preset(options.preset),
        precision=options.precision,
        window_s=options.window_s,
        batch_size=options.batch_size,
        threads=options.threads,
        rounds=options.rounds,
        recompute=options.recompute,
        device=str(generate_command.device(options.device)),
    )
    found = {"model": options.preset, **speed.to_dict()}
    print(json.dumps(found) if options.json else f"{options.preset}\n{speed}")


def _bench_process(options: argparse.Namespace) -> None:
    from wavenet.evaluation.live import measure_processing

    network = None
    if options.model is not None:
        from wavenet.interop.nam import load_model

        network = load_model(options.model)
    speed = measure_processing(network, rounds=options.rounds, threads=options.threads)
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
    from wavenet import WaveNetConfig, load
    from wavenet.loading import LOADERS

    if path.is_dir() and not (path / CONFIG_NAME).exists() and (path / "config.yaml").exists():
        path = path / "config.yaml"
    if path.suffix not in (".yaml", ".yml"):
        content = read_config(path)
        if content.get("architecture") in LOADERS:
            return load(path)
        return WaveNetConfig.from_dict(content["config"])
    from wavenet.training.config import parse_training

    return parse_training([str(path)])[0].model_config()


def _print_tree(values: dict[str, Any], indent: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_tree(value, indent + "  ")
        elif value is not None:
            print(f"{indent}{key}: {value}")


if __name__ == "__main__":
    sys.exit(main())
