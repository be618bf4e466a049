"""Features of audio: log-mel spectrograms, their settings and files, and predictors from them."""

from wavenet.features.log_mel import log_mel, log_mel_rows, mel_filterbank
from wavenet.features.mel_config import MelConfig

__all__ = ["MelConfig", "log_mel", "log_mel_rows", "mel_filterbank"]
