"""A service in small: requests of different lengths arrive, a few rows speak them, none waits long.

    python recipes/serve/serve.py --model VOCODER --from samples/prompts-en --out served
    python recipes/serve/serve.py --model VOCODER --from ... --device cuda --rows 256 --every 0

Every audio file is a request for its own log-mel to be spoken. They arrive one after another,
``--every`` so many seconds; each becomes a wav below the folder ``--out``, at the same place as
below ``--from``, as soon as it is done. A request that cannot be answered is one line on standard
error, and the others are served.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import wavenet
from wavenet.audio import read_audio, write_audio
from wavenet.cli.options import integer, number
from wavenet.data import find_audio
from wavenet.generation import Utterance, generate_queue
from wavenet.storage.paths import is_inside, require_other_file

_PATIENCE_S = 0.001
"""Between two looks at a queue that is empty while nobody speaks."""


@dataclass(frozen=True)
class Request:
    """Somebody wants to hear a mel ``[M, F]``; where the answer goes, below the output folder."""

    place: Path
    mel: Tensor
    arrives_s: float


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()

    def __call__(self) -> float:
        return time.perf_counter() - self._begin


def arriving(requests: list[Request], clock: Clock) -> Iterator[Utterance | None]:
    """Each request once it has arrived, and None while there is none."""
    for i, request in enumerate(requests):
        while clock() < request.arrives_s:
            time.sleep(_PATIENCE_S)
            yield None
        yield Utterance(mel=request.mel, seed=i)


def read_requests(
    folder: Path, out: Path, model: wavenet.WaveNet, every_s: float, n: int
) -> tuple[list[Request], int]:
    """The first n audio files of a folder, as mels; and how many of them cannot be answered."""
    if model.config.mel is None:
        raise ValueError("this speaks mels; give --model a mel-conditioned one")
    requests: list[Request] = []
    n_refused = 0
    taken: set[Path] = set()
    for path in [path for path in find_audio(folder) if not is_inside(path, out)][:n]:
        place = path.relative_to(folder).with_suffix(".wav")
        try:
            if place in taken:
                raise ValueError(f"{path}: {place} is already that of another request; rename one")
            require_other_file(out / place, path)
            audio, _ = read_audio(path, model.sample_rate)
            mel = wavenet.log_mel(audio, model.config.mel, model.mel_filterbank.cpu())
        except (ValueError, OSError) as error:
            refuse(error)
            n_refused += 1
            continue
        taken.add(place)
        requests.append(Request(place, mel, every_s * len(requests)))
    return requests, n_refused


def refuse(error: Exception) -> None:
    """Say in one line why a request is not answered."""
    print(f"refused: {' '.join(str(error).split())}", file=sys.stderr, flush=True)


def serve(options: argparse.Namespace) -> int:
    """Speak all requests and say how long they waited and how busy the rows were.

    Returns:
        How many requests were not answered.
    """
    if options.requests < 1:
        raise ValueError(f"--requests={options.requests} must be at least 1")
    if not 0 <= options.every < math.inf:
        raise ValueError(
            f"--every={options.every:g} must be a number of seconds, 0 for all at once"
        )
    model = wavenet.load(options.model, device=options.device)
    requests, n_refused = read_requests(
        options.source, options.out, model, options.every, options.requests
    )
    clock, made = Clock(), 0.0
    speaking = generate_queue(
        model,
        arriving(requests, clock),
        rows=options.rows,
        chunk_samples=options.chunk_samples,
        engine=options.engine,
        weights=options.weights,
        refine=options.refine,
    )
    for i, samples in speaking:
        request, now = requests[i], clock()
        seconds = len(samples) / model.sample_rate
        try:
            write_audio(options.out / request.place, samples, model.sample_rate)
        except ValueError as error:
            refuse(error)
            n_refused += 1
            continue
        made += seconds
        late_s = now - request.arrives_s
        print(f"{now:8.2f} s  {request.place}: {seconds:.2f} s, {late_s:.2f} s late")
    print(f"{made:.1f} s of audio in {clock():.1f} s: {made / clock():.2f} times real time")
    return n_refused


def main() -> None:
    parser = argparse.ArgumentParser(description="Speak mels as they arrive.")
    parser.add_argument("--model", required=True, metavar="FOLDER", help="a mel-conditioned one")
    parser.add_argument("--from", dest="source", type=Path, required=True, help="folder of audio")
    parser.add_argument("--out", type=Path, default=Path("served"), help="folder for the wavs")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--rows", type=integer, default=4, help="that speak at once")
    parser.add_argument("--requests", type=integer, default=8, help="how many files")
    parser.add_argument("--every", type=number, default=0.5, help="seconds between arrivals")
    parser.add_argument("--chunk-samples", type=integer, default=1024, help="between two looks")
    parser.add_argument("--engine", default="auto", help="as for wavenet generate")
    parser.add_argument("--weights", default="float32", help="float32, float16 or bfloat16")
    parser.add_argument("--refine", type=integer, help="passes (default: the model's own)")
    try:
        n_refused = serve(parser.parse_args())
    except (ValueError, OSError) as error:
        print(f"serve.py: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    if n_refused:
        raise SystemExit(2)


if __name__ == "__main__":
    main()
