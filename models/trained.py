"""A trained classifier as `treehead.load_classifier` hands it out: probabilities, class names, and its card."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.card import Card
from models.heads.head import Classifier, Probabilities


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier of features, not of images: `card.trunks` says which network's, in the order of their columns."""

    _head: Classifier = field(repr=False)
    card: Card

    @property
    def classes_(self) -> tuple[str, ...]:
        """The classes' names, in the order of the columns of `predict_proba`."""
        return self.card.classes

    def predict_proba(self, x: ArrayLike) -> Probabilities:
        """Class probabilities of (n, d) features: (n, k) float32, each row's sum 1."""
        return self._head.predict_proba(np.asarray(x, dtype=np.float32))

    def predict(self, x: ArrayLike) -> NDArray[np.str_]:
        """The name of the likeliest class of each of (n, d) features: (n,)."""
        names: NDArray[np.str_] = np.array(self.classes_)[self.predict_proba(x).argmax(axis=1)]
        return names
