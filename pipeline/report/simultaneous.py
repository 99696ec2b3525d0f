"""All pairs of contenders on the same test images, held against one another at once.

Whoever is best on the images was picked by them: held against each other contender at 95 %, it would seem better than
an equal one far too often. Here 95 % hold for all pairs together: of contenders that are equal, some is called worse in
one of twenty comparisons. That is the largest of all pairs' t statistics, which under equality is that of a normal
distribution with the covariance of the contenders' means (Hothorn, Bretz and Westfall 2008, Biometrical Journal 50).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats.qmc import MultivariateNormalQMC

CONFIDENCE = 0.95

POWER = 0.8
"""How often a difference is found that so many images are said to show."""

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
    names: Sequence[str], scores: NDArray[np.float64] | NDArray[np.bool_], groups: NDArray[np.intp] | None = None
) -> tuple[Difference, ...]:
    """Every pair of the k named contenders, by (n, k) scores of the same images, more is better.

    Scores are whether an image is right, or its log-likelihood. Images of one of `groups` (n,), numbered from 0, may be
    alike: each group is one draw. Where images are right or wrong, each pair is taken to disagree on one image more
    either way (Bonett and Price 2012, Statistical Methods in Medical Research 21), which keeps few images honest.

    >>> right = np.random.default_rng(0).random((500, 3)) < (0.95, 0.94, 0.7)
    >>> [(pair.first, pair.second, pair.certain) for pair in compare_all(("linear", "mlp", "xgb"), right)]
    [('linear', 'mlp', False), ('linear', 'xgb', True), ('mlp', 'xgb', True)]
    """
    n, means, offsets = len(scores), scores.mean(axis=0), offsets_of(scores, groups)
    pairs = list(combinations(range(len(names)), 2))
    critical = _critical(offsets, pairs)
    found = []
    for i, j in pairs:
        observed = float(means[i] - means[j])
        centre, error = _centre(observed, offsets[:, i] - offsets[:, j], n, counted=scores.dtype == np.bool_)
        margin = critical * error
        shown = (critical + float(norm.ppf(POWER))) * error
        found.append(
            Difference(
                first=names[i],
                second=names[j],
                difference=observed,
                low=centre - margin,
                high=centre + margin,
                shown=shown,
                needed=ceil(n * (shown / observed) ** 2) if observed else None,
            )
        )
    return tuple(found)


def offsets_of(scores: NDArray[np.float64] | NDArray[np.bool_], groups: NDArray[np.intp] | None) -> NDArray[np.float64]:
    """(g, k): what each draw adds to the means' distance from their expectation, times n; squares sum to variances."""
    offsets = scores - scores.mean(axis=0)
    if groups is not None:
        sums = np.zeros((int(groups.max()) + 1, scores.shape[1]))
        np.add.at(sums, groups, offsets)
        offsets = sums
    scaled: NDArray[np.float64] = offsets * np.sqrt(len(offsets) / max(len(offsets) - 1, 1))
    return scaled


def _centre(observed: float, offsets: NDArray[np.float64], n: int, *, counted: bool) -> tuple[float, float]:
    """Where the interval of a difference is centred, and its standard error."""
    variance = float(offsets @ offsets) / n**2
    if not counted:
        return observed, float(np.sqrt(variance))
    disagree = (n * (n * variance + observed**2) + 2) / (n + 2)
    centre = observed * n / (n + 2)
    return centre, float(np.sqrt((disagree - centre**2) / (n + 2)))


def _critical(offsets: NDArray[np.float64], pairs: Sequence[tuple[int, int]]) -> float:
    """What the largest t statistic of all pairs exceeds in one of twenty cases where all are equal.

    It lies between what one pair alone would need and what Bonferroni asks of each.
    """
    values, vectors = np.linalg.eigh(offsets.T @ offsets)
    drawn = _normal(len(values), DRAWS) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    largest = np.zeros(len(drawn))
    for i, j in pairs:
        scale = float(np.linalg.norm(offsets[:, i] - offsets[:, j]))
        if scale > 0:  # else the two agree on every image
            np.maximum(largest, np.abs(drawn[:, i] - drawn[:, j]) / scale, out=largest)
    alone, each = (float(norm.ppf(1 - (1 - CONFIDENCE) / 2 / count)) for count in (1, max(1, len(pairs))))
    return float(np.clip(np.quantile(largest, CONFIDENCE), alone, each))


@cache
def _normal(dimensions: int, draws: int) -> NDArray[np.float64]:
    """Evenly spread draws of a standard normal distribution, (draws, dimensions): Sobol's sequence, scrambled."""
    drawn: NDArray[np.float64] = MultivariateNormalQMC(np.zeros(dimensions), seed=0).random(draws)
    return drawn
