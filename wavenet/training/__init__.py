"""Training on Lightning: ``wavenet train`` from Python.

``TrainingConfig`` needs nothing more than the core; ``wavenet.training.run`` imports Lightning.
"""

from wavenet.training.config import ConfigError, TrainingConfig
from wavenet.training.errors import TrainingError

__all__ = ["ConfigError", "TrainingConfig", "TrainingError"]
