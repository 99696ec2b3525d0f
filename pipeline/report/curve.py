"""Would more labels help: accuracy and log-loss by how many images were learnt from, and at twice as many.

The forecast is an inverse power law, error(n) = b·n^−c with c ≥ 0 (Cortes et al. 1994, NeurIPS 6; Viering and Loog
2022, IEEE TPAMI 45: well-behaved learners), a line through the logarithms. It goes no further than twice the images: so
near, an error that stays, a + b·n^−c, cannot be told from a smaller c, and forecasts that allow for it are worse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from pipeline.report.simultaneous import CONFIDENCE, moments_of

LEAST_SIZES = 4
"""With fewer sizes there is no curve."""

BOTH_ENDS = np.array([-1, 1])

LEFT_OUT = 2
"""Up to so many of the smallest sizes are left out, to see how much the forecast depends on them."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """What came of so many `images` to learn from: the mean of several draws of them, and a 95 % band of it.

    Accuracy is a share, log-loss is in nats. The band is for other images to learn from and to test on.
    """

    images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float


@dataclass(frozen=True, kw_only=True)
class Gain:
    """By how much twice the images would be better on the same test images, and a 95 % band: more is better in both."""

    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float


@dataclass(frozen=True, kw_only=True)
class LabelCurve:
    """A head's `points`, fewest images first, the last of all images that may be learnt from.

    `twice` is what is to be expected of twice the images, `gain` by how much that is better than the last point. Where
    there are too few images to say there are neither these nor points.
    """

    points: tuple[Point, ...]
    twice: Point | None
    gain: Gain | None


NO_CURVE = LabelCurve(points=(), twice=None, gain=None)
"""Of images that are too few for it."""

Errors = NDArray[np.bool_] | NDArray[np.float32]
"""(draws, n): which of n test images were wrong, or the log-loss of each."""

Band = tuple[float, float, float]
"""A value, and the ends of its band."""

Curves = Mapping[str, LabelCurve]
"""Label curves by the head's name."""


@dataclass(frozen=True, kw_only=True)
class AtSize:
    """What came of some draws of so many `images`, on n test images; `learnt` of them were learnt from at last.

    `wrong` (draws, n) says which images were wrong, `loss` (draws, n) has each one's log-loss in nats.
    """

    images: int
    learnt: int
    wrong: NDArray[np.bool_]
    loss: NDArray[np.float32]


def label_curve(tested: Sequence[AtSize], twice: int, groups: NDArray[np.intp]) -> LabelCurve:
    """The curve through LEAST_SIZES or more, the smallest first; the last is of all images, and so of one draw.

    Of twice the images `twice` will be learnt from. Test images of one of `groups` (n,), numbered from 0, are alike.
    """
    images, learnt = [each.images for each in tested], [each.learnt for each in tested]
    wrong = _Errors(learnt, [each.wrong for each in tested], groups)
    loss = _Errors(learnt, [each.loss for each in tested], groups)
    points = tuple(_point(count, wrong.band(size), loss.band(size)) for size, count in enumerate(images))
    (of_wrong, less_wrong), (of_loss, less_loss) = wrong.at(twice), loss.at(twice)
    gain = Gain(**_named("accuracy", less_wrong), **_named("log_loss", less_loss))
    return LabelCurve(points=points, twice=_point(2 * images[-1], of_wrong, of_loss), gain=gain)


def worth(curve: LabelCurve, classes: int) -> str:
    """What twice the images of so many classes would be worth, in a sentence.

    >>> worth(NO_CURVE, classes=10)
    'There are too few images to say what more of them would bring.'
    """
    if curve.gain is None:
        return "There are too few images to say what more of them would bring."
    gain = curve.gain
    more = f"Twice the images ({curve.points[-1].images / classes:,.0f} more a class)"
    points, low, high = (100 * share for share in (gain.accuracy, gain.accuracy_low, gain.accuracy_high))
    band = f"{points:.1f} points of accuracy ({low:.1f} to {high:.1f})".replace("-", "−")
    if low <= 0:
        return f"{more} may be worth no more than luck: about {band}."
    return f"{more} would be worth about {band}."


class _Errors:
    """The mean errors of some sizes, and how uncertain their logarithms are.

    `errors` are (draws, n) for each number of images that were `learnt` from; half an error more keeps their sum from
    zero. Draws of a size differ by about the same share of their mean whatever the size, and by less where they have
    most images in common.
    """

    def __init__(self, learnt: Sequence[int], errors: Sequence[Errors], groups: NDArray[np.intp]) -> None:
        of_images = np.array([each.mean(axis=0, dtype=float) for each in errors]).T
        self._half = half = 0.5 / len(of_images)
        self._sizes = np.log(learnt)
        self._means: NDArray[np.float64] = of_images.mean(axis=0)
        self._smooth = (self._means + half) / (1 + 2 * half)
        _, covariance, _ = moments_of(of_images, groups)
        self._least = (half / self._smooth) ** 2
        self._by_images = covariance / np.outer(self._smooth, self._smooth) + np.diag(self._least)
        of_draws = np.array([each.mean(axis=1, dtype=float).var(ddof=1) for each in errors[:-1]])
        shares, apart = of_draws / self._smooth[:-1] ** 2, 1 - np.array(learnt[:-1]) / learnt[-1]
        self._one_draw = float(np.median(shares / apart))
        of_one = np.append(np.maximum(shares, self._one_draw * apart), self._one_draw)
        self._by_draws = of_one / [len(each) for each in errors]
        self._width = float(t.ppf((1 + CONFIDENCE) / 2, sum(len(each) - 1 for each in errors)))

    def band(self, size: int) -> Band:
        """The mean error of a size."""
        spread = np.sqrt(self._by_images[size, size] + self._by_draws[size])
        low, high = self._errors(np.log(self._smooth[size]) + self._width * spread * BOTH_ENDS)
        return float(self._means[size]), low, high

    def at(self, learnt: int) -> tuple[Band, Band]:
        """The error with so many images to learn from, and how much less it is on the same test images."""
        change, spread = self._change(float(np.log(learnt) - self._sizes[-1]))
        middle = np.log(self._smooth[-1]) + change
        (error,), now = self._errors(np.array([middle])), float(self._means[-1])
        of_others = np.hypot(spread, np.sqrt(self._by_images[-1, -1]))
        low, high = self._errors(middle + self._width * of_others * BOTH_ENDS)
        least, most = self._errors(middle + self._width * spread * BOTH_ENDS)
        return (error, low, high), (now - error, now - most, now - least)

    def _errors(self, logs: NDArray[np.float64]) -> list[float]:
        """The errors of which these are the logarithms, without what keeps them from zero."""
        return [float(error) for error in np.maximum(np.exp(logs) * (1 + 2 * self._half) - self._half, 0)]

    def _change(self, more: float) -> tuple[float, float]:
        """By how much the error's logarithm changes as that of the images grows by `more`, and its standard error.

        One new fit is made. Where of twice the images less is learnt from, some only steer, which others chose before:
        the luck of that choice is taken to be as much again.
        """
        logs, covariance = np.log(self._smooth), self._by_images + np.diag(self._by_draws)
        slope, *others = (self._slope(left_out) for left_out in range(LEFT_OUT + 1))
        by_sizes = np.mean([((other - slope) @ logs) ** 2 for other in others])
        luck = self._one_draw if np.isclose(more, np.log(2)) else 2 * self._one_draw
        variance = more**2 * (slope @ covariance @ slope + by_sizes) + luck
        return more * min(float(slope @ logs), 0.0), float(np.sqrt(variance))

    def _slope(self, left_out: int) -> NDArray[np.float64]:
        """(s,) What the logarithm of each size counts for in the slope of the line, without the smallest sizes.

        A size weighs by what it alone is uncertain by: test images that are hard are hard for all.
        """
        alone = np.diag(self._by_images) + self._by_images[-1, -1] - 2 * self._by_images[-1]
        weights = 1 / (self._by_draws + alone / 2 + self._least)
        weights[:left_out] = 0
        from_mean = self._sizes - np.average(self._sizes, weights=weights)
        slope: NDArray[np.float64] = weights * from_mean / (weights @ from_mean**2)
        return slope


def _point(images: int, wrong: Band, loss: Band) -> Point:
    value, low, high = wrong
    right = 1 - value, 1 - min(high, 1.0), 1 - low
    return Point(images=images, **_named("accuracy", right), **_named("log_loss", loss))


def _named(name: str, band: Band) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), band, strict=True))
