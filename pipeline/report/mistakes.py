"""The pictures that the recommended contender gets wrong, and the training images that are most like each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.table.joined import JoinedTable
from features.table.table import Rows
from models.heads.head import Probabilities

FOREMOST = 24
"""The most confident mistakes, which are kept whatever they are."""

OF_A_PAIR = 8
"""Mistakes that are kept of a class taken for another."""

FEW_CLASSES, PAIRS = 20, 40
"""Up to so many classes any pair of them counts, beyond only so many of the most frequent pairs."""

MOST = 200
"""Mistakes that are kept, so that a page with their pictures can still be sent to somebody."""

ALIKE = 3


@dataclass(frozen=True, kw_only=True)
class Alike:
    """A training image, by `key`, of the class `label`."""

    key: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """An image, by `key`, of class `true` taken for `predicted` with `probability`; by number, as are the classes.

    `alike` are the training images whose features are nearest, by angle, the nearest first.
    """

    key: str
    true: int
    predicted: int
    probability: float
    alike: tuple[Alike, ...]


def find_mistakes(probabilities: Probabilities, tested: Rows, table: JoinedTable) -> tuple[Mistake, ...]:
    """Mistakes among (n, k) `probabilities` of n `tested` images, the most confident first.

    Kept are the FOREMOST of all, and OF_A_PAIR of each pair of classes (see FEW_CLASSES), in turn, MOST altogether.
    Images that are alike are training images of `table`, but for the image itself: where `tested` were tested in folds,
    `table` may have all of them as training images.
    """
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != tested.y)
    order = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")]
    pairs = MOST if probabilities.shape[1] <= FEW_CLASSES else PAIRS
    kept = order[_worth_keeping(tested.y[order], predicted[order], pairs)]
    return tuple(
        Mistake(
            key=tested.keys[row],
            true=int(tested.y[row]),
            predicted=int(predicted[row]),
            probability=float(probabilities[row, predicted[row]]),
            alike=alike,
        )
        for row, alike in zip(kept, _nearest(tested.keys[kept], tested.x[kept], table), strict=True)
    )


def _worth_keeping(true: NDArray[np.int32], predicted: NDArray[np.intp], most_pairs: int) -> NDArray[np.intp]:
    """Which of the mistakes, by place, that come the most confident first; of the most frequent pairs of classes."""
    each = pd.DataFrame({"true": true, "predicted": predicted})
    pairs = each.groupby(["true", "predicted"])
    each["place"], each["count"] = pairs.cumcount(), -pairs["true"].transform("size")
    each["rank"] = each.groupby(["count", "true", "predicted"]).ngroup()
    foremost = each.index < FOREMOST
    each.loc[foremost, "place"] = -1
    may = each[foremost | ((each["place"] < OF_A_PAIR) & (each["rank"] < most_pairs))]
    return np.sort(may.sort_values(["place", "rank"], kind="stable").index[:MOST].to_numpy(np.intp))


def _nearest(keys: NDArray[np.object_], x: NDArray[np.float32], table: JoinedTable) -> list[tuple[Alike, ...]]:
    """The ALIKE training images nearest to each of (m, d) features, a batch of rows in memory at a time."""
    wanted = _unit(x)
    near = np.full((len(x), ALIKE), -np.inf, np.float32)
    found = np.full((len(x), ALIKE), None, object)
    for rows in table.batches("train") if len(x) else ():
        cosines = np.where(keys[:, None] == rows.keys, -np.inf, wanted @ _unit(rows.x).T)
        images = np.array([Alike(key=key, label=int(label)) for key, label in zip(rows.keys, rows.y, strict=True)])
        both = np.hstack([near, cosines])
        order = np.argsort(-both, axis=1, kind="stable")[:, :ALIKE]
        near = np.take_along_axis(both, order, axis=1)
        found = np.take_along_axis(np.hstack([found, np.broadcast_to(images, cosines.shape)]), order, axis=1)
    return [tuple(images[cosines > -np.inf]) for images, cosines in zip(found, near, strict=True)]


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; rows of zeros stay."""
    unit: NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return unit
