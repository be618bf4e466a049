"""Files, settings, checkpoints, and where models are found: folders, the Hub, the package."""
