"""The baseline: bits per sample of the best constant distribution, without any input."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from wavenet.data import Corpus, Windows
from wavenet.distributions import MuLaw, mu_law_decode, mu_law_encode


def constant_bits(train_part: Corpus, windows: Windows) -> float:
    """Bits per sample of the best distribution without any input: the mu-law histogram.

    Counted on the training files, measured on the validation windows' samples. A model that does
    not get well below this has learnt no more than how loud the corpus is.
    """
    law = MuLaw(256)
    logits = (_class_counts(law, (part.samples for part in train_part.utterances)) + 1).log()
    places = (windows.place(i) for i in range(len(windows)))
    length = windows.plan.length
    seen = _class_counts(law, (part.samples[start : start + length] for part, start in places))
    values = mu_law_decode(torch.arange(law.classes), law.classes)
    log_prob = law.log_prob(logits[None, :, None].expand(1, -1, law.classes), values[None])[0]
    return float(-(seen * log_prob).sum() / seen.sum() / math.log(2))


def _class_counts(law: MuLaw, parts: Iterable[np.ndarray]) -> Tensor:
    """Number of the int16 samples in each class, float64 ``[classes]``."""
    counts = np.zeros(65536)
    for samples in parts:
        counts += np.bincount(samples.astype(np.int64) + 32768, minlength=65536)
    codes = mu_law_encode(torch.arange(-32768, 32768) / 32768, law.classes)
    classes = torch.zeros(law.classes, dtype=torch.float64)
    return classes.index_add(0, codes, torch.from_numpy(counts))
