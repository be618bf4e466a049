"""The corpus of a run: opened as the recipe names it, and reported."""

from __future__ import annotations

import logging

from wavenet.data import Corpus, find_corpus, read_cached
from wavenet.data.corpus import Progress
from wavenet.data.stored_corpus import Store, is_stored
from wavenet.training.config import ConfigError, TrainingConfig

logger = logging.getLogger("wavenet")


def open_corpus(config: TrainingConfig, sample_rate: int, progress: Progress = iter) -> Corpus:
    """Open the corpus of a run: a folder, a manifest, a known corpus, or one in a store.

    Raises:
        ValueError: if it cannot be used.
    """
    if is_stored(config.corpus):
        store = Store(config.corpus, config.cache, config.cache_gb)
        return store.open(sample_rate, config.trim_db)
    listing = find_corpus(config.corpus, root=config.corpus_root, download=config.download)
    if config.trim_db is not None and any(one.features for one in listing.recordings):
        raise ConfigError(
            f"trim_silence={config.trim_silence} would shift recordings against their features; "
            "set it to false"
        )
    return read_cached(
        listing,
        sample_rate,
        cache=config.cache,
        trim_db=config.trim_db,
        progress=progress,
    )


def report(corpus: Corpus) -> None:
    """Log what will be trained on, and what was left out."""
    n_files, minutes = len(corpus.utterances), corpus.duration_s / 60
    logger.info("corpus: %d files, %.1f minutes at %d Hz", n_files, minutes, corpus.sample_rate)
    if corpus.skipped:
        total = n_files + len(corpus.skipped)
        shown = "; ".join(corpus.skipped[:3]) + ("; ..." if len(corpus.skipped) > 3 else "")
        logger.warning("left out %d of %d files: %s", len(corpus.skipped), total, shown)
