"""Labelled images in, the classifier to ship out: what a program of your own takes from treehead.

    FrozenTrunk       images to the features of a frozen network, as a scikit-learn transformer
    open_table        a feature table that `treehead features` has written
    load_classifier   a classifier that `treehead xgb`, `compare` or `finetune` has trained
    load_comparison   what `treehead compare` has found
    __version__       the installed release

What is not named here may change with any release. torch and the rest are imported when something needs them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from treehead._hidden import refuse_hidden

if TYPE_CHECKING:
    from features.frozen_trunk import FrozenTrunk
    from features.table.table import FeatureTable
    from models.trained import TrainedClassifier
    from pipeline.report.result import Comparison

    __version__: str

__all__ = ["FrozenTrunk", "__version__", "load_classifier", "load_comparison", "open_table"]

refuse_hidden(Path(__file__).parent.parent)


def open_table(folder: str | Path) -> FeatureTable:
    """Open the feature table in `folder`, and check that it is whole.

    `read`, `batches` and `to_pandas` give its rows, `ledger` what could not be read, `spec.classes` the names that
    labels number. Raises TableError where the table is missing, cut short or changed.

    >>> table = open_table("table")
    >>> table.to_pandas("test")[["key", "label", "f0"]].shape
    (11, 3)
    """
    from features.table.table import FeatureTable

    return FeatureTable.open(folder)


def load_classifier(path: str | Path) -> TrainedClassifier:
    """Read a classifier by one of its files, such as `xgb.joblib`.

    It is read from the arrays in the `.safetensors` file beside, so that no pickle is loaded, once the card's SHA-256
    has proved that nothing is damaged; who wrote it is for you to know. Raises ClassifierError where a file is missing,
    cut short, changed, malformed or of another format.

    >>> classifier = load_classifier("linear.joblib")
    >>> classifier.classes_, classifier.card.trunks[0].backbone
    (('beech', 'oak'), 'squeezenet1_1')
    >>> classifier.predict(open_table("table").read("test").x)[[0, -1]].tolist()
    ['beech', 'oak']
    """
    from features.stores import place
    from models.card import load_classifier
    from models.trained import TrainedClassifier

    return TrainedClassifier(*load_classifier(place(path)))


def load_comparison(path: str | Path) -> Comparison:
    """Read a comparison from its folder, or from the `metrics.json` in it.

    Raises ResultError where it is missing, damaged or of another format.

    >>> comparison = load_comparison("comparison")
    >>> comparison.to_pandas()[["accuracy", "macro_f1"]]
            accuracy  macro_f1
    linear       1.0       1.0
    knn          1.0       1.0
    """
    from pipeline.report.result import Comparison

    return Comparison.open(path)


if not TYPE_CHECKING:  # mypy would take every name for one that is there

    def __getattr__(name: str) -> object:
        """FrozenTrunk and __version__ when they are first asked for (PEP 562)."""
        if name == "FrozenTrunk":
            from features.frozen_trunk import FrozenTrunk

            return FrozenTrunk
        if name == "__version__":
            from pipeline.release import release

            return release()
        raise AttributeError(f"treehead has no {name!r}: expected one of {', '.join(__all__)}", name=name)


def __dir__() -> list[str]:
    return sorted(__all__)
