"""Whether probabilities can be used: how near they are to what is right, and what they allow one to leave open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Images whose highest probability is alike: its mean, the share that is right, and how many images they are."""

    confidence: float
    accuracy: float
    images: int


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What it takes to be right in `wanted` (share) of what is answered.

    Images are answered whose highest probability is `threshold` or more, the share `answered` of them, of which
    `accuracy` were right. None where no threshold reaches it.
    """

    wanted: float
    threshold: float | None
    answered: float
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Conformal:
    """Sets of classes that hold the right one in `wanted` (share) of the images, as measured on images held back.

    `coverage` is the share that did, `classes` how many classes a set has on average.
    """

    wanted: float
    coverage: float
    classes: float


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How good probabilities are.

    `error` is the expected calibration error with its 95 % interval, `brier` the Brier score; `bins` make the
    reliability curve, least confident first.
    """

    error: float
    error_low: float
    error_high: float
    brier: float
    bins: tuple[Bin, ...]
    answered: tuple[Answered, ...]
    conformal: Conformal | None
