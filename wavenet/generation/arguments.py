"""The arguments of ``generate`` and ``stream``, checked and brought to one value per row.

Each function raises ValueError in one line that names the argument, its value and the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor

from wavenet.generation.engines.base import GenerationState
from wavenet.generation.prompts import Prompt
from wavenet.generation.randomness import integers
from wavenet.model import WaveNet
from wavenet.model.conditioner import require_known
from wavenet.nn import flatten_state
from wavenet.values.integers import as_integer, is_number
from wavenet.values.text import short


class GenerateArguments(TypedDict, total=False):
    """Arguments of ``generate`` that do not change what it returns, for type checkers."""

    duration_s: float | None
    n_samples: int | Sequence[int] | None
    mel: Tensor | Sequence[Tensor] | None
    speaker: int | str | Sequence[int | str] | Tensor | None
    conditions: Mapping[str, Any] | None
    seed: int | Sequence[int] | None
    temperature: float | None
    top_p: float | None
    noise_shaping: float | None
    prime: Tensor | Prompt | None
    state: GenerationState | None
    batch_size: int
    engine: str
    weights: str
    refine: int | None


STATE_REMEDY = "give what generate(..., return_state=True) of the same model returned"


def condition_rows(model: WaveNet, given: Mapping[str, Any]) -> dict[str, list[Tensor]]:
    """Values of conditions as the model takes them, ``[1, ...]`` for each row or one for all."""
    require_known(model.conditions, given)
    return {name: model.conditions[name].rows(value) for name, value in given.items()}


def prime_rows(prime: Tensor | Prompt) -> list[Prompt]:
    """One for each row, of equal lengths."""
    if isinstance(prime, Prompt):
        return [prime]
    if not isinstance(prime, Tensor) or not prime.is_floating_point():
        found = prime.dtype if isinstance(prime, Tensor) else type(prime).__name__
        raise ValueError(f"prime is {found}, expected a tensor of floats in [-1, 1]")
    shape = tuple(prime.shape)
    if prime.ndim == 2 and shape[1] == 1 < shape[0]:
        raise ValueError(
            f"prime has shape {shape}: {shape[0]} rows of one sample? give [T], or [1, T] for one "
            "row, or [B, 1, T]"
        )
    if prime.ndim == 1:
        prime = prime[None]
    if prime.ndim == 2:
        prime = prime[:, None]
    if prime.ndim != 3 or prime.shape[1] != 1 or prime.shape[-1] == 0:
        raise ValueError(f"prime has shape {shape}, expected [T] or [B, T], T >= 1")
    if not bool(prime.isfinite().all()) or float(prime.abs().max()) > 1:
        raise ValueError("prime has samples outside [-1, 1]; divide 16-bit samples by 32768")
    return [Prompt.of(row[0]) for row in prime]


def count_rows(
    batch_size: int,
    n_samples: list[int] | None,
    seed: int | Sequence[int] | None,
    conditions: Mapping[str, list[Tensor]],
    primes: list[Prompt] | None,
    state: GenerationState | None,
) -> int:
    """The number of rows on which all arguments agree; a single one serves all rows."""
    counts = {
        "batch_size": as_integer("batch_size", batch_size),
        "n_samples": 1 if n_samples is None else len(n_samples),
        "seed": 1 if seed is None else len(integers("seed", seed)),
        **{name: len(values) for name, values in conditions.items()},
        "prime": 1 if primes is None else len(primes),
        "state": 1 if state is None else len(state.time),
    }
    many = {
        name: n for name, n in counts.items() if n != 1 or (state is not None and name == "state")
    }
    if len(set(many.values())) > 1:
        found = ", ".join(f"{name} {n}" for name, n in many.items())
        raise ValueError(f"arguments disagree on the number of rows: {found}; give one, or equals")
    return max(counts.values())


def row_lengths(
    model: WaveNet,
    duration_s: float | None,
    n_samples: list[int] | None,
    mels: list[Tensor] | None,
    rows: int,
    n_prime: int,
) -> list[int] | None:
    """Samples to make for each row; None for no end."""
    if duration_s is not None and n_samples is not None:
        raise ValueError(f"duration_s={duration_s} and n_samples={n_samples}: give only one")
    if duration_s is not None:
        if not is_number(duration_s) or not 0 < duration_s < math.inf:
            raise ValueError(f"duration_s={short(duration_s)} must be a positive number of seconds")
        if duration_s * model.sample_rate >= 2**63:
            raise ValueError(f"duration_s={duration_s} is more samples than 64 bits can count")
        n_samples = [max(1, round(duration_s * model.sample_rate))]
    available = None
    if mels is not None and model.config.local is not None:
        hop = model.config.local.hop_samples
        available = [row.shape[-1] * hop - n_prime for row in mels] * (rows // len(mels))
        if min(available) < 1:
            raise ValueError(f"mel ends within the prime of {n_prime} samples; give more frames")
    if n_samples is None:
        return available
    lengths = n_samples * (rows // len(n_samples))
    if min(lengths) < 1:
        raise ValueError(f"n_samples={min(lengths)} must be at least 1")
    if available is not None and any(n > a for n, a in zip(lengths, available, strict=True)):
        raise ValueError(
            f"n_samples={lengths} is more than the mel describes, {available}; ask for less or "
            "give more frames"
        )
    return lengths


def empty_rows(n_samples: list[int]) -> Tensor:
    """Return ``[B, T]`` without values; ValueError for more than the memory holds."""
    shape = len(n_samples), max(n_samples)
    try:
        return torch.empty(shape, dtype=torch.float32)
    except RuntimeError as error:  # of the allocator, or as the size in bytes has no 64 bits
        raise ValueError(
            f"n_samples={shape[1]} of {shape[0]} rows are more than the memory holds; ask for "
            "less, or for chunks: wavenet.stream"
        ) from error


def check_state(model: WaveNet, state: GenerationState) -> None:
    """Raise ValueError unless the state is of this model's shapes."""
    rows = len(state.time)
    expected = [part.shape for part in flatten_state(model.init_state(rows))]
    expected.append(torch.Size([rows, model.distribution.n_params, 1]))
    found = [part.shape for part in flatten_state(state.model)] + [state.params.shape]
    if found != expected:
        raise ValueError(f"state does not fit this model of {rows} rows; {STATE_REMEDY}")


def speaker_of_text(text: str | None, model: WaveNet) -> int | str | None:
    """Return a speaker that was given as text: a name, or else an index; names may be numbers.

    Empty text selects none, of a model that may do without.
    """
    if text == "" and model.config.speakers and model.config.unconditional:
        return None
    is_index = text is not None and text.isascii() and text.isdecimal() and len(text) < 10
    if text is None or text in model.config.speaker_names or not is_index:
        return text
    return int(text)


def of_one_row(given: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    """Return values of conditions for one row; ValueError where there are more."""
    for name, values in given.items():
        if len(values) != 1:
            raise ValueError(f"{name} has {len(values)} values, expected one for an utterance")
    return {name: values[0] for name, values in given.items()}
