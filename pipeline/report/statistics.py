"""How good a head is, and how sure we are of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import sqrt
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import entropy
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from features.sources.source import LearningSplit
from features.table.joined import JoinedTable
from models.heads.head import Probabilities
from pipeline.report.simultaneous import CONFIDENCE, effective_images, moments_of

MATRIX_CLASSES = 100
"""Up to this many classes a confusion matrix is kept; it grows with their square."""

CONFUSIONS = 100
"""How many of the most frequent confusions are kept."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracy with its 95 % Wilson interval (shares, 0 to 1), and log-loss in nats."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Means of the classes' precision, recall and F1 (shares)."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class ClassRates:
    """Precision, recall and F1 (shares) of a class, and its `support`: how many images are of it; with none, None."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int


NO_IMAGES = ClassRates(precision=None, recall=None, f1=None, support=0)


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """How many images of the class `true` are taken for the class `predicted`, by their numbers."""

    true: int
    predicted: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a head takes the images for.

    `by_class` has the rates of each class, in order, `macro` their mean over the classes that have images and
    `weighted` that weighted by support. `confusion_matrix[i][j]` counts images of class i taken for class j, None with
    more than MATRIX_CLASSES classes; `confusions` are the most frequent mistakes, CONFUSIONS at most, the most first.
    """

    by_class: tuple[ClassRates, ...]
    macro: Rates
    weighted: Rates
    confusion_matrix: tuple[tuple[int, ...], ...] | None
    confusions: tuple[Confusion, ...]

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that have images."""
        return self.macro.f1


def score(probabilities: Probabilities, y: NDArray[np.int32], groups: NDArray[np.intp] | None = None) -> Scores:
    """Score (n, k) probabilities against (n,) labels that number their columns; n is 1 or more.

    Images of one of `groups` (n,) may be alike: the interval is that of as many images as they are worth.

    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]], np.float32)
    >>> scores = score(probabilities, np.array([0, 0, 1, 1], np.int32))
    >>> print(f"{scores.accuracy:.2f}, between {scores.accuracy_low:.2f} and {scores.accuracy_high:.2f}")
    0.75, between 0.30 and 0.95
    """
    right = (probabilities.argmax(axis=1) == y)[:, None]
    accuracy = float(right.mean())
    variances, alone = (moments_of(right, each)[1][0] for each in (groups, None))
    low, high = wilson(accuracy, effective_images(alone, variances, groups, len(y))[0])
    columns = np.arange(probabilities.shape[1])
    return Scores(
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        log_loss=float(log_loss(y, probabilities, labels=columns)),
    )


def log_likelihoods(probabilities: Probabilities, y: NDArray[np.int32]) -> NDArray[np.float64]:
    """Each image's part of the log-loss, less than 0, (n,), as `score` takes the mean of it.

    >>> print(log_likelihoods(np.array([[0.5, 0.5], [0.2, 0.8]], np.float32), np.array([0, 1], np.int32)).round(2))
    [-0.69 -0.22]
    """
    likely = probabilities[np.arange(len(y)), y] / probabilities.sum(axis=1)
    found: NDArray[np.float64] = np.log(np.maximum(likely.astype(np.float64), np.finfo(probabilities.dtype).eps))
    return found


def count_predicted(predicted: NDArray[np.intp], y: NDArray[np.int32], classes: int) -> Predicted:
    """Count (n,) predicted classes against (n,) labels, both 0 to `classes` − 1.

    >>> found = count_predicted(np.array([0, 1, 1]), np.array([0, 0, 1], np.int32), 2)
    >>> found.by_class[0]
    ClassRates(precision=1.0, recall=0.5, f1=0.666..., support=2)
    >>> found.confusions
    (Confusion(true=0, predicted=1, count=1),)
    """
    numbers = np.arange(classes)
    found = np.array(precision_recall_fscore_support(y, predicted, labels=numbers, zero_division=0))
    matrix = confusion_matrix(y, predicted, labels=numbers) if classes <= MATRIX_CLASSES else None
    return Predicted(
        by_class=tuple(map(_class_rates, found.T)),
        macro=Rates(**_rates(found[:, found[3] > 0].mean(axis=1))),
        weighted=Rates(**_rates(np.average(found, axis=1, weights=found[3]))),
        confusion_matrix=None if matrix is None else tuple(map(tuple, matrix.tolist())),
        confusions=_confusions(predicted, y),
    )


def _class_rates(column: NDArray[np.float64]) -> ClassRates:
    support = int(column[3])
    return ClassRates(**_rates(column), support=support) if support else NO_IMAGES


def _rates(column: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(("precision", "recall", "f1"), map(float, column), strict=False))


def _confusions(predicted: NDArray[np.intp], y: NDArray[np.int32]) -> tuple[Confusion, ...]:
    wrong = predicted != y
    pairs = Counter(zip(y[wrong].tolist(), predicted[wrong].tolist(), strict=True))
    most = sorted(pairs.items(), key=lambda each: (-each[1], each[0]))[:CONFUSIONS]
    return tuple(Confusion(true=true, predicted=taken, count=count) for (true, taken), count in most)


def log_loss_of_guess(table: JoinedTable) -> float:
    """Log-loss, in nats, of a guess that knows the classes' shares among the training and validation rows alone."""
    counts = np.bincount(np.concatenate([table.labels(split) for split in get_args(LearningSplit)]))
    return float(entropy(counts))


def wilson(accuracy: float, images: float) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy (share) on so many images (1927, JASA 22)."""
    extra = float(ndtri((1 + CONFIDENCE) / 2)) ** 2 / images
    centre, margin = accuracy + extra / 2, sqrt(extra * (accuracy * (1 - accuracy) + extra / 4))
    return max((centre - margin) / (1 + extra), 0.0), min((centre + margin) / (1 + extra), 1.0)
