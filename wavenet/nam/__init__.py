"""Models of Neural Amp Modeler (``.nam`` files), both ways.

- ``config``, ``activations``, ``presets``: what a network is;
- ``layer``, ``network``: the network, of causal blocks;
- ``weights``: the order of the numbers in a file;
- ``reading`` (with ``layers_json``, ``values``), ``writing``: files;
- ``checkpoints``: our own folders; ``lowering``: the network on the engine of ``wavenet.process``.
"""

from wavenet.nam.checkpoints import from_checkpoint
from wavenet.nam.config import NamConfig
from wavenet.nam.network import ARCHITECTURE, NamWaveNet
from wavenet.nam.presets import PRESETS, preset
from wavenet.nam.reading import is_nam, read_nam
from wavenet.nam.writing import write_nam

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
]
