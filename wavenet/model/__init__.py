"""The WaveNet model and its configuration."""

from wavenet.model.config import FeatureConfig, WaveNetConfig
from wavenet.model.hidden import Hidden, ModelState
from wavenet.model.sharing import ARCHITECTURE
from wavenet.model.wavenet import WaveNet

__all__ = ["ARCHITECTURE", "FeatureConfig", "Hidden", "ModelState", "WaveNet", "WaveNetConfig"]
