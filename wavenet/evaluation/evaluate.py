"""One model over many recordings: its bits, its copies, those of the baselines, and their scores.

Copy-synthesis: a recording's log-mel, by the model's own settings, vocoded by ``wavenet.generate``.
Every recording is vocoded with the same seed, so that each copy can be made again alone:
``wavenet generate OUT --model MODEL --mel-from RECORDING --seed SEED --speaker SPEAKER``. What is
made of a recording is at most its first ``LONGEST_S``; its bits are those of the whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wavenet.benchmark.timing import limited_threads
from wavenet.data import Utterance
from wavenet.evaluation.baselines import (
    REFINED,
    System,
    baseline_systems,
    make_copy,
    why_unavailable,
)
from wavenet.evaluation.likelihood import file_bits, whole_mel
from wavenet.evaluation.metrics import Instruments, Reference, Scores
from wavenet.evaluation.utterances import speaker_index
from wavenet.generation import generate
from wavenet.generation.options import SamplingOptions
from wavenet.generation.refining import passes_of
from wavenet.model import WaveNet
from wavenet.nn.refine import refine

LONGEST_S = 30.0
"""P.862 is meant for up to so much, and listeners judge no more."""
ROWS = 8
"""Recordings vocoded at once: as many as the compiled engine shares its work among well."""
NO_MEL = (
    "the model takes no mel, so it cannot resynthesize a recording: only its bits per sample are "
    "measured; copy-synthesis needs a mel-conditioned model"
)


@dataclass(frozen=True, kw_only=True)
class Settings(SamplingOptions):
    """Settings that the numbers depend on besides the model and the recordings.

    Attributes:
        seed: of the copies.
        temperature: of sampling.
        noise_shaping: of sampling.
        baselines: keys of ``baseline_systems``; None for all of them.
        metrics: of ``metrics.CHOICES``; None for all of them.
    """

    seed: int = 0
    temperature: float = 1.0
    noise_shaping: float = 0.0
    baselines: tuple[str, ...] | None = None
    metrics: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative")
        self.require_weights()


@dataclass(frozen=True)
class Measured:
    """One recording.

    Attributes:
        utterance: the recording.
        copied_samples: how many of its samples were resynthesized; 0 without copy-synthesis.
        scores: by ``System.key``.
        copies: the signals ``[copied_samples]``, by ``System.key``.
    """

    utterance: Utterance
    copied_samples: int
    scores: dict[str, Scores]
    copies: dict[str, Tensor] = field(default_factory=dict)


class Evaluation:
    """A model, what it is compared with, and what can be measured here.

    Args:
        model: any ``WaveNet``.
        name: how the report calls it.
        settings: see ``Settings``.

    Attributes:
        systems: the model first, then the baselines that can be made, by key.
        unavailable: why others cannot, and metrics neither, by key.

    Raises:
        ValueError: for an unknown baseline or metric, or a model that wants other features.
    """

    def __init__(self, model: WaveNet, name: str, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.instruments = Instruments(settings.metrics)
        self.unavailable = dict(self.instruments.unavailable)
        has_mel = model.config.mel is not None
        self.passes = passes_of(model, settings.refine, from_mel=has_mel)
        self.systems = {system.key: system for system in _own_systems(name, has_mel, self.passes)}
        known = baseline_systems(model, self.passes)
        for key in known if settings.baselines is None else settings.baselines:
            if key not in known and key not in REFINED:
                raise ValueError(f"baselines={key!r} is unknown; choose of {', '.join(known)}")
            reason = why_unavailable(key)
            if not has_mel:
                self.unavailable[key] = NO_MEL
            elif key not in known:
                raise ValueError(f"baselines={key!r} needs refinement; leave it out with refine=0")
            elif reason is not None:
                self.unavailable[key] = reason
            else:
                self.systems[key] = known[key]

    def run(self, utterances: Sequence[Utterance]) -> Iterator[Measured]:
        """Measure recordings, on one core; the longest first, then those without a speaker.

        Raises:
            ValueError: if a recording's speaker is none that the model knows, or as ``generate``.
        """
        speakers = {u.speaker: speaker_index(self.model, u.speaker) for u in utterances}
        ordered = sorted(utterances, key=lambda u: (-len(u.samples), u.name))
        named = [u for u in ordered if speakers[u.speaker] is not None]
        others = [u for u in ordered if speakers[u.speaker] is None]  # not in one batch with them
        batches = [
            part[i : i + ROWS] for part in (named, others) for i in range(0, len(part), ROWS)
        ]
        with limited_threads(1):
            if self.model.config.mel is not None:
                for rows in {len(batch) for batch in batches}:
                    self._warm_up(rows, speakers[batches[0][0].speaker])
            for batch in batches:
                yield from self._measure(batch, speakers)

    def _measure(
        self, rows: Sequence[Utterance], speakers: dict[str, int | None]
    ) -> Iterator[Measured]:
        """One batch of them."""
        audio = [whole_audio(utterance) for utterance in rows]
        chosen = [speakers[utterance.speaker] for utterance in rows]
        made: list[Tensor] | None = None
        speed = 0.0
        if self.model.config.mel is not None:
            clips = [x[: round(LONGEST_S * self.model.sample_rate)] for x in audio]
            made, speed = self._vocode(clips, chosen)
        for row, utterance in enumerate(rows):
            own = Scores()
            own.add("bits_per_sample", file_bits(self.model, audio[row], chosen[row]), "infinite")
            if made is None:
                yield Measured(utterance, 0, {"model": own})
                continue
            yield self._compare(utterance, clips[row], made[row], own, speed)

    def _compare(
        self, utterance: Utterance, audio: Tensor, made: Tensor, own: Scores, speed: float
    ) -> Measured:
        """Score the model's copies and the baselines' beside the recording.

        Args:
            utterance: the recording.
            audio: its samples.
            made: the network's copy, not refined.
            own: scores of the model that need no copy.
            speed: seconds of audio that the network made per second.
        """
        reference = Reference(audio, self.model.sample_rate, self.instruments)
        mel = whole_mel(self.model, audio)
        scores, copies = {}, {}
        if self.passes:
            network = reference.compare(made)
            network.add("real_time_factor", speed, "")
            scores["network"], copies["network"] = network, made
            begin = time.perf_counter()
            made = self._refined(made, mel)
            duration_s = len(audio) / self.model.sample_rate
            speed = duration_s / (duration_s / speed + time.perf_counter() - begin)
        compared = reference.compare(made)
        own.add("real_time_factor", speed, "")
        own.values.update(compared.values)
        own.missing.update(compared.missing)
        scores, copies = {"model": own, **scores}, {"model": made, **copies}
        for key in self.systems:
            if key in scores:
                continue
            begin = time.perf_counter()
            try:
                copy = make_copy(key, self.model, audio, mel, self.settings.seed, self.passes)
            except ValueError as error:
                scores[key] = Scores(missing={"copy": str(error)})
                continue
            seconds = time.perf_counter() - begin
            scores[key], copies[key] = reference.compare(copy), copy
            if key not in ("quantiser", "mu_law_256"):
                speed = len(audio) / self.model.sample_rate / seconds
                scores[key].add("real_time_factor", speed, "")
        return Measured(utterance, len(audio), scores, copies)

    def _refined(self, audio: Tensor, mel: Tensor) -> Tensor:
        assert self.model.config.mel is not None
        filterbank = self.model.mel_filterbank.float().cpu()
        refined: Tensor = refine(
            audio, mel, self.model.config.mel, self.passes, filterbank=filterbank
        )
        return refined.clamp(-1, 1)

    def _vocode(
        self, audio: Sequence[Tensor], speakers: Sequence[int | None]
    ) -> tuple[list[Tensor], float]:
        """Return the network's copies of some recordings, and seconds of audio made per second."""
        begin = time.perf_counter()
        made = generate(
            self.model,
            mel=[whole_mel(self.model, x) for x in audio],
            n_samples=[len(x) for x in audio],
            speaker=[s for s in speakers if s is not None] or None,
            seed=[self.settings.seed] * len(audio),
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            noise_shaping=self.settings.noise_shaping,
            engine=self.settings.engine,
            weights=self.settings.weights,
            refine=0,
        )
        seconds = time.perf_counter() - begin
        copies = [row[: len(x)].clone() for row, x in zip(made, audio, strict=True)]
        return copies, sum(map(len, audio)) / self.model.sample_rate / seconds

    def _warm_up(self, rows: int, speaker: int | None) -> None:
        """Warm up, so that what an engine compiles for so many rows counts for no recording."""
        silence = torch.zeros(self.model.sample_rate // 50)
        self._vocode([silence] * rows, [speaker] * rows)


def _own_systems(name: str, has_mel: bool, passes: int) -> list[System]:
    """Return the model as it generates, and where it is refined also the network alone."""
    if not has_mel:
        return [System("model", name, NO_MEL)]
    if not passes:
        return [System("model", name, "Generated from its own log-mel of the recording.")]
    note = f"Generated from its own log-mel of the recording, refined with {passes} passes."
    bare = "The same samples before the refinement: what the network alone generates."
    return [System("model", name, note), System("network", f"{name}, network alone", bare)]


def whole_audio(utterance: Utterance) -> Tensor:
    """Return all samples of an utterance, ``[T]`` in [-1, 1]."""
    return utterance.audio(0, len(utterance.samples))


def in_order(measured: Sequence[Measured]) -> list[Measured]:
    """Sort by the names of the recordings."""
    return sorted(measured, key=lambda one: one.utterance.name)
