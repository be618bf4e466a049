"""Errors of training, importable without the packages that training needs."""


class TrainingError(RuntimeError):
    """A run that cannot go on; one line says why and what is kept."""
