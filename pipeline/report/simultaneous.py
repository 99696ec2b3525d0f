"""All pairs of contenders on the same test images, held against one another at once.

Whoever is best on the images was picked by them: held against each other contender at 95 %, it would seem better than
an equal one far too often. Here 95 % hold for all pairs together: of contenders that are equal, some is called worse in
at most one of twenty comparisons. What decides is the largest of all pairs' t statistics, which under equality is that
of a normal distribution with the covariance of the contenders' means (Hothorn, Bretz and Westfall 2008, Biometrical
Journal 50).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit
from scipy.stats.qmc import MultivariateNormalQMC

CONFIDENCE = 0.95

ROUNDING = 1e-12
"""What a variance is off by, as a share of the largest."""

POWER = 0.8
"""How often a difference is found that so many images are said to show."""

LEVEL = 0.955
"""What intervals are made for, so that CONFIDENCE is kept in every simulated case, with few images too."""

DRAWS = 2**13
"""Of the largest t statistic, whose 95 % quantile is then known to about 0.01."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """By how much `first` is better than `second` on the same images, and the interval that all pairs share 95 % of.

    In accuracy that is a share, −1 to 1, in log-loss nats. So many images show a difference of `shown` in four of five
    cases; it would take `needed` images to show the one that was found, None where there is none.

    >>> pair = Difference(first="linear", second="xgb", difference=0.02, low=-0.01, high=0.05, shown=0.04, needed=1500)
    >>> pair.certain
    False
    >>> pair.swapped()
    Difference(first='xgb', second='linear', difference=-0.02, low=-0.05, high=0.01, shown=0.04, needed=1500)
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    shown: float
    needed: int | None

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out zero, so that these images tell the two apart."""
        return self.low > 0 or self.high < 0

    def swapped(self) -> Difference:
        """The same seen from `second`."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
        )


def compare_all(
    names: Sequence[str],
    scores: NDArray[np.float64] | NDArray[np.bool_],
    groups: NDArray[np.intp] | None = None,
    *,
    folds: int = 0,
) -> tuple[Difference, ...]:
    """Every pair of the k named contenders, by (n, k) scores of the same images, more is better.

    Scores are whether an image is right, or its log-likelihood. Images of one of `groups` (n,), numbered from 0, may be
    alike: each group is one draw. Where images are right or wrong, each pair is taken to disagree on one image more
    either way (Bonett and Price 2012, Statistical Methods in Medical Research 21), which keeps few images honest.
    Scores may be out of so many `folds`, whose training sets overlap: what a contender would learn from others is then
    less certain than images alone show, by Nadeau and Bengio's correction (2003, Machine Learning 52).

    >>> right = np.random.default_rng(0).random((500, 3)) < (0.95, 0.94, 0.7)
    >>> [(pair.first, pair.second, pair.certain) for pair in compare_all(("linear", "mlp", "xgb"), right)]
    [('linear', 'mlp', False), ('linear', 'xgb', True), ('mlp', 'xgb', True)]
    """
    if len(names) < 2:
        return ()
    n, (first, second) = len(scores), np.triu_indices(len(names), 1)
    means, covariance, draws = moments_of(scores, groups)
    observed = means[first] - means[second]
    variances = covariance[first, first] + covariance[second, second] - 2 * covariance[first, second]
    variances[variances < ROUNDING * np.diag(covariance).max()] = 0  # the two agree on every image
    critical = _critical(covariance, variances, draws)
    centres, errors = observed, np.sqrt(variances)
    if scores.dtype == np.bool_:
        _, alone, _ = moments_of(scores, None)
        alone = alone[first, first] + alone[second, second] - 2 * alone[first, second]
        centres, errors = _intervals(observed, variances, effective_images(alone, variances, groups, n))
    errors = errors * sqrt(1 + folds / (folds - 1)) if folds else errors
    shown = (critical + ndtri(POWER)) * errors
    found = zip(first, second, observed, centres, critical * errors, shown, strict=True)
    return tuple(
        Difference(
            first=names[i],
            second=names[j],
            difference=float(difference),
            low=float(centre - margin),
            high=float(centre + margin),
            shown=float(show),
            needed=ceil(n * (show / difference) ** 2) if difference else None,
        )
        for i, j, difference, centre, margin, show in found
    )


def moments_of(
    scores: NDArray[np.float64] | NDArray[np.bool_], groups: NDArray[np.intp] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """The means (k,) of (n, k) scores, the covariance of these (k, k), and by how many draws it is known."""
    rows = np.ascontiguousarray(scores.T, np.float64)
    means = rows.mean(axis=1)
    offsets = rows - means[:, None]
    if groups is not None:
        offsets = np.array([np.bincount(groups, row) for row in offsets])
    draws = offsets.shape[1]
    return means, offsets @ offsets.T * (draws / max(draws - 1, 1) / len(scores) ** 2), draws


def effective_images(
    alone: NDArray[np.float64], variances: NDArray[np.float64], groups: NDArray[np.intp] | None, n: int
) -> NDArray[np.float64]:
    """How many images that stand alone would tell means as well as `n` do, whose `groups` (n,) may be alike.

    `alone` is what the means' variances would be without groups, `variances` what they are with them: the design effect
    is their ratio (Rao and Scott 1992, Biometrics 48). It is held between none and that of groups all alike (Kish 1965,
    Survey Sampling), which is also what is taken where no image differs.
    """
    if groups is None:
        return np.full_like(variances, n)
    least = n**2 / (np.bincount(groups) ** 2).sum()
    shares = np.divide(alone, variances, out=np.zeros_like(alone), where=variances > 0)
    worth: NDArray[np.float64] = np.clip(n * shares, least, n)
    return worth


def _intervals(
    observed: NDArray[np.float64], variances: NDArray[np.float64], n: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the intervals of differences between shares that are right are centred, and their standard errors."""
    disagree = (n * (n * variances + observed**2) + 2) / (n + 2)
    centres = observed * n / (n + 2)
    return centres, np.sqrt((disagree - centres**2) / (n + 2))


def _critical(covariance: NDArray[np.float64], variances: NDArray[np.float64], draws: int) -> float:
    """What the largest t statistic of all pairs exceeds in 1 − LEVEL of all cases where they are equal.

    It lies between what one pair alone would need and what Bonferroni asks of each.
    """
    first, second = np.triu_indices(len(covariance), 1)
    values, vectors = np.linalg.eigh(covariance)
    roots = vectors * np.sqrt(np.maximum(values, 0))
    scales = np.sqrt(variances, out=np.full(len(variances), np.inf), where=variances > 0)
    contrasts = (roots[first] - roots[second]) / scales[:, None]
    alone, each = (float(ndtri(1 - (1 - LEVEL) / 2 / count)) for count in (1, len(first)))
    if len(first) > 1:
        largest = np.abs(contrasts.astype(np.float32) @ _normal(len(covariance), DRAWS)).max(axis=0)
        at = int(LEVEL * DRAWS)
        each = float(np.clip(np.partition(largest, at)[at], alone, each))
    return float(stdtrit(max(draws - 1, 1), ndtr(each)))  # as standard errors are estimated


@cache
def _normal(dimensions: int, draws: int) -> NDArray[np.float32]:
    """Evenly spread draws of a standard normal distribution, (dimensions, draws): Sobol's sequence, scrambled."""
    drawn = MultivariateNormalQMC(np.zeros(dimensions), seed=0).random(draws)
    return np.ascontiguousarray(drawn.T, np.float32)
