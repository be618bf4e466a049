"""Files, settings, checkpoints, and sources of models: folders, the Hub, the package."""
