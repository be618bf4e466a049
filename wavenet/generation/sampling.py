"""``generate`` and ``stream``: what a user asks for, checked, prepared and given to an engine.

Generation begins as training sees a file begin: from silence, with the first column of the
conditioning held. The parameters of sample 0 are the answer to that silence; from then on each
sample is drawn, fed back together with its own conditioning, and gives the parameters of the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Unpack, overload

import torch
from torch import Tensor

from wavenet.generation.arguments import (
    STATE_REMEDY,
    GenerateArguments,
    check_state,
    condition_rows,
    count_rows,
    empty_rows,
    prime_rows,
    row_lengths,
)
from wavenet.generation.engines.base import Engine, GenerationState
from wavenet.generation.frames import encoded_rows
from wavenet.generation.options import SamplingOptions
from wavenet.generation.prompts import Prompt, process_prompt
from wavenet.generation.randomness import UniformSource, integers, row_seeds
from wavenet.generation.refining import RefinedRows
from wavenet.model import WaveNet
from wavenet.model.conditioner import named_conditions
from wavenet.model.exact import require_wavenet
from wavenet.nn import flatten_state, unflatten_state
from wavenet.values.integers import as_integer

_CHUNK = 2048
_NO_STATE = (
    "refine={} cannot stop and go on, since refined samples depend on those after them; use "
    "refine=0 with state and return_state, and wavenet.refine on the whole"
)


@overload
def generate(
    model: WaveNet, *, return_state: Literal[False] = ..., **arguments: Unpack[GenerateArguments]
) -> Tensor: ...


@overload
def generate(
    model: WaveNet, *, return_state: Literal[True], **arguments: Unpack[GenerateArguments]
) -> tuple[Tensor, GenerationState]: ...


def generate(
    model: WaveNet,
    *,
    duration_s: float | None = None,
    n_samples: int | Sequence[int] | None = None,
    mel: Tensor | Sequence[Tensor] | None = None,
    speaker: int | str | Sequence[int | str] | Tensor | None = None,
    conditions: Mapping[str, Any] | None = None,
    seed: int | Sequence[int] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    noise_shaping: float | None = None,
    prime: Tensor | Prompt | None = None,
    state: GenerationState | None = None,
    return_state: bool = False,
    batch_size: int = 1,
    engine: str = "auto",
    weights: str = "float32",
    refine: int | None = None,
) -> Tensor | tuple[Tensor, GenerationState]:
    """Sample audio.

    A row equals the same request alone, whatever else is in the batch, up to rounding.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")).eval()
    >>> audio = generate(model, duration_s=0.01, seed=1, engine="eager")
    >>> tuple(audio.shape)
    (1, 160)
    >>> audio.equal(generate(model, n_samples=160, seed=1, engine="eager"))
    True

    Args:
        model: any ``WaveNet``.
        duration_s: length in seconds; or
        n_samples: length in samples, one for all rows or one each; shorter rows end in zeros.
            Without either, a mel gives the length.
        mel: local features, ``[M, F]``, ``[B, M, F]``, or one ``[M, F_i]`` per row. Frame 0 is
            for the first sample: of the prime where there is one, else of the output.
        speaker: index or name, one for all rows or one each.
        conditions: values of further conditions by name, tensors of one row or one each.
        seed: an int s gives row i the seed s + i; or one per row; None draws one.
        temperature: below 1 less noisy, see ``Distribution.sample``; default, the configuration's.
        top_p: nucleus sampling, mu-law models only.
        noise_shaping: coefficient b of the filter ``z[t] - b z[t - 1]`` of the sampling noise, from
            -1 to 1; above 0 it has less power at low frequencies. Default, the configuration's.
        prime: audio to carry on, ``[T]``, ``[B, T]`` or ``[B, 1, T]`` in [-1, 1] at the model's
            rate; or a ``Prompt``, which comes in pieces. The output is what follows it.
        state: carry on from what ``return_state=True`` gave; the same seed continues its sequence,
            and frame 0 of the mel accompanies the first new sample.
        return_state: also return the state after the last sample.
        batch_size: rows, where no other argument gives their number.
        engine: ``auto``, ``stream``, ``eager``, ``cpu``, ``gpu`` or ``gpu-fused``.
        weights: ``float32``, ``float16`` or ``bfloat16``, what the weights are rounded to.
        refine: passes that bring the samples nearer to the mel (see ``MelRefinement``); 0 for the
            network's own samples; default, the configuration's ``refinement_passes`` where there is
            a mel, and 0 with ``state`` or ``return_state``: a refined sample depends on those after
            it, so that where generation stops and goes on there are only the network's own.

    Returns:
        ``[B, T]`` in [-1, 1] on the CPU, or ``(samples, state)``.

    Raises:
        ValueError: if an argument is missing, contradicts another or does not fit the model.
        TypeError: if model is none that generates.
    """
    options = SamplingOptions(
        speaker=speaker,
        conditions=conditions or {},
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        noise_shaping=noise_shaping,
        engine=engine,
        weights=weights,
        refine=0 if return_state and refine is None else refine,
    )
    content = _Content(duration_s, n_samples, mel, prime, state, batch_size)
    chunks = _stream(model, options, content, _CHUNK)
    if chunks.n_samples is None:
        raise ValueError("how long? give duration_s, n_samples or a mel")
    if return_state and chunks.refined is not None:
        raise ValueError(_NO_STATE.format(refine))
    if return_state and len(set(chunks.n_samples)) > 1:
        raise ValueError(
            f"return_state=True needs rows of one length, got n_samples={chunks.n_samples}"
        )
    samples, made = empty_rows(chunks.n_samples), 0
    for chunk in chunks:
        samples[:, made : made + chunk.shape[1]] = chunk
        made += chunk.shape[1]
    return (samples, chunks.state()) if return_state else samples


def stream(
    model: WaveNet,
    *,
    chunk_samples: int = 512,
    duration_s: float | None = None,
    n_samples: int | Sequence[int] | None = None,
    mel: Tensor | Sequence[Tensor] | None = None,
    speaker: int | str | Sequence[int | str] | Tensor | None = None,
    conditions: Mapping[str, Any] | None = None,
    seed: int | Sequence[int] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    noise_shaping: float | None = None,
    prime: Tensor | Prompt | None = None,
    state: GenerationState | None = None,
    batch_size: int = 1,
    engine: str = "auto",
    weights: str = "float32",
    refine: int | None = None,
) -> SampleStream:
    """The same samples as ``generate``, in chunks as they are made.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")).eval()
    >>> chunks = stream(model, n_samples=30, chunk_samples=12, engine="eager")
    >>> [tuple(chunk.shape) for chunk in chunks]
    [(1, 12), (1, 12), (1, 6)]

    Args:
        model: any ``WaveNet``.
        chunk_samples: length of a chunk, down to 1; the last one may be shorter.

    The other arguments are those of ``generate``. Without a length and without a mel the stream
    never ends.

    Returns:
        A ``SampleStream``: an iterator of ``[B, chunk_samples]``. Arguments are checked at once,
        not at the first chunk. Its ``latency_samples`` and ``latency_ms`` are the delay of refined
        samples behind the network's: with 32 passes and 200 samples a hop at 16 kHz, 13,499
        samples or 844 ms; with 4 passes 144 ms; 0 without refinement.

    Raises:
        ValueError: as ``generate``.
    """
    options = SamplingOptions(
        speaker=speaker,
        conditions=conditions or {},
        seed=seed,
        temperature=temperature,
        top_p=top_p,
        noise_shaping=noise_shaping,
        engine=engine,
        weights=weights,
        refine=refine,
    )
    content = _Content(duration_s, n_samples, mel, prime, state, batch_size)
    return _stream(model, options, content, as_integer("chunk_samples", chunk_samples))


class _Content(NamedTuple):
    """Content to generate, and from what; each as in ``generate``."""

    duration_s: float | None
    n_samples: int | Sequence[int] | None
    mel: Tensor | Sequence[Tensor] | None
    prime: Tensor | Prompt | None
    state: GenerationState | None
    batch_size: int


def _stream(
    model: WaveNet, options: SamplingOptions, content: _Content, chunk_samples: int
) -> SampleStream:
    """Check a request, prepare its conditioning and its beginning, and give it to an engine."""
    model = require_wavenet(model)
    state = content.state
    if state is not None and not isinstance(state, GenerationState):
        raise ValueError(f"state is a {type(state).__name__}; {STATE_REMEDY}")
    if state is not None and options.refine is None:
        options = replace(options, refine=0)
    given = named_conditions(content.mel, options.speaker, options.conditions)
    conditions = condition_rows(model, given)
    mels = conditions.get("mel")
    sampling = options.resolve(model, from_mel=mels is not None)
    samples = None if content.n_samples is None else integers("n_samples", content.n_samples)
    primes = None if content.prime is None else prime_rows(content.prime)
    rows = count_rows(content.batch_size, samples, options.seed, conditions, primes, state)
    seeds = row_seeds(options.seed, rows)
    with torch.inference_mode():
        frames = encoded_rows(model, conditions, rows)
        n_prime = 0 if primes is None else primes[0].n_samples
        lengths = row_lengths(model, content.duration_s, samples, mels, rows, n_prime)
        start = _start(model, frames, primes, rows, state)
        refined = None
        if sampling.refinement is not None:
            if state is not None:
                raise ValueError(_NO_STATE.format(options.refine))
            assert mels is not None
            assert lengths is not None
            targets = [row[0].detach().float().cpu() for row in mels] * (rows // len(mels))
            leads = None
            if primes is not None:
                leads = torch.stack([prime.samples() for prime in primes]).expand(rows, -1)
            refined = RefinedRows(sampling.refinement, targets, lengths, leads)
        running = sampling.start(model, frames, start, first_sample=n_prime)
    per_sample, times = model.distribution.uniforms_per_sample, start.time.tolist()
    uniforms = UniformSource(seeds, per_sample, times, shaping=sampling.noise_shaping)
    return SampleStream(running, uniforms, lengths, chunk_samples, refined)


class SampleStream(Iterator[Tensor]):
    """Chunks of samples ``[B, chunk_samples]``, each made when it is asked for.

    Attributes:
        n_samples: length of each row, or None for a stream without end.
        engine: what makes the samples.
        refined: what refines them, or None.
    """

    def __init__(
        self,
        engine: Engine,
        uniforms: UniformSource,
        n_samples: list[int] | None,
        chunk_samples: int,
        refined: RefinedRows | None = None,
    ) -> None:
        self.n_samples, self.refined = n_samples, refined
        self.engine, self._uniforms, self._chunk = engine, uniforms, chunk_samples
        self._done = self._given = 0
        self._shortest = math.inf if n_samples is None else min(n_samples)
        self._longest = math.inf if n_samples is None else max(n_samples)

    @property
    def latency_samples(self) -> int:
        """Samples that the network makes after one before that one is given, at most.

        Chunks add to it: each is made whole before it is given.
        """
        return 0 if self.refined is None else self.refined.latency_samples

    @property
    def latency_ms(self) -> float:
        """``latency_samples`` in milliseconds."""
        return 0.0 if self.refined is None else self.refined.latency_ms

    def __next__(self) -> Tensor:
        if self.refined is None:
            return self._generate()
        wanted = min(self._chunk, int(self._longest) - self._given)
        if wanted <= 0:
            raise StopIteration
        while self.refined.n_ready < wanted:
            self.refined.add(self._generate())
        self._given += wanted
        return self.refined.take(wanted)

    def _generate(self) -> Tensor:
        """The next samples of the network; StopIteration where all have been made."""
        n, begin = self._chunk, self._done
        if begin + n > self._longest:
            n = int(self._longest) - begin
            if n <= 0:
                raise StopIteration
        self._done = begin + n
        samples = self.engine.run(self._uniforms.take(n))
        if begin + n > self._shortest:
            for row, end in enumerate(self.n_samples or ()):
                samples[row, max(0, end - begin) :] = 0
        return samples

    def state(self) -> GenerationState:
        """Current state of the stream, to be continued by ``stream`` or ``generate``.

        Raises:
            ValueError: of a refined stream, whose network is ahead of the samples given.
        """
        if self.refined is not None:
            raise ValueError(_NO_STATE.format("on"))
        return self.engine.dump()


def _start(
    model: WaveNet,
    frames: list[Tensor] | None,
    primes: list[Prompt] | None,
    rows: int,
    state: GenerationState | None,
) -> GenerationState:
    """After silence, and after the prime if there is one; or the given state."""
    if state is not None:
        if primes is not None:
            raise ValueError("prime and state are both given; the state already has a past")
        check_state(model, state)
        return state
    distinct = rows if frames is not None or (primes is not None and len(primes) > 1) else 1
    starts = []
    for row in range(distinct):
        own = None if frames is None else frames[row]
        prime = None if primes is None else primes[row % len(primes)]
        starts.append(process_prompt(model, own, prime))
    starts = starts * (rows // distinct)
    params = torch.cat([params for params, _ in starts])
    parts = zip(*(flatten_state(state) for _, state in starts), strict=True)
    joined = iter([torch.cat(part) for part in parts])
    return GenerationState.after(params, unflatten_state(starts[0][1], joined))
