"""Models of Neural Amp Modeler: reading, writing and running ``.nam`` files.

- ``config``, ``activations``, ``presets``: the configuration of a network;
- ``layer``, ``network``: the network, built of causal blocks;
- ``weights``: the order of the weights in a file;
- ``reading`` (with ``layers_json``, ``values``), ``writing``: files;
- ``checkpoints``: checkpoint folders of this package; ``lowering``: compilation for
  ``wavenet.process``.
"""

from wavenet.nam.checkpoints import from_checkpoint
from wavenet.nam.config import NamConfig
from wavenet.nam.network import ARCHITECTURE, NamWaveNet
from wavenet.nam.presets import PRESETS, preset
from wavenet.nam.reading import is_nam, read_nam
from wavenet.nam.writing import write_nam, write_nam_container

__all__ = [
    "ARCHITECTURE",
    "PRESETS",
    "NamConfig",
    "NamWaveNet",
    "from_checkpoint",
    "is_nam",
    "preset",
    "read_nam",
    "write_nam",
    "write_nam_container",
]
