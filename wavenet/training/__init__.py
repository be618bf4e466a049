"""Training on Lightning Fabric: ``wavenet train`` from Python.

``fit`` trains a model of one's own, ``train`` what a recipe describes. Both import Lightning when
they are first asked for; ``TrainingConfig`` needs nothing more than the core.
"""

from typing import TYPE_CHECKING, Any

from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.errors import TrainingError

if TYPE_CHECKING:
    from wavenet.training.muon import Muon
    from wavenet.training.run import TrainingResult, fit, train

__all__ = [
    "ConfigError",
    "Muon",
    "TrainingConfig",
    "TrainingError",
    "TrainingResult",
    "fit",
    "train",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import what needs torch or Lightning when it is first asked for."""
        if name == "Muon":
            from wavenet.training import muon

            return muon.Muon
        if name in ("TrainingResult", "fit", "train"):
            from wavenet.training import run

            return getattr(run, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
