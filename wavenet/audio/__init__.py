"""Audio files: their headers, reading as mono float32, writing, and resampling.

A sample is a float in [-1, 1]. A file of b bits stores the integers i of [-2^(b-1), 2^(b-1) - 1]
for the values i / 2^(b-1), in reading and writing: a 16-bit file is read and written back bit for
bit. The codecs are libsndfile's (through soundfile), the resampler is SoX's (through soxr); both
are imported when first needed, so that `import wavenet` works without them.

- ``reading`` (with ``opening``, ``mixing``), ``resampling``: whole files and parts of them;
- ``blocks``: files of any length, read in blocks;
- ``writing`` (with ``sink``, ``ogg``): files at once, or in chunks;
- ``libraries``, ``standard_error``: soundfile and soxr, and their output to standard error.
"""

from wavenet.audio.libraries import AudioError
from wavenet.audio.reading import AudioInfo, audio_info, read_audio
from wavenet.audio.resampling import resample
from wavenet.audio.writing import require_extension, write_audio

__all__ = [
    "AudioError",
    "AudioInfo",
    "audio_info",
    "read_audio",
    "require_extension",
    "resample",
    "write_audio",
]
