"""What can go wrong between a feature table and a classifier."""


class ModelsError(Exception):
    """Base of everything that `models` raises on purpose."""


class SettingsError(ModelsError):
    """A setting of a head or of training that is out of range."""


class DataError(ModelsError):
    """A table, or images, that no classifier can be trained on."""


class StudyError(ModelsError):
    """A search for settings that cannot be kept or gone on with."""


class TrainingError(ModelsError):
    """A network that does not learn, or a checkpoint that cannot be gone on from."""


class ClassifierError(ModelsError):
    """A saved classifier that is missing, damaged, or does not fit."""
