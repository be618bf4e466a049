"""The WaveNet model and its configuration."""

from wavenet.model.config import FeatureConfig, WaveNetConfig
from wavenet.model.wavenet import ARCHITECTURE, Hidden, WaveNet

__all__ = ["ARCHITECTURE", "FeatureConfig", "Hidden", "WaveNet", "WaveNetConfig"]
