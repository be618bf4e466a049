"""A queue of utterances: each begins when a row of the batch is free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.generation.arguments import condition_rows, of_one_row, row_lengths
from wavenet.generation.batching import Batch
from wavenet.generation.options import Sampling, SamplingOptions
from wavenet.generation.randomness import row_seeds
from wavenet.generation.refining import passes_of
from wavenet.generation.rows import Row
from wavenet.model import WaveNet
from wavenet.model.conditioner import named_conditions
from wavenet.model.exact import require_wavenet
from wavenet.values.integers import as_integer


@dataclass(frozen=True, kw_only=True, eq=False)
class Utterance:
    """One utterance to synthesize; arguments as those of ``generate``, for one row.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny", mel="wavenet-16k")).eval()
    >>> utterance = Utterance(mel=torch.zeros(80, 2), seed=1)
    >>> ((number, samples),) = generate_queue(model, [utterance], engine="eager", refine=0)
    >>> number, tuple(samples.shape)
    (0, (400,))

    Attributes:
        mel: ``[M, F]``, or None for a model without local features.
        speaker: index or name.
        seed: None draws one.
        n_samples: length; default, that of the mel.
        conditions: further conditions, by name.
    """

    mel: Tensor | None = None
    speaker: int | str | None = None
    seed: int | None = None
    n_samples: int | None = None
    conditions: Mapping[str, Tensor] = field(default_factory=dict)


def generate_queue(
    model: WaveNet,
    utterances: Iterable[Utterance | None],
    *,
    rows: int = 16,
    chunk_samples: int = 2048,
    temperature: float | None = None,
    top_p: float | None = None,
    noise_shaping: float | None = None,
    engine: str = "auto",
    weights: str = "float32",
    refine: int | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Sample utterances as rows become free, and give each when it is done.

    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")).eval()
    >>> wanted = (Utterance(n_samples=n, seed=n) for n in (30, 10, 20))
    >>> made = dict(generate_queue(model, wanted, rows=2, chunk_samples=10, engine="eager"))
    >>> [len(made[number]) for number in range(3)]
    [30, 10, 20]

    Args:
        model: any ``WaveNet``.
        utterances: any number; the next one is taken when a row is free, and all rows wait for it.
            None means that there is none yet: the row stays empty until the next look.
        rows: that run at once; fewer if there are fewer utterances.
        chunk_samples: most that are made between two looks, at least a hop: what an utterance may
            have to wait though there is an empty row.

    The other arguments are those of ``generate``.

    Returns:
        An iterator of ``(number, samples [T])``: which utterance, counted from 0, and its samples
        in [-1, 1], on the CPU; those that end first come first.

    Raises:
        ValueError: as ``generate``; for a wrong utterance, when it is taken.
    """
    model = require_wavenet(model)
    rows = as_integer("rows", rows)
    chunk_samples = as_integer("chunk_samples", chunk_samples)
    options = SamplingOptions(
        temperature=temperature,
        top_p=top_p,
        noise_shaping=noise_shaping,
        engine=engine,
        weights=weights,
        refine=refine,
    )
    sampling = options.resolve(model, from_mel=model.config.mel is not None or refine is not None)

    def begun() -> Iterator[Row | None]:
        number = 0
        for one in utterances:
            yield None if one is None else _row_of(model, sampling, number, one, refine)
            number += one is not None

    def whole() -> Iterator[tuple[int, Tensor]]:
        parts: dict[int, list[Tensor]] = {}
        for made in Batch(model, sampling, begun(), rows, chunk_samples):
            for number, samples, ended in made:
                parts.setdefault(number, []).append(samples.clone())
                if ended:
                    yield number, torch.cat(parts.pop(number))

    return whole()


def _row_of(
    model: WaveNet, sampling: Sampling, number: int, one: Utterance, refine: int | None
) -> Row:
    """Make the row that generates an utterance."""
    if not isinstance(one, Utterance):
        raise TypeError(f"utterance {number} is a {type(one).__name__}, expected an Utterance")
    given = condition_rows(model, named_conditions(one.mel, one.speaker, one.conditions))
    mels = given.pop("mel", None)
    if mels is not None and len(mels) != 1:
        raise ValueError(f"utterance {number} has {len(mels)} mels, expected one [M, F]")
    others = of_one_row(given)
    asked = None if one.n_samples is None else [one.n_samples]
    lengths = row_lengths(model, None, asked, mels, 1, 0)
    if lengths is None:
        raise ValueError(f"utterance {number}: how long? give n_samples or a mel")
    if mels is None:
        passes_of(model, refine, from_mel=False)
    (seed,) = row_seeds(one.seed, 1)
    row = Row(model, number, seed, sampling.noise_shaping)
    row.begin(sampling, None if mels is None else [mels[0][0]], others, lengths[0])
    return row
