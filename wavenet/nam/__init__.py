"""Models of Neural Amp Modeler: reading, writing and running ``.nam`` files.

- ``config``, ``activations``, ``presets``: the configuration of a network;
- ``layer``, ``network``: the network, built of causal blocks;
- ``simple_config``, ``model``, ``simple``: the other architectures, ``Linear``, ``ConvNet``,
  ``LSTM`` and ``Sequential``, and (``simple_json``) their configuration in a file;
- ``container``: several sizes of one model;
- ``weights``: the order of the weights in a file;
- ``reading`` (with ``layers_json``, ``values``), ``writing``: files;
- ``checkpoints``: checkpoint folders of this package; ``lowering``: compilation for
  ``wavenet.process``.
"""

from wavenet.nam.checkpoints import (
    container_from_checkpoint,
    from_checkpoint,
)
from wavenet.nam.config import NamConfig
from wavenet.nam.container import CONTAINER_ARCHITECTURE, NamContainer, Submodel
from wavenet.nam.model import NamModel
from wavenet.nam.network import ARCHITECTURE, NamWaveNet
from wavenet.nam.presets import PRESETS, preset
from wavenet.nam.reading import is_nam, read_nam, read_nam_whole
from wavenet.nam.simple import NamConvNet, NamLinear, NamLSTM, NamSequential
from wavenet.nam.simple_config import ConvNetConfig, LinearConfig, LstmConfig, SequentialConfig
from wavenet.nam.values import FormatError
from wavenet.nam.writing import write_nam, write_nam_container

__all__ = [
    "ARCHITECTURE",
    "CONTAINER_ARCHITECTURE",
    "PRESETS",
    "ConvNetConfig",
    "FormatError",
    "LinearConfig",
    "LstmConfig",
    "NamConfig",
    "NamContainer",
    "NamConvNet",
    "NamLSTM",
    "NamLinear",
    "NamModel",
    "NamSequential",
    "NamWaveNet",
    "SequentialConfig",
    "Submodel",
    "container_from_checkpoint",
    "from_checkpoint",
    "is_nam",
    "preset",
    "read_nam",
    "read_nam_whole",
    "write_nam",
    "write_nam_container",
]
