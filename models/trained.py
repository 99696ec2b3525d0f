"""A trained classifier as `treehead.load_classifier` hands it out: classes of images or of features, and its card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from features.devices import resolve_device
from features.frozen_trunk import ImageLike, features_of
from features.trunk.trunk import Trunk, rebuild_trunks
from models.card import Card
from models.errors import ClassifierError
from models.heads.head import Classifier, Probabilities
from models.networks.classifier import NetworkClassifier


@dataclass(frozen=True)
class TrainedClassifier:
    """A classifier and the networks whose features it takes, which are built where images first come.

    `card.trunks` says which these are, and in which order the columns of their nodes stand side by side.

    >>> import treehead
    >>> classifier = treehead.load_classifier("linear.joblib")
    >>> classifier.predict_images(["photos/oak/0001.jpg", np.zeros((40, 30, 3), np.uint8)]).shape
    (2,)
    """

    _head: Classifier = field(repr=False)
    card: Card

    @property
    def classes_(self) -> tuple[str, ...]:
        """The classes' names, in the order of the columns of `predict_proba`."""
        return self.card.classes

    def predict_images(self, images: Iterable[ImageLike]) -> NDArray[np.str_]:
        """The name of the likeliest class of each of n paths, PIL images or uint8 arrays: (n,); see FrozenTrunk."""
        return self._likeliest(self.predict_proba_images(images))

    def predict_proba_images(self, images: Iterable[ImageLike]) -> Probabilities:
        """Class probabilities of n images: (n, k) float32.

        Raises SourceError for one that cannot be read, TrunkError where the network's weights are no longer found.
        """
        return self.predict_proba(features_of(images, self._trunks))

    def predict(self, x: ArrayLike) -> NDArray[np.str_]:
        """The name of the likeliest class of each of (n, d) features: (n,)."""
        return self._likeliest(self.predict_proba(x))

    def predict_proba(self, x: ArrayLike) -> Probabilities:
        """Class probabilities of (n, d) features: (n, k) float32, each row's sum 1."""
        rows = np.asarray(x, dtype=np.float32)
        return self._head.predict_proba(rows) if len(rows) else np.empty((0, len(self.classes_)), np.float32)

    def _likeliest(self, probabilities: Probabilities) -> NDArray[np.str_]:
        names: NDArray[np.str_] = np.array(self.classes_)[probabilities.argmax(axis=1)]
        return names

    @cached_property
    def _trunks(self) -> Sequence[Trunk]:
        return trunks_of(self._head, self.card, resolve_device("auto"))


def trunks_of(head: Classifier, card: Card, device: torch.device, weights: str = "") -> Sequence[Trunk]:
    """What makes the features that a classifier takes; a retrained network makes its own.

    `weights` stand in for those that the card names, where these have moved. Raises TrunkError where they are others,
    and ClassifierError where they come with a retrained network.
    """
    if isinstance(head, NetworkClassifier):
        if weights:
            raise ClassifierError(f"`weights={weights}` came with a retrained network, which has its own: leave it")
        return (head.trunk(device),)
    return rebuild_trunks(card.trunks, weights=weights or card.weights, device=device)
