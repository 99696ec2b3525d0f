"""How good a head is and how sure we are of it, and the same for the difference between two heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm
from sklearn.metrics import f1_score, log_loss

from models.heads.head import Probabilities

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracy with its 95 % Wilson interval (shares, 0 to 1), macro F1, and log-loss in nats."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    log_loss: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Accuracy of `first` less that of `second` on the same images, with its 95 % interval (shares, -1 to 1).

    >>> pair = Difference(first="linear", second="xgb", difference=0.02, low=-0.01, high=0.05)
    >>> pair.certain
    False
    >>> pair.swapped()
    Difference(first='xgb', second='linear', difference=-0.02, low=-0.05, high=0.01)
    """

    first: str
    second: str
    difference: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero, so that these images tell the two apart."""
        return self.low > 0 or self.high < 0

    def swapped(self) -> Difference:
        """The same seen from `second`."""
        return Difference(
            first=self.second, second=self.first, difference=-self.difference, low=-self.high, high=-self.low
        )


def score(probabilities: Probabilities, y: NDArray[np.int32]) -> Scores:
    """Score (n, k) probabilities against (n,) labels that number their columns; n is 1 or more.

    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]], np.float32)
    >>> scores = score(probabilities, np.array([0, 0, 1, 1], np.int32))
    >>> print(f"{scores.accuracy:.2f}, between {scores.accuracy_low:.2f} and {scores.accuracy_high:.2f}")
    0.75, between 0.30 and 0.95
    """
    predicted = probabilities.argmax(axis=1)
    accuracy = float(np.mean(predicted == y))
    low, high = wilson(accuracy, len(y))
    columns = np.arange(probabilities.shape[1])
    return Scores(
        accuracy=accuracy,
        accuracy_low=low,
        accuracy_high=high,
        macro_f1=float(f1_score(y, predicted, average="macro", labels=np.union1d(y, predicted), zero_division=0)),
        log_loss=float(log_loss(y, probabilities, labels=columns)),
    )


def wilson(accuracy: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy (share) on so many images."""
    interval = binomtest(round(accuracy * images), images).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def paired_difference(first: str, second: str, *, right: Mapping[str, NDArray[np.bool_]]) -> Difference:
    """Compare two heads by which images each got right.

    The interval is Wald's with one image added to either kind of disagreement (Bonett and Price 2012, Statistical
    Methods in Medical Research 21), which keeps its coverage on few images and where two heads never disagree.

    >>> right = {"linear": np.arange(100) < 90, "xgb": np.arange(100) < 84}
    >>> found = paired_difference("linear", "xgb", right=right)
    >>> print(f"{found.difference:.2f}, between {found.low:.2f} and {found.high:.2f}")
    0.06, between 0.01 and 0.11
    """
    n = len(right[first])
    only_first = int((right[first] & ~right[second]).sum())
    only_second = int((~right[first] & right[second]).sum())
    p, q = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    margin = float(norm.ppf((1 + CONFIDENCE) / 2)) * sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Difference(
        first=first,
        second=second,
        difference=(only_first - only_second) / n,
        low=max(-1.0, p - q - margin),
        high=min(1.0, p - q + margin),
    )
