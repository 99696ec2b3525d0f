"""Simulated comparisons of contenders whose skill is known, and what is counted of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from models.heads.head import Probabilities
from pipeline.report.simultaneous import LEVEL, POWER, Difference, compare_all
from pipeline.report.statistics import log_likelihoods, wilson

CONTENDERS = (2, 4, 5, 8)

ACCURACY, GAP = 0.9, 0.04
"""How many images each is right on, and by how much one is worse where power is measured, with GAP_IMAGES or more."""
GAP_IMAGES = 100

BY_ACCURACY, BY_LOG_LOSS = "accuracy", "log-loss"

FOLDS, LEARNERS = 5, 4

CENTRES = np.array([[0.0, 0.0, 0.0, 0.0], [2.4, 0.0, 0.0, 0.0]])
"""Of two classes, in the numbers that a learner sees of an image; about them lies noise of variance 1."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Contenders that find the same images hard; `gap` is by how much the last one is worse, in accuracy."""

    measure: str
    contenders: int
    images: int
    correlation: float
    gap: float = 0.0
    folds: int = 0


@dataclass(frozen=True, kw_only=True)
class Job:
    """Runs on so many images, out of `folds` where there are any."""

    images: int
    correlation: float
    folds: int
    runs: int
    seed: tuple[int, ...]


Counted = dict[str, float]
Counts = dict[Case, Counted]
"""`runs`, those in which a contender was ruled out, `ours`, and in which Bonferroni's intervals do so; the sum of what
was said to be shown; of `intervals` of accuracies out of folds how many `covered` them."""


def simulate(job: Job) -> Counts:
    """Do the runs of a job on one processor."""
    random, counts = np.random.default_rng(job.seed), no_counts()
    limits: Any = threadpool_limits  # which has no types
    with limits(1):
        for _ in range(job.runs):
            (_run_folds if job.folds else _run)(job, random, counts)
    return dict(counts)


def no_counts() -> Counts:
    """Nothing of any case."""
    return defaultdict(dict)


def count(counted: Counted, more: Mapping[str, float]) -> None:
    """Add `more` to what was counted of a case."""
    for name, number in more.items():
        counted[name] = counted.get(name, 0) + number


def _run(job: Job, random: np.random.Generator, counts: Counts) -> None:
    """Every number of contenders on one draw of images, by either measure, and with the last one worse."""
    own = random.standard_normal((job.images, max(CONTENDERS)), np.float32)
    common = random.standard_normal((job.images, 1), np.float32)
    ease = ndtri(ACCURACY) + np.sqrt(job.correlation) * common + np.sqrt(1 - job.correlation) * own
    right, likely = ease > 0, -np.logaddexp(0, -2 * ease)
    worse = ease > ndtri(ACCURACY) - ndtri(ACCURACY - GAP)
    for k in CONTENDERS:
        _count(job, BY_ACCURACY, right[:, :k], counts)
        _count(job, BY_LOG_LOSS, likely[:, :k], counts)
        if job.images >= GAP_IMAGES:
            _count(job, BY_ACCURACY, np.column_stack([right[:, : k - 1], worse[:, k - 1]]), counts, gap=GAP)


def _run_folds(job: Job, random: np.random.Generator, counts: Counts) -> None:
    """Discriminants that each see another noisy view of the same images, and are of equal skill as all views are alike.

    What the accuracy's interval is to hold is the mean accuracy of the folds' classifiers (Bayle, Bayle, Janson and
    Mackey 2020, NeurIPS), which is known for these classes.
    """
    y = random.integers(2, size=job.images).astype(np.int32)
    common = CENTRES[y] + np.sqrt(job.correlation) * random.normal(size=(job.images, CENTRES.shape[1]))
    views = common + np.sqrt(1 - job.correlation) * random.normal(size=(LEARNERS, *common.shape))
    told = [_out_of_folds(view, y, job.folds) for view in views]
    right = np.array([shares.argmax(axis=1) == y for shares, _ in told]).T
    _count(job, BY_LOG_LOSS, np.array([log_likelihoods(shares, y) for shares, _ in told]).T, counts)
    counted = _count(job, BY_ACCURACY, right, counts)
    for share, (_, accuracy) in zip(right.mean(axis=0), told, strict=True):
        low, high = wilson(share, job.images)
        count(counted, {"intervals": 1, "covered": low <= accuracy <= high})


def _out_of_folds(x: NDArray[np.float64], y: NDArray[np.int32], folds: int) -> tuple[Probabilities, float]:
    """(n, 2) probabilities of those who learnt from the other folds, and their mean accuracy on images without end."""
    shares, accuracies = np.zeros((len(y), 2), np.float32), []
    for train, test in StratifiedKFold(folds).split(x, y):
        learner = LinearDiscriminantAnalysis(solver="lsqr").fit(x[train], y[train])
        shares[test] = learner.predict_proba(x[test])
        distances = (CENTRES @ learner.coef_[0] + learner.intercept_[0]) / np.linalg.norm(learner.coef_[0])
        accuracies.append(np.mean(ndtr(distances * (-1, 1))))
    return shares, float(np.mean(accuracies))


def _count(
    job: Job, measure: str, scores: NDArray[np.float64] | NDArray[np.bool_], counts: Counts, *, gap: float = 0.0
) -> Counted:
    """Compare contenders and count what comes of it, where one is worse of its pairs alone."""
    names = [str(number) for number in range(scores.shape[1])]
    found = compare_all(names, scores, folds=job.folds)
    judged = [pair for pair in found if not gap or pair.second == names[-1]]
    critical = float(stdtrit(job.images - 1, 1 - (1 - LEVEL) / 2 / len(found)))
    case = Case(
        measure=measure,
        contenders=len(names),
        images=job.images,
        correlation=job.correlation,
        gap=gap,
        folds=job.folds,
    )
    of_run = {
        "runs": 1,
        "ours": any(pair.certain for pair in judged),
        "bonferroni": any(_certain_at(critical, pair) for pair in judged),
        "shown": sum(pair.shown for pair in judged) / len(judged),
    }
    count(counts[case], of_run)
    return counts[case]


def _certain_at(critical: float, pair: Difference) -> bool:
    """Whether an interval of so many of the pair's standard errors leaves out zero."""
    error = (pair.shown - (pair.high - pair.low) / 2) / float(ndtri(POWER))
    return abs(pair.high + pair.low) / 2 > error * critical * (1 + 1e-9)  # they may be ours
