"""Images that look unlike the others: blank, dark, blurred, of another size or shape, or odd by their features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.errors import counted
from pipeline.inspection.finding import Facts, Found

BLANK = 0.02
"""Contrast below which there is nothing to see: five of 255 grey levels."""

DARK = 0.15
"""Brightness and two standard deviations, below which nearly all of an image is dark."""

UNUSUAL = 3.5
"""Modified z-scores from which on a value is an outlier (Iglewicz and Hoaglin 1993)."""

TIMES_THE_SIZE, TIMES_THE_SHAPE, TIMES_AS_BLURRED = 4.0, 2.0, 2.5
"""How many times the usual size, aspect ratio or blur an outlier has at least: where all are alike, little is one."""


def check_pixels(facts: Facts) -> Iterator[Found]:
    """Blank, dark and blurred images, and those of unusual size and shape."""
    told = facts.images
    contrast, brightness = (told[name].to_numpy(np.float64) for name in ("contrast", "brightness"))
    width, height, sharpness = (told[name].to_numpy(np.float64) for name in ("width", "height", "sharpness"))
    blank = contrast < BLANK
    yield from _found("blank", "show nothing but one colour", blank, contrast)
    reach = brightness + 2 * contrast
    yield from _found("dark", "are nearly black throughout", ~blank & (reach < DARK), reach)
    blur = -np.log(np.maximum(sharpness, 1e-6))
    more, unlike = _outliers(blur, TIMES_AS_BLURRED, ~blank)
    yield from _found("blurred", "are far less sharp than the others", unlike & (more > 0), sharpness)
    size, unlike = _outliers(np.log(width * height), TIMES_THE_SIZE)
    yield from _found("size", "are far larger or smaller than the others", unlike, -np.abs(size))
    shape, unlike = _outliers(np.log(width / height), TIMES_THE_SHAPE)
    yield from _found("shape", "are far wider or narrower than the others", unlike, -np.abs(shape))


def check_odd(facts: Facts) -> Iterator[Found]:
    """Images that share least with the others, beyond the upper fence of a box plot (Tukey 1977), the oddest first."""
    odd = facts.images["odd"].to_numpy(np.float64)
    low, high = np.quantile(odd, [0.25, 0.75])
    yield from _found(
        "odd", "are unlike all others: not of these classes, or rare", odd > high + 1.5 * (high - low), -odd
    )


def _found(code: str, what: str, has_it: NDArray[np.bool_], order: NDArray[np.float64]) -> Iterator[Found]:
    """The images that have it, those with the lowest of `order` first."""
    rows = np.flatnonzero(has_it)
    if len(rows):
        rows = rows[np.argsort(order[rows], kind="stable")]
        said = what if len(rows) > 1 else what.replace("are ", "is ").replace("show ", "shows ")
        yield Found(code=code, sentence=f"{counted(len(rows), 'image')} {said}", rows=rows, scores=order[rows])


def _outliers(
    values: NDArray[np.float64], times: float, among: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Modified z-scores of logarithms (n,), and which are outliers by these and by so many `times` the median."""
    usual = values if among is None else values[among]
    if not len(usual):
        return np.zeros_like(values), np.zeros(len(values), bool)
    away = values - np.median(usual)
    spread = 1.4826 * np.median(np.abs(usual - np.median(usual)))
    score = away / max(spread, 1e-9)
    unlike = (np.abs(score) > UNUSUAL) & (np.abs(away) > np.log(times))
    return score, unlike if among is None else unlike & among
