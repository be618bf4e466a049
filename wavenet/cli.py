"""The command line: it parses, calls and prints. What it does is done by the package.

A mistake of the user's ends in one line on standard error and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wavenet.checkpoint import CONFIG_NAME, read_config
from wavenet.receptive_fields import command as field_command
from wavenet.training.errors import TrainingError

DEFAULT_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; default, those of the process.

    Returns:
        The exit code: 0, 2 for a mistake in the input, 130 when interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["train"]:  # its keys are those of the configuration, typed by jsonargparse
        options = argparse.Namespace(command="train", run=_train, arguments=given[1:])
    else:
        options = _parser().parse_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        options.run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever listened has left; nothing more to say, not even at exit
        sys.stdout = None  # type: ignore[assignment]
        return 0
    except (ValueError, TypeError, OSError, RuntimeError, ModuleNotFoundError) as error:
        if not _is_for_the_user(error):
            raise
        print(f"wavenet {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message was written for people: ours, and those of the operating system."""
    return isinstance(error, ValueError | OSError | ModuleNotFoundError | TrainingError)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wavenet", description="Causal dilated convolutions that generate speech and audio."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("train", help="train a model on a folder of audio")

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
    generate.add_argument("--engine", default="auto", help="auto, eager, cpu or gpu")
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
    return parser


def _train(options: argparse.Namespace) -> None:
    from wavenet.training.config import MISSING_PACKAGES, parse_training

    config, out = parse_training(options.arguments)
    if out is None:
        raise ValueError("--out is missing; name the folder for the model")
    try:
        from wavenet.training.run import train
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{MISSING_PACKAGES} ({error})") from error

    result = train(config, out)
    ended = "interrupted after" if result.interrupted else "trained for"
    print(
        f"{ended} {result.steps} steps: {result.bits_before:.3f} -> {result.bits_after:.3f} bits "
        f"per sample (best constant distribution {result.constant_bits:.3f})\n"
        f"model: {result.model_folder}"
    )


def _generate(options: argparse.Namespace) -> None:
    import torch

    from wavenet import load, log_mel, stream
    from wavenet.audio import read_audio, require_extension, write_audio

    to_pipe = options.out == "-"
    if not to_pipe:
        require_extension(options.out)
    model = load(options.model, device=options.device)
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
        speaker=_speaker(options.speaker),
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


def _receptive_field(options: argparse.Namespace) -> None:
    from wavenet import load
    from wavenet.audio import read_audio

    print(
        field_command.answer(
            options, _read_target, load, lambda path, rate: read_audio(path, rate)[0]
        )
    )


def _read_target(path: Path) -> Any:
    """The model configuration in a checkpoint folder or a recipe."""
    from wavenet import WaveNetConfig

    if path.is_dir() and not (path / CONFIG_NAME).exists() and (path / "config.yaml").exists():
        path = path / "config.yaml"
    if path.suffix not in (".yaml", ".yml"):
        return WaveNetConfig.from_dict(read_config(path)["config"])
    from wavenet.training.config import parse_training

    return parse_training([str(path)])[0].model_config()


def _speaker(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


def _pcm(samples: Any) -> bytes:
    """16-bit little-endian samples."""
    data: bytes = (
        (samples * 32768).round().clamp(-32768, 32767).short().numpy().astype("<i2").tobytes()
    )
    return data


def _progress_bar(total: int, sample_rate: int) -> Any:
    from tqdm import tqdm

    layout = "{l_bar}{bar}| {n:.1f}/{total:.1f} s of audio [{elapsed}<{remaining}]"
    return tqdm(total=total / sample_rate, desc="generating", bar_format=layout, leave=False)


def _print_tree(values: dict[str, Any], indent: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_tree(value, indent + "  ")
        elif value is not None:
            print(f"{indent}{key}: {value}")


if __name__ == "__main__":
    sys.exit(main())
