"""Training windows: the samples of the loss, and the left context of its first sample.

A window is ``length`` samples to predict after ``warm_up`` samples that the loss ignores. With
``warm_up > past`` every prediction depends on the same samples as in the whole file, so the loss
does not depend on the crop length or the receptive field. Windows start on a hop, so that their mel
is a slice of the whole file's mel. A file is preceded by silence, as in generation.

Window i is a pure function of (seed, i): the same on any number of workers, ranks and restarts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from wavenet.data.augmentation import Augmentation, AugmentedRecording, AugmentedUtterance
from wavenet.data.corpus import Corpus, Utterance
from wavenet.data.frame_features import columns, require_features
from wavenet.data.groups import Group, Groups
from wavenet.data.recordings import CorpusError
from wavenet.data.window_plan import WindowPlan
from wavenet.features import log_mel_rows, mel_filterbank

_DROPPING, _AUGMENTATION, _DITHER, _FEEDBACK_NOISE = 1, 2, 3, 4
"""Second word of the random key of each purpose (places have 0), so that they are independent."""


class WindowRows(list[dict[str, Tensor]]):
    """Windows of one batch: a list of its rows.

    Args:
        whole: the batch; each tensor ``[B, ...]``.
    """

    def __init__(self, whole: dict[str, Tensor]) -> None:
        size = len(whole["x"])
        super().__init__({key: value[row] for key, value in whole.items()} for row in range(size))
        self.whole = whole


def collate(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the batch of windows; without the copy that torch's default makes."""
    if isinstance(rows, WindowRows):
        return rows.whole
    batch: dict[str, Tensor] = default_collate(rows)
    return batch


Source = Utterance | AugmentedUtterance


def _audio(places: Sequence[tuple[Source, int]], plan: WindowPlan) -> dict[str, Tensor]:
    """``x`` and ``mask``, ``[B, 1, warm_up + length]``, of windows at these places."""
    shape = len(places), 1, plan.warm_up + plan.length
    x, mask = torch.empty(shape), torch.ones(shape)
    for row, (utterance, start) in enumerate(places):
        first, stop = start - plan.warm_up, start + plan.length
        utterance.write_audio(first, x.numpy()[row, 0])
        mask[row, 0, : max(0, -first)] = 0
        mask[row, 0, shape[-1] - max(0, stop - utterance.n_samples) :] = 0
    return {"x": x, "mask": mask}


class Windows(Dataset[dict[str, Tensor]]):
    """Random windows of a corpus, drawn in proportion to the length of its utterances.

    Each item is a dictionary:

    - ``x`` ``[1, warm_up + length]``: samples in [-1, 1], zeros outside the recording;
    - ``mask`` ``[1, warm_up + length]``: 1 where x is inside the recording, else 0;
    - ``mel`` ``[M, frames]``: columns of the file's mel, or of its other features, with
      ``context_frames`` on each side;
    - ``frame`` ``[frames]``: the column of mel for each frame: its own, and outside the recording
      the first or last one of the recording;
    - ``speaker`` ``[]``: index; other conditions of the model likewise by their names;
    - ``mel_kept``, ``speaker_kept`` ... ``[]``: conditioning masks of a model that can do without
      (``plan.unconditional``): false for dropped conditioning;
    - ``feedback_noise`` ``[1, warm_up + length]``: noise for the network's input, where
      ``feedback_noise`` is not 0 (``wavenet.training.loss.noisy_inputs``).

    >>> speech = Utterance("a.wav", np.zeros(16000, np.int16), speaker="ann")
    >>> corpus = Corpus((speech,), sample_rate=16000)
    >>> plan = WindowPlan.of(wavenet.WaveNet(wavenet.WaveNetConfig.preset("tiny")), window_s=0.25)
    >>> windows = Windows(corpus, plan, n_windows=8, seed=0)
    >>> len(windows), tuple(windows[0]["x"].shape)
    (8, (1, 5023))

    Args:
        corpus: at the model's sample rate.
        plan: see ``WindowPlan``.
        n_windows: number of windows.
        seed: of the draws.
        drop: shares of the windows without a condition, by its name; each is dropped whether or not
            the others are.
        augment: share of the windows whose audio is augmented (``wavenet.data.augmentation``);
            a model that can do without speakers trains on these without their speaker.
        feedback_noise: mean amplitude of the noise, over windows.
    """

    def __init__(
        self,
        corpus: Corpus,
        plan: WindowPlan,
        *,
        n_windows: int,
        seed: int,
        drop: Mapping[str, float] | None = None,
        augment: float = 0.0,
        feedback_noise: float = 0.0,
    ) -> None:
        self.corpus, self.plan = corpus, plan
        self.n_windows, self.seed = n_windows, seed
        names = dict.fromkeys(("mel", "speaker", *(one.name for one in plan.conditions)), 0.0)
        self.drop = names | dict(drop or {})
        unknown = [name for name in self.drop if name not in names]
        if unknown:
            raise ValueError(
                f"drop_conditions: {unknown[0]!r} names a condition that is none of {list(names)}"
            )
        self.augment, self.feedback_noise = augment, feedback_noise
        if plan.features is not None:
            if augment:
                raise ValueError(
                    f"augment={augment} changes the recordings, and not their features; set it to 0"
                )
            require_features(corpus, plan.features)
        lengths = np.array([len(utterance.samples) for utterance in corpus.utterances])
        self._ends = np.cumsum(lengths)
        self._groups: Groups | None = None
        for name in corpus.speakers if plan.speakers else ():
            if name not in plan.speakers:
                raise CorpusError(
                    f"speaker {name!r} of the corpus is not among the model's {list(plan.speakers)}"
                )
        self._group: Group | None = None
        self._filterbank = None if plan.mel is None else mel_filterbank(plan.mel)

    def shuffle_shards(self) -> Windows:
        """Draw the windows of a corpus beyond the cache from a group of shards at a time.

        Returns the same object; other corpora are drawn from as a whole. See ``data.groups``.
        """
        self._groups = Groups.of(self.corpus, self.plan.length, self.seed)
        return self

    def __len__(self) -> int:
        return self.n_windows

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> WindowRows:
        """Return several windows at once, as a loader requests them; ``collate`` batches them."""
        plan, places = self.plan, [self._source(index) for index in indices]
        whole = _audio(places, plan)
        if plan.frame_channels:
            n_hops = (plan.warm_up + plan.length) // plan.hop
            rows = [self._frames(u, (at - plan.warm_up) // plan.hop, n_hops) for u, at in places]
            whole |= {key: torch.stack([row[key] for row in rows]) for key in ("mel", "frame")}
        for one in plan.conditions:
            values = [one.of_recording(self._recording(index)) for index in indices]
            whole[one.name] = torch.stack(values)
        if plan.unconditional:
            kept = torch.from_numpy(np.stack([self._kept(index) for index in indices]))
            whole |= {f"{name}_kept": kept[:, i] for i, name in enumerate(self.drop)}
        if self.feedback_noise:
            noise = np.stack([self._noise(index) for index in indices])
            whole["feedback_noise"] = torch.from_numpy(noise)
        return WindowRows(whole)

    def place(self, index: int) -> tuple[Utterance, int]:
        """The utterance of window ``index``, and the first sample of its loss.

        For an augmented window this is a sample of the augmented recording.

        Raises:
            IndexError: if there is no such window.
        """
        utterance, start, _ = self._place(index)
        return utterance, start

    def _place(self, index: int) -> tuple[Utterance, int, int]:
        """Return ``place``, and the length of the recording, augmented or not."""
        if not 0 <= index < self.n_windows:
            raise IndexError(f"index={index} must be within 0 to {self.n_windows - 1}")
        draw = np.random.Generator(np.random.Philox(key=self.seed, counter=index))
        utterance = self._utterance(index, draw)
        augmentation = self.augmentation(index)
        length = utterance.n_samples
        if augmentation is not None:
            length = augmentation.length(length)
        return utterance, int(draw.integers(self._n_places(length))) * self.plan.hop, length

    def _utterance(self, index: int, draw: np.random.Generator) -> Utterance:
        """Draw an utterance in proportion to its length, of the whole corpus or of a group."""
        if self._groups is None:
            which = np.searchsorted(self._ends, draw.integers(self._ends[-1]), side="right")
            return self.corpus.utterances[which]
        group = self._groups.of_window(index)
        if group is not self._group and self.corpus.shards is not None:
            self._group = group
            self.corpus.shards.fetch_ahead([*group.shards, *group.following])
        which = np.searchsorted(group.ends, draw.integers(group.ends[-1]), side="right")
        return self.corpus.utterances[group.utterances[which]]

    def augmentation(self, index: int) -> Augmentation | None:
        """Return the augmentation of window ``index``; None if it is not augmented."""
        if not self.augment:
            return None
        random = np.random.Generator(self._random(_AUGMENTATION, index))
        return Augmentation.draw(random) if random.random() < self.augment else None

    def _source(self, index: int) -> tuple[Source, int]:
        """Return the recording of window ``index``, augmented or not, and its first sample."""
        utterance, start, _ = self._place(index)
        augmentation = self.augmentation(index)
        if augmentation is None:
            return utterance, start
        plan = self.plan
        # Context of the window's mel, and a margin for the reflection at the end.
        margin = plan.context_frames * plan.hop + (0 if plan.mel is None else 2 * plan.mel.n_fft)
        first, stop = start - plan.warm_up - margin, start + plan.length + margin
        dither = self._random(_DITHER, index)
        return AugmentedUtterance(utterance, augmentation, first, stop, dither), start

    def _recording(self, index: int) -> Utterance | AugmentedRecording:
        """Return the whole recording of window ``index``, augmented or not."""
        utterance, _, _ = self._place(index)
        augmentation = self.augmentation(index)
        if augmentation is None:
            return utterance
        dither = functools.partial(self._random, _DITHER, index)
        return AugmentedRecording(utterance, augmentation, dither)

    def _random(self, purpose: int, index: int) -> np.random.Philox:
        """Source of random numbers for one purpose and window."""
        return np.random.Philox(key=[self.seed, purpose], counter=[0, 0, index, 0])

    def _noise(self, index: int) -> np.ndarray:
        """Laplacian noise of variance s^2; s is at most half of its mean in half of the windows."""
        random = np.random.Generator(self._random(_FEEDBACK_NOISE, index))
        scale = 4 * self.feedback_noise * random.random() ** 3
        noise = random.laplace(0.0, scale / math.sqrt(2), (1, self.plan.warm_up + self.plan.length))
        return noise.astype(np.float32)

    def _kept(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Draw whether window ``index`` keeps each condition, in the order of ``drop``."""
        draw = np.random.Generator(np.random.Philox(key=[self.seed, _DROPPING], counter=index))
        kept: np.ndarray[tuple[int], np.dtype[np.bool_]]
        kept = draw.random(len(self.drop)) >= tuple(self.drop.values())
        if self.augmentation(index) is not None:
            kept[list(self.drop).index("speaker")] = False  # another pitch is another voice
        return kept

    def n_inside(self, index: int) -> int:
        """Count the samples that window ``index`` predicts inside the recording."""
        _, start, length = self._place(index)
        return min(self.plan.length, length - start)

    def _n_places(self, length: int) -> int:
        """Count the starts from 0 to the last one whose window contains the end of a recording."""
        beyond = max(0, length - self.plan.length)
        return math.ceil(beyond / self.plan.hop) + 1

    def _frames(self, utterance: Source, first: int, count: int) -> dict[str, Tensor]:
        """Return columns of the whole file's mel or features, and the one for each frame."""
        mel, length = self.plan.mel, utterance.n_samples
        first, count = first - self.plan.context_frames, count + 2 * self.plan.context_frames
        if self.plan.features is not None:
            assert isinstance(utterance, Utterance) and utterance.features is not None  # noqa: PT018
            values, frames = columns(utterance.features, self.plan.features, first, count)
            return {"mel": values, "frame": frames}
        assert mel is not None
        # A part of the file is enough: from a hop before the first row, or far enough from the end
        # for the reflection there, up to the end of the last row.
        begin = min(first * mel.hop_samples - mel.pad_samples, length - 2 * mel.n_fft)
        skipped = max(0, begin // mel.hop_samples)
        stop = (first + count - 1) * mel.hop_samples - mel.pad_samples + mel.n_fft
        part = utterance.audio(skipped * mel.hop_samples, min(max(stop, mel.n_fft), length))
        frames = torch.arange(first, first + count).clamp(0, mel.frames(length) - 1)
        return {
            "mel": log_mel_rows(part, mel, first - skipped, count, self._filterbank),
            "frame": frames - first,
        }
