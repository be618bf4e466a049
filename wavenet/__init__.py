"""WaveNet in PyTorch: causal dilated convolutions, a speech and audio generator, receptive fields.

>>> import wavenet
>>> model = wavenet.WaveNet(wavenet.WaveNetConfig.preset("small"))
>>> wavenet.receptive_field(model).milliseconds
127.9375

Names are imported when they are first used (PEP 562), so that ``wavenet --help`` does not wait for
torch.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavenet.conversion import causal
    from wavenet.distributions import make_distribution
    from wavenet.features import log_mel
    from wavenet.features.mel_config import MelConfig
    from wavenet.generation import generate, stream
    from wavenet.interop.blocks import export
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
    from wavenet.nn.refine import refine
    from wavenet.processing import process
    from wavenet.receptive_fields import ReceptiveField, receptive_field
    from wavenet.storage.hub import push
    from wavenet.storage.pretrained import voice_names

# onnxruntime, where a library or an export imports it, opens no connection (its page Privacy.md).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

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
    "causal",
    "export",
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

_MODULES = {
    "wavenet.conversion": ("causal",),
    "wavenet.distributions": ("make_distribution",),
    "wavenet.features": ("log_mel",),
    "wavenet.generation": ("generate", "stream"),
    "wavenet.storage.hub": ("push",),
    "wavenet.interop.blocks": ("export",),
    "wavenet.loading": ("load",),
    "wavenet.features.mel_config": ("MelConfig",),
    "wavenet.model": ("WaveNet",),
    "wavenet.model.config": ("FeatureConfig", "WaveNetConfig"),
    "wavenet.nn": (
        "Causal",
        "CausalConv1d",
        "CausalConvTranspose1d",
        "Chain",
        "DilatedStack",
        "GatedResidualBlock",
        "MelRefinement",
        "Select",
    ),
    "wavenet.nn.refine": ("refine",),
    "wavenet.processing": ("process",),
    "wavenet.receptive_fields": ("ReceptiveField", "receptive_field"),
    "wavenet.storage.pretrained": ("voice_names",),
}
"""Where each public name is defined; type checkers read the same from the imports above."""

if not TYPE_CHECKING:  # a checker that sees it would take every misspelt name for one of any type

    def __getattr__(name: str) -> Any:
        """Import a public name, or a module of the package, when it is first asked for."""
        from importlib import import_module
        from importlib.util import find_spec

        for module, names in _MODULES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(module), name)
                return value
        if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
