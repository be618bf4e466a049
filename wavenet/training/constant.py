"""The baseline: bits per sample of the best constant distribution, without any input."""

from __future__ import annotations

import math

import torch

from wavenet.data import Corpus, Windows
from wavenet.data.histogram import CLASSES, class_counts
from wavenet.distributions import MuLaw, mu_law_decode


def constant_bits(train_part: Corpus, windows: Windows) -> float:
    """Bits per sample of the best distribution without any input: the mu-law histogram.

    Counted on the training files, measured on the validation windows' samples. A model that does
    not get well below this has learnt no more than how loud the corpus is. Of a corpus that is
    larger than its cache all files are counted, as `wavenet shard` did.
    """
    law = MuLaw(CLASSES)
    if train_part.shards is not None and train_part.shards.per_group:
        counts = train_part.shards.class_counts
    else:
        counts = class_counts(part.samples[:] for part in train_part.utterances)
    logits = (counts + 1).log()
    places = (windows.place(i) for i in range(len(windows)))
    length = windows.plan.length
    seen = class_counts(part.samples[start : start + length] for part, start in places)
    values = mu_law_decode(torch.arange(law.classes), law.classes)
    log_prob = law.log_prob(logits[None, :, None].expand(1, -1, law.classes), values[None])[0]
    return float(-(seen * log_prob).sum() / seen.sum() / math.log(2))
