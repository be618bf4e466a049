"""Models of Neural Amp Modeler (``.nam`` files), both ways.

- ``config``, ``activations``, ``presets``: what a network is;
- ``layer``, ``network``: the network, of causal blocks;
- ``weights``: the order of the numbers in a file;
- ``reading`` (with ``layers_json``, ``values``), ``writing``: files;
- ``checkpoints``: our own folders; ``compiled``: the network on the engine of ``wavenet.process``.
"""

from wavenet.interop.nam import compiled  # noqa: F401  (it tells the engine how)
from wavenet.interop.nam.checkpoints import from_checkpoint
from wavenet.interop.nam.command import load_model
from wavenet.interop.nam.config import NamConfig
from wavenet.interop.nam.network import ARCHITECTURE, NamWaveNet
from wavenet.interop.nam.presets import PRESETS, preset
from wavenet.interop.nam.reading import read_nam
from wavenet.interop.nam.writing import write_nam

__all__ = [
    "ARCHITECTURE",
    "PRESETS",
    "NamConfig",
    "NamWaveNet",
    "from_checkpoint",
    "load_model",
    "preset",
    "read_nam",
    "write_nam",
]
