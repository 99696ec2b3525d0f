"""Would more labels help: accuracy and log-loss by how many images were learnt from, and at twice as many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Point:
    """What came of so many `images` to learn from: the mean of several draws of them, and a 95 % band of it."""

    images: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    log_loss: float
    log_loss_low: float
    log_loss_high: float


@dataclass(frozen=True, kw_only=True)
class LabelCurve:
    """A head's `points`, fewest images first, and what is to be expected of twice the images, None where unknown."""

    points: tuple[Point, ...]
    twice: Point | None


Curves = Mapping[str, LabelCurve]
"""Label curves by the head's name."""
