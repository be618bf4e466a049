"""Corpora of audio files, and training windows cut from them."""

from wavenet.data.batches import Batches
from wavenet.data.cache import read_cached
from wavenet.data.corpora import find_corpus
from wavenet.data.corpus import Corpus, Utterance
from wavenet.data.recordings import CorpusError, Listing, Recording, find_audio
from wavenet.data.windows import WindowPlan, Windows

__all__ = [
    "Batches",
    "Corpus",
    "CorpusError",
    "Listing",
    "Recording",
    "Utterance",
    "WindowPlan",
    "Windows",
    "find_audio",
    "find_corpus",
    "read_cached",
]
