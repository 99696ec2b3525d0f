"""What can go wrong between a feature table and a classifier.

ModelsError
├── DataError         a table that no classifier can be trained on
└── ClassifierError   a saved classifier that is missing, damaged, or does not fit
"""


class ModelsError(Exception):
    """Base of everything that `models` raises on purpose."""


class DataError(ModelsError):
    """A table that no classifier can be trained on."""


class ClassifierError(ModelsError):
    """A saved classifier that is missing, damaged, or does not fit."""
