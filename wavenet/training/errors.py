"""Errors of training, importable without the packages that training needs."""


class TrainingError(RuntimeError):
    """A run that cannot go on; one line gives the reason and what is kept.

    >>> issubclass(TrainingError, RuntimeError)
    True
    """
