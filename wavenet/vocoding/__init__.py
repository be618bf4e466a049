"""Vocoding files: audio or a stored mel in, the model's speech out, whatever the length."""

from wavenet.vocoding.files import Job, Outcome, vocode_files
from wavenet.vocoding.mels import mel_blocks, read_mel_config, write_mel
from wavenet.vocoding.sources import Source, open_source

__all__ = [
    "Job",
    "Outcome",
    "Source",
    "mel_blocks",
    "open_source",
    "read_mel_config",
    "vocode_files",
    "write_mel",
]
