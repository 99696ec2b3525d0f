"""Whether probabilities can be used: how near they are to what is right, and what they allow one to leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from models.heads.head import Probabilities
from pipeline.report.simultaneous import CONFIDENCE

BINS = 10
BIN_IMAGES = 15
"""A bin of the reliability curve has about as many images at least, so that few images have fewer bins."""

WANTED = (0.95, 0.99)
"""Accuracies (shares) for which it is said what can be answered."""

COVERAGE = 0.9

RESAMPLES, ERRORS = 1000, 200
HALVINGS = 10

RANKS, PENALTY = 5, 0.01
"""Each class of a conformal set after so many costs so much more, so that sets of many classes stay small."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Images whose highest probability is alike: its mean, the share that is right, and how many images they are."""

    confidence: float
    accuracy: float
    images: int


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What it takes to be right in `wanted` (share) of what is answered.

    Images are answered whose highest probability is `threshold` or more: the share `answered` of them, of which
    `accuracy` were right, and of new ones at least `reached`, 95 % sure. Where no threshold reaches what is wanted,
    `threshold` and `accuracy` are None, `answered` is 0 and `reached` the most that any threshold does.
    """

    wanted: float
    threshold: float | None
    answered: float
    accuracy: float | None
    reached: float


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """Sets of classes that hold the right one in `wanted` (share) of the images, as measured on images held back.

    `coverage` is the share that did, `classes` how many classes a set has on average: less than one where a classifier
    is right more often than is wanted, which then leaves some sets empty.
    """

    wanted: float
    coverage: float
    classes: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How good probabilities are.

    `error` is the expected calibration error with its 95 % interval, `brier` the Brier score, 0 to 2; `bins` make the
    reliability curve, least confident first. `conformal` is None where there are too few images to tell.
    """

    error: float
    error_low: float
    error_high: float
    brier: float
    bins: tuple[Bin, ...]
    answered: tuple[Answered, ...]
    conformal: Conformal | None


def reliability(probabilities: Probabilities, y: NDArray[np.int32]) -> Reliability:
    """How far (n, k) probabilities can be trusted, by n labels (n,) of images that had no part in them.

    >>> random = np.random.default_rng(0)
    >>> sure = random.uniform(0.5, 1, 4000)
    >>> found = reliability(np.column_stack([sure, 1 - sure]), np.array(random.random(4000) > sure, np.int32))
    >>> found.error < 0.02, found.answered[0].reached >= 0.95, round(found.conformal.coverage, 1)
    (True, True, 0.9)
    """
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == y
    bins = np.array_split(np.argsort(confidence, kind="stable"), max(1, min(BINS, len(y) // BIN_IMAGES)))
    curve = tuple(
        Bin(confidence=float(confidence[each].mean()), accuracy=float(right[each].mean()), images=len(each))
        for each in bins
    )
    error, low, high = _calibration_error(curve)
    squares = np.square(probabilities, dtype=np.float64).sum(axis=1) - 2 * probabilities[np.arange(len(y)), y] + 1
    return Reliability(
        error=error,
        error_low=low,
        error_high=high,
        brier=float(squares.mean()),
        bins=curve,
        answered=tuple(answer(probabilities, y, wanted) for wanted in WANTED),
        conformal=conformal(probabilities, y),
    )


def answer(probabilities: Probabilities, y: NDArray[np.int32], wanted: float) -> Answered:
    """The lowest threshold on the highest probability that is known to give the accuracy `wanted` (share).

    It is chosen on these very images, of which the accuracy above it would flatter. So what has to reach `wanted` is
    not that accuracy but its lower 95 % bound (Clopper and Pearson 1934; Geifman and El-Yaniv 2017, NeurIPS, choose so
    as well): simulated, new images fall short of it in one of twenty cases. 99 % thus take 299 images, all right.

    >>> sure = np.linspace(0.5, 1, 1000)
    >>> found = answer(np.column_stack([sure, 1 - sure]), np.array(sure < 0.6, np.int32), 0.95)
    >>> print(f"{found.answered:.0%} at {found.threshold:.2f}, {found.accuracy:.1%} right, {found.reached:.1%} or more")
    83% at 0.59, 96.4% right, 95.1% or more
    """
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum((probabilities.argmax(axis=1) == y)[order])
    last = np.flatnonzero(np.append(np.diff(confidence[order]) < 0, True))  # images alike are answered together or not
    right, answered = right[last], last + 1
    bounds = np.where(right > 0, betaincinv(np.maximum(right, 1), answered - right + 1, 1 - CONFIDENCE), 0)
    enough = np.flatnonzero(bounds >= wanted)
    if not len(enough):
        return Answered(wanted=wanted, threshold=None, answered=0, accuracy=None, reached=float(bounds.max()))
    at = enough[-1]
    return Answered(
        wanted=wanted,
        threshold=float(confidence[order[last[at]]]),
        answered=float(answered[at] / len(y)),
        accuracy=float(right[at] / answered[at]),
        reached=float(bounds[at]),
    )


def conformal(probabilities: Probabilities, y: NDArray[np.int32], *, seed: int = 0) -> Conformal | None:
    """Sets that are made by one half of the images and measured on the other, and the other way round, many times.

    Randomised adaptive sets (Romano, Sesia and Candès 2020, NeurIPS), with the penalty of Angelopoulos, Bates, Malik
    and Jordan 2021, ICLR, on classes after the fifth. They cover as often as is wanted whatever the probabilities are
    worth; better ones make them smaller. (MAPIE wants an estimator and its features, not probabilities.)
    """
    random, n = np.random.default_rng(seed), len(y)
    if ceil((n // 2 + 1) * COVERAGE) > n // 2:
        return None
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sorted_ = np.take_along_axis(probabilities, order, axis=1).astype(np.float64)
    beyond = PENALTY * np.maximum(np.arange(1, sorted_.shape[1] + 1) - RANKS, 0)
    costs = np.cumsum(sorted_, axis=1) - random.random((n, 1)) * sorted_ + beyond  # each rank's, rising
    cost = costs[order == y[:, None]]  # of the right class
    covered, classes = [], []
    for _ in range(HALVINGS):
        dealt = random.permutation(n)
        for held, other in ((dealt[: n // 2], dealt[n // 2 :]), (dealt[n // 2 :], dealt[: n // 2])):
            rank = ceil((len(held) + 1) * COVERAGE)
            limit = np.partition(cost[held], rank - 1)[rank - 1]
            covered.append(np.mean(cost[other] <= limit))
            classes.append(np.mean((costs[other] <= limit).sum(axis=1)))
    return Conformal(wanted=COVERAGE, coverage=float(np.mean(covered)), classes=float(np.mean(classes)))


def _calibration_error(bins: Sequence[Bin]) -> tuple[float, float, float]:
    """The expected calibration error of the likeliest class (Naeini, Cooper and Hauskrecht 2015, AAAI), its interval.

    Chance alone keeps bins off the diagonal, few images more so. So bins are drawn by a parametric bootstrap about
    errors of every size, as these bins have them, and it is told which error gives as much as is seen in the middle of
    the draws; those that seldom give so little or so much end the interval. Without an error it is 0 in half the cases.
    """
    images = np.array([each.images for each in bins])
    gaps = np.array([each.accuracy - each.confidence for each in bins])
    shares = np.array([(each.accuracy * each.images + 2 * each.confidence) / (each.images + 2) for each in bins])
    weights, noise = images / images.sum(), np.sqrt(np.maximum(shares * (1 - shares), 0) / images)
    seen = float(weights @ np.abs(gaps))
    errors = np.linspace(0, seen + 4 * float(weights @ noise), ERRORS)
    drawn = np.random.default_rng(0).normal(size=(RESAMPLES, len(bins))) * noise
    direction = gaps / seen if seen > 0 else np.ones(len(bins))
    given = np.array([np.abs(direction * error + drawn) @ weights for error in errors])
    levels = np.quantile(given, [(1 + CONFIDENCE) / 2, 0.5, (1 - CONFIDENCE) / 2], axis=1)
    low, error, high = (float(np.interp(seen, np.maximum.accumulate(level), errors)) for level in levels)
    return error, low, max(high, seen)
