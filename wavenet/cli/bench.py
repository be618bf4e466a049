"""``wavenet bench``: measure speed."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wavenet.cli.options import (
    LARGEST_BATCH,
    MODEL_HELP,
    add_device,
    add_fast_tanh,
    add_json,
    add_model,
    add_weights,
    any_name,
    device,
    integer,
    integer_up_to,
    number_up_to,
)
from wavenet.cli.standard_streams import print_result

if TYPE_CHECKING:
    from wavenet.benchmark.gpu_speed import DeviceSpeed
    from wavenet.benchmark.sampling_speed import SamplingSpeed
    from wavenet.model import WaveNet
    from wavenet.nam import NamModel, NamWaveNet

LONGEST_SAMPLES = 1_000_000_000
LONGEST_ROUND_S = 10_000.0
"""Limits of one round, beyond which a measurement would not end within a day."""


def add_arguments(bench: argparse.ArgumentParser) -> None:
    """Add the arguments of the command: those of each measure, and those of all."""
    measures = bench.add_subparsers(dest="measure", required=True, metavar="MEASURE")
    sample = measures.add_parser(
        "sample",
        help="measure sampling speed, and compare it with the eager engine and the limits of the "
        "machine",
    )
    _add_sample_arguments(sample)
    train = measures.add_parser(
        "train",
        help="measure the speed of training steps, and compare it with a plain network of Conv1d",
    )
    _add_train_arguments(train)
    live = measures.add_parser(
        "process",
        help="measure the speed of an amplifier network on chunks of 32, 64 and 512 samples",
    )
    live.add_argument(
        "--model",
        type=any_name,
        metavar="FILE",
        help="run this model: a .nam file, the checkpoint folder of an imported one, or an "
        "untrained network of a NAM size: standard, lite, feather or nano (default: standard)",
    )
    add_fast_tanh(live)
    _add_serving_arguments(measures)
    store = measures.add_parser(
        "store",
        help="measure how fast training reads a corpus from a store, beside its folder",
    )
    store.add_argument(
        "corpus", type=any_name, metavar="CORPUS", help="a folder of recordings, or a manifest"
    )
    store.add_argument(
        "url",
        type=any_name,
        nargs="?",
        metavar="URL",
        help="write the shards here, as `wavenet shard` (default: a temporary folder)",
    )
    for measure, rounds in ((sample, 9), (train, 5), (live, 9), (store, 5)):
        text = f"repeat the measurement and report the median (default: {rounds} times)"
        measure.add_argument(
            "--rounds", type=integer_up_to(10_000), default=rounds, metavar="N", help=text
        )
        measure.add_argument(
            "--threads",
            type=integer,
            default=1,
            metavar="N",
            help="use at most this many CPU threads (default: 1)",
        )
        add_json(measure)


def _add_serving_arguments(measures: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the arguments of a load test; its server has threads of its own."""
    serve = measures.add_parser(
        "serve",
        help="measure a server on this machine with streams at once, among clients that misbehave",
    )
    add_model(serve)
    add_weights(serve)
    for name, kind, default, text in (
        ("rows", integer_up_to(1024), 8, "let the server run this many rows, and as many streams"),
        ("seconds", number_up_to(600.0), 4.0, "of this many seconds of audio each"),
        ("rounds", integer_up_to(10_000), 3, "this many times"),
        (
            "misbehaving",
            number_up_to(86_400.0),
            10.0,
            "let clients misbehave for this many seconds",
        ),
    ):
        metavar = "S" if isinstance(default, float) else "N"
        serve.add_argument(
            f"--{name}", type=kind, default=default, metavar=metavar, help=f"{text} ({default:g})"
        )
    serve.add_argument(
        "--streams",
        type=integer_up_to(1024),
        metavar="N",
        help="run this many streams at once (default: one for each row)",
    )
    serve.add_argument(
        "--live", action="store_true", help="send frames as if they were spoken, not all at once"
    )


def _serve(options: argparse.Namespace) -> str:
    from wavenet.benchmark.serving_load import Load, measure_serving
    from wavenet.cli.serve import require_extra

    require_extra()
    streams = options.rows if options.streams is None else options.streams
    if min(options.rows, streams, options.rounds) < 1 or not options.seconds > 0:
        raise ValueError("--rows, --streams, --rounds and --seconds must be above 0")
    load = Load(
        model=options.model,
        weights=options.weights,
        rows=options.rows,
        seconds=options.seconds,
        rounds=options.rounds,
        misbehaving_s=options.misbehaving,
        streams=options.streams,
        live=options.live,
    )
    return str(measure_serving(load))


def _add_sample_arguments(sample: argparse.ArgumentParser) -> None:
    which = sample.add_mutually_exclusive_group()
    which.add_argument(
        "--preset",
        default="small",
        metavar="NAME",
        help="sample an untrained network of this size: tiny, small (default), medium or nv",
    )
    which.add_argument(
        "--model",
        type=any_name,
        metavar="MODEL",
        help=f"sample this model: {MODEL_HELP}",
    )
    sample.add_argument(
        "--engine",
        default="auto",
        help="measure this engine: auto (default), eager or cpu, or on a CUDA device gpu or "
        "gpu-fused",
    )
    add_weights(sample)
    sample.add_argument(
        "--batch",
        type=integer_up_to(LARGEST_BATCH),
        metavar="N",
        help="sample this many rows in parallel (default: 1; on a GPU, several sizes from 1 to "
        "2048)",
    )
    length = sample.add_mutually_exclusive_group()
    length.add_argument(
        "--samples",
        type=integer_up_to(LONGEST_SAMPLES),
        metavar="N",
        help="draw this many samples per row and round (default: as many as take 0.1 s)",
    )
    length.add_argument(
        "--seconds",
        type=number_up_to(LONGEST_ROUND_S),
        metavar="S",
        help="draw this many seconds of audio per row and round",
    )


def _add_train_arguments(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "--preset",
        default="medium",
        metavar="NAME",
        help="train a network of this size: tiny, small, medium (default) or nv",
    )
    train.add_argument(
        "--precision", default="32", help="compute in 32 (default, float32) or bf16 (autocast)"
    )
    train.add_argument(
        "--window-s",
        type=number_up_to(LONGEST_ROUND_S),
        default=1.0,
        metavar="S",
        help="train on windows of this many seconds (default: 1)",
    )
    train.add_argument(
        "--batch-size",
        type=integer_up_to(LARGEST_BATCH),
        default=2,
        metavar="N",
        help="put this many windows into a step (default: 2)",
    )
    train.add_argument(
        "--recompute",
        action="store_true",
        help="compute the gates again in the backward pass, which needs less memory and more time",
    )
    add_device(train)


def run(options: argparse.Namespace) -> int:
    """Measure what was asked for, and print it as text or as JSON.

    Raises:
        ValueError: for whatever cannot be measured; the message is one line.
    """
    print_result(_MEASURES[options.measure](options))
    return 0


def _sample(options: argparse.Namespace) -> str:
    from wavenet.loading import load_wavenet
    from wavenet.model import WaveNet
    from wavenet.model.config import WaveNetConfig

    if options.model is None:
        name, model = options.preset, WaveNet(WaveNetConfig.preset(options.preset)).eval()
    else:
        name, model = options.model, load_wavenet(options.model)
    speed = _sampling_speed(options, model)
    return json.dumps({"model": name, **speed.to_dict()}) if options.json else f"{name}\n{speed}"


def _sampling_speed(options: argparse.Namespace, model: WaveNet) -> SamplingSpeed | DeviceSpeed:
    """Return the speed of the engine that was named, on its device."""
    from wavenet.benchmark.gpu_speed import BATCHES, DEVICE_ENGINES, measure_on_device
    from wavenet.benchmark.sampling_speed import measure_sampling

    samples = _samples_of_a_round(options, model.sample_rate)
    if options.engine in DEVICE_ENGINES:
        return measure_on_device(
            model,
            engine=options.engine,
            weights=options.weights,
            batches=BATCHES if options.batch is None else (options.batch,),
            samples=samples,
            rounds=options.rounds,
        )
    return measure_sampling(
        model,
        engine=options.engine,
        weights=options.weights,
        batch=1 if options.batch is None else options.batch,
        samples=samples,
        rounds=options.rounds,
        threads=options.threads,
    )


def _samples_of_a_round(options: argparse.Namespace, sample_rate: int) -> int | None:
    """``--samples`` or ``--seconds``; None leaves the choice to the measure."""
    if options.seconds is None:
        samples: int | None = options.samples
        return samples
    if not 0 < options.seconds < math.inf:
        raise ValueError(f"--seconds={options.seconds} must be a positive number of seconds")
    return max(1, round(options.seconds * sample_rate))


def _train(options: argparse.Namespace) -> str:
    from wavenet.benchmark.training_speed import TrainingStep, measure_training
    from wavenet.model.config import WaveNetConfig

    name = options.preset
    step = TrainingStep(
        options.precision, options.window_s, options.batch_size, recompute=options.recompute
    )
    speed = measure_training(
        WaveNetConfig.preset(name),
        step,
        threads=options.threads,
        rounds=options.rounds,
        device=str(device(options.device)),
    )
    return json.dumps({"model": name, **speed.to_dict()}) if options.json else f"{name}\n{speed}"


def _process(options: argparse.Namespace) -> str:
    from wavenet.benchmark.process_speed import amplifier, measure_processing
    from wavenet.nn import Causal, with_fast_tanh

    network: Causal = amplifier().eval() if options.model is None else _network(options.model)
    if options.fast_tanh:
        network = with_fast_tanh(network)
    speed = measure_processing(network, rounds=options.rounds, threads=options.threads)
    return speed.to_json() if options.json else str(speed)


def _store(options: argparse.Namespace) -> str:
    from wavenet.benchmark.store_speed import measure_store

    speed = measure_store(
        options.corpus, options.url, rounds=options.rounds, threads=options.threads
    )
    return speed.to_json() if options.json else str(speed)


def _network(name: str) -> NamWaveNet | NamModel:
    """A model, or an untrained network of a size of NAM's: its speed is the same."""
    from wavenet.cli.nam_models import load_model
    from wavenet.nam import PRESETS, NamWaveNet, preset

    if name in PRESETS and not Path(name).exists():
        return NamWaveNet(preset(name)).eval()
    return load_model(name)


def multiply_adds_per_second(residual_channels: int) -> float:
    """Return the speed of the CPU engine with one thread, in a WaveNet of this width."""
    from wavenet.benchmark.sampling_speed import measure_sampling
    from wavenet.model import WaveNet
    from wavenet.model.config import WaveNetConfig

    config = WaveNetConfig(
        layers_per_stack=8,
        stacks=2,
        residual_channels=residual_channels,
        skip_channels=2 * residual_channels,
    )
    model = WaveNet(config).eval()
    speed = measure_sampling(model, engine="cpu", batch=1, samples=500, rounds=3, threads=1)
    return speed.samples_per_second.median * model.multiply_adds


_MEASURES: dict[str, Callable[[argparse.Namespace], str]] = {
    "sample": _sample,
    "train": _train,
    "process": _process,
    "serve": _serve,
    "store": _store,
}
