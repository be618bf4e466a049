"""The WaveNet model and its configuration."""

from wavenet.model.config import FeatureConfig, WaveNetConfig
from wavenet.model.sharing import ARCHITECTURE
from wavenet.model.wavenet import Hidden, ModelState, WaveNet

__all__ = ["ARCHITECTURE", "FeatureConfig", "Hidden", "ModelState", "WaveNet", "WaveNetConfig"]
