"""Audio files: what they hold, their samples as mono float32, writing them, and resampling.

A sample is a float in [-1, 1]. A file of b bits stores the integers i of [-2^(b-1), 2^(b-1) - 1]
and means i / 2^(b-1), for reading as for writing: what was read from a 16-bit file is written back
bit for bit. The codecs are libsndfile's (through soundfile), the resampler is SoX's (through soxr);
both are imported when first needed, so that `import wavenet` works without them.

- ``reading`` (with ``opening``, ``mixing``), ``resampling``: whole files and parts of them;
- ``blocks``: files of any length, read in pieces;
- ``writing`` (with ``sink``, ``ogg``): files at once, or in pieces;
- ``libraries``, ``standard_error``: soundfile and soxr, and what is printed within them.
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
