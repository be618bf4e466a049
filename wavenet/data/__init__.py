"""From audio files to the windows that training sees."""

from wavenet.data.batches import Batches
from wavenet.data.corpus import Corpus, CorpusError, Utterance, find_audio
from wavenet.data.windows import WindowPlan, Windows

__all__ = ["Batches", "Corpus", "CorpusError", "Utterance", "WindowPlan", "Windows", "find_audio"]
