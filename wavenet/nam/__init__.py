"""Models of Neural Amp Modeler: reading, writing and running ``.nam`` files.

- ``config``, ``activations``, ``presets``: the configuration of a network;
- ``layer``, ``network``: the network, built of causal blocks;
- ``simple_config``, ``model``, ``simple``: the other architectures, ``Linear``, ``ConvNet``,
  ``LSTM`` and ``Sequential``, and (``simple_json``) their configuration in a file;
- ``weights``: the order of the weights in a file;
- ``reading`` (with ``layers_json``, ``values``), ``writing``: files;
- ``checkpoints``: checkpoint folders of this package; ``lowering``: compilation for
  ``wavenet.process``.
"""

from wavenet.nam.checkpoints import from_checkpoint
from wavenet.nam.config import NamConfig
from wavenet.nam.model import NamModel
from wavenet.nam.network import ARCHITECTURE, NamWaveNet
from wavenet.nam.presets import PRESETS, preset
from wavenet.nam.reading import is_nam, read_nam
from wavenet.nam.simple import NamConvNet, NamLinear, NamLSTM, NamSequential
from wavenet.nam.simple_config import ConvNetConfig, LinearConfig, LstmConfig, SequentialConfig
from wavenet.nam.writing import write_nam, write_nam_container

__all__ = [
    "ARCHITECTURE",
    "PRESETS",
    "ConvNetConfig",
    "LinearConfig",
    "LstmConfig",
    "NamConfig",
    "NamConvNet",
    "NamLSTM",
    "NamLinear",
    "NamModel",
    "NamSequential",
    "NamWaveNet",
    "SequentialConfig",
    "from_checkpoint",
    "is_nam",
    "preset",
    "read_nam",
    "write_nam",
    "write_nam_container",
]
