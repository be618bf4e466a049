"""An amplifier learnt from a recording of what goes in and what comes out, written as ``.nam``.

    python recipes/amp/amp.py --out amp-out
    python recipes/amp/amp.py --out amp-out --dry dry.wav --wet wet.wav --size standard
    python recipes/amp/amp.py --out amp-out --size packed   # a2-lite and a2 in one file

Without a pair of your own, it trains on a simulated amplifier (``pair.py``).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import pair
import torch
from losses import emphasised, esr, gain_to_level
from recordings import MEAN, read_pair
from torch import Tensor
from training import SETTINGS, answer, train

import wavenet
from wavenet.audio import write_audio
from wavenet.cli.options import integer, number
from wavenet.nam import PRESETS, NamWaveNet, preset, write_nam, write_nam_container

TEST_PART = 0.2  # of the pair, at its end, for the test
SHORTEST_S = 1.0
"""Shortest simulated pair: training windows and the test fit in."""
PACKED = ("a2-lite", "a2")  # the sizes that Neural Amp Modeler's trainer packs into one file


def the_pair(options: argparse.Namespace) -> tuple[Tensor, Tensor, int]:
    """Dry and wet ``[T]`` of one length, and their rate in Hz: the user's, or a simulated one."""
    if (options.dry is None) != (options.wet is None):
        raise SystemExit("--dry and --wet belong together: give both or none")
    if options.dry is not None:
        return read_pair(options.dry, options.wet, options.delay, options.channel)
    x = pair.dry(options.seconds, options.seed)
    y, rate = pair.wet(x), pair.SAMPLE_RATE
    write_audio(options.out / "dry.wav", x, rate)
    write_audio(options.out / "wet.wav", y, rate)
    return x, y, rate


def network(name: str, y: Tensor, rate: int) -> NamWaveNet:
    """A network of the size whose outputs begin at the loudness of y ``[T]``.

    The sizes' own scale is for targets at ``losses.LEVEL_DB``, as Neural Amp Modeler trains them.
    """
    config = preset(name, sample_rate=rate)
    return NamWaveNet(replace(config, head_scale=config.head_scale / gain_to_level(y)))


def picture(target: Tensor, y: Tensor, rate: int, path: Path) -> None:
    """The loudest 20 ms of the test: amplifier, model and their error."""
    from matplotlib.figure import Figure

    n = rate // 50
    energy = target[: len(target) // n * n].view(-1, n).square().sum(1)
    start = int(energy.argmax()) * n
    part = slice(start, start + n)
    seconds = 1000 * torch.arange(n) / rate
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(seconds, target[part], color="#1f4e79", linewidth=2.2, label="amplifier")
    axes.plot(seconds, y[part], color="#c8553d", linewidth=0.8, label="model")
    axes.plot(seconds, (y - target)[part], color="#8a8a8a", linewidth=0.6, label="error")
    axes.set(xlabel="milliseconds", ylabel="amplitude", xlim=(0, 20))
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, measure on the part that was not trained on, export, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("amp-out"))
    parser.add_argument("--dry", type=Path, help="what went in")
    parser.add_argument("--wet", type=Path, help="what came out, recorded at the same time")
    parser.add_argument(
        "--delay", type=integer, help="samples that wet.wav is late (default: measured)"
    )
    parser.add_argument(
        "--channel", help=f"of recordings of more than one: its number from 1, or {MEAN}"
    )
    parser.add_argument(
        "--training",
        choices=SETTINGS,
        default="one-cycle",
        help="loss, optimiser and schedule: for runs of minutes, or Neural Amp Modeler's own",
    )
    parser.add_argument("--size", choices=[*PRESETS, "packed"], default="nano")
    parser.add_argument("--steps", type=integer, default=600)
    parser.add_argument("--seconds", type=number, default=60.0, help="of the simulated pair")
    parser.add_argument("--seed", type=integer, default=0)
    options = parser.parse_args()
    if options.steps < 1:
        raise SystemExit(f"--steps {options.steps} must be at least 1")
    if not SHORTEST_S <= options.seconds < math.inf:
        raise SystemExit(f"--seconds {options.seconds} must be at least {SHORTEST_S:g}")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    x, y, rate = the_pair(options)
    split = round(len(x) * (1 - TEST_PART))
    names = PACKED if options.size == "packed" else (options.size,)
    models = {name: network(name, y[:split], rate) for name in names}
    for model in models.values():
        print(wavenet.receptive_field(model))
    began, cpu_began = time.perf_counter(), time.process_time()
    settings = SETTINGS[options.training]
    train(models, (x[:split], y[:split]), settings, options.steps, options.seed)
    training_s = round(time.perf_counter() - began, 1)
    training_cpu_s = round(time.process_time() - cpu_began, 1)
    target = y[split:]
    dry_esr = float(esr(_best_scaled(x[split:], target), target))
    results = []
    for name, model in models.items():
        said = answer(model.eval(), x[split - model.past :])
        result = {
            "size": name,
            "training": options.training,
            "steps": options.steps,
            "training_s": training_s,
            "training_cpu_s": training_cpu_s,
            "test_esr": float(esr(said, target)),
            "test_esr_emphasised": float(esr(emphasised(said), emphasised(target))),
            "esr_of_the_dry_signal_scaled": dry_esr,
        }
        results.append(result)
        folder = options.out / ("model" if len(models) == 1 else name)
        model.metadata |= {"name": name, "training": {"validation_esr": result["test_esr"]}}
        model.save(folder, provenance={"recipe": "amp", **result})
        print(json.dumps(result))
    made = results[0] if len(results) == 1 else results
    (options.out / "results.json").write_text(json.dumps(made, indent=1))
    metadata = {"name": "recipes/amp"}
    if len(models) == 1:
        write_nam(options.out / "model.nam", model, metadata)
    else:
        write_nam_container(options.out / "model.nam", models, metadata)
    picture(target, said, rate, options.out / "amp.png")


def _best_scaled(x: Tensor, target: Tensor) -> Tensor:
    """What no network is needed for: the input, at the loudness that fits best."""
    return x * (x @ target) / (x @ x)


def command_line() -> None:
    """Call ``main``; a mistake in the input is one line and exit code 2."""
    try:
        main()
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
    except SystemExit as refused:
        if not isinstance(refused.code, str):  # of argparse, which has printed its own
            raise
        message = refused.code
    else:
        return
    print(f"amp.py: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    command_line()
