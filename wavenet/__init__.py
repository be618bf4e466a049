"""WaveNet for today: causal dilated convolutions that hear, speak, and say how far back they hear.

>>> import wavenet
>>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("small"))
>>> wavenet.receptive_field(model).milliseconds
127.9375
"""

from wavenet.distributions import make_distribution
from wavenet.features import log_mel
from wavenet.features.mel_config import MelConfig
from wavenet.features.refinement import refine
from wavenet.generation import generate, stream
from wavenet.loading import load
from wavenet.model import WaveNet
from wavenet.model.config import FeatureConfig, WaveNetConfig
from wavenet.nn import (
    Causal,
    CausalConv1d,
    CausalConvTranspose1d,
    Chain,
    DilatedStack,
    GatedResidualBlock,
    MelRefinement,
    Select,
)
from wavenet.processing import process
from wavenet.receptive_fields import ReceptiveField, receptive_field
from wavenet.storage.hub import push
from wavenet.storage.pretrained import voice_names

__version__ = "0.1.0"

__all__ = [
    "Causal",
    "CausalConv1d",
    "CausalConvTranspose1d",
    "Chain",
    "DilatedStack",
    "FeatureConfig",
    "GatedResidualBlock",
    "MelConfig",
    "MelRefinement",
    "ReceptiveField",
    "Select",
    "WaveNet",
    "WaveNetConfig",
    "generate",
    "load",
    "log_mel",
    "make_distribution",
    "process",
    "push",
    "receptive_field",
    "refine",
    "stream",
    "voice_names",
]
