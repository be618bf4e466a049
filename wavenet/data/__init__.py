"""Corpora of audio files, and training windows cut from them."""

from wavenet.data.batches import Batches
from wavenet.data.cache import read_cached
from wavenet.data.corpora import find_corpus
from wavenet.data.corpus import Corpus, Utterance
from wavenet.data.recordings import CorpusError, Listing, Recording, find_audio
from wavenet.data.shard_writing import write_shards
from wavenet.data.stored_corpus import Store
from wavenet.data.window_plan import WindowPlan
from wavenet.data.windows import Windows

__all__ = [
    "Batches",
    "Corpus",
    "CorpusError",
    "Listing",
    "Recording",
    "Store",
    "Utterance",
    "WindowPlan",
    "Windows",
    "find_audio",
    "find_corpus",
    "read_cached",
    "write_shards",
]
