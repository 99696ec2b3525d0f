"""What can be told without looking: classes given away by an image's size, its file's, or its mean colour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from pipeline.inspection.classes import NOTHING
from pipeline.inspection.finding import Facts, Found

FOLDS = 5

MOST_IMAGES = 20_000
"""Images that the probe learns from and is judged on."""

MORE = 0.1
"""By how much it must be right more often than the largest class is common."""

GIVEN_AWAY = 0.9
"""The precision and recall from which on a class is said to be given away."""

CLUES = {
    "size": ("width", "height", "aspect"),
    "file size": ("bytes", "bytes a pixel"),
    "mean colour": ("red", "green", "blue", "brightness", "contrast"),
}


def check_shortcuts(facts: Facts, seed: int) -> Iterator[Found]:
    """What a linear probe on an image's size, file size and mean colour alone gets right, where that is much."""
    some = np.random.default_rng(seed).permutation(len(facts.images))[:MOST_IMAGES]
    labels, clues, families = facts.labels[some], _clues(facts.images.iloc[some]), facts.families[some]
    guess = np.bincount(labels).max() / len(labels)
    if min(_families_of(labels, families)) < FOLDS:
        return
    told = _probe(clues, labels, families)
    right = float((told == labels).mean())
    if right < guess + MORE:
        return
    alone = {
        name: float((_probe(clues[list(columns)], labels, families) == labels).mean())
        for name, columns in CLUES.items()
    }
    best = max(alone, key=lambda name: alone[name])
    given = "".join(f"; they give {facts.classes[label]} away" for label in _given_away(told, labels))
    yield Found(
        code="shortcut",
        sentence=f"size, file size and mean colour alone tell {right:.0%} right ({best} alone {alone[best]:.0%}), "
        f"always the largest class {guess:.0%}{given}: a classifier may learn these instead of what is shown",
        rows=NOTHING,
        scores=NOTHING.astype(np.float64),
    )


def _families_of(labels: NDArray[np.int32], families: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of each class, how many folds may have one of its images."""
    pairs = np.unique(np.column_stack([labels, families]), axis=0)
    return np.unique(pairs[:, 0], return_counts=True)[1]


def _clues(images: pd.DataFrame) -> pd.DataFrame:
    pixels = images["width"] * images["height"]
    more = {"aspect": images["width"] / images["height"], "bytes a pixel": images["bytes"] / pixels}
    return images.assign(**more)[[name for names in CLUES.values() for name in names]]


def _probe(clues: pd.DataFrame, labels: NDArray[np.int32], families: NDArray[np.intp]) -> NDArray[np.int32]:
    """What logistic regression on the clues' ranks takes each image for that it has not seen."""
    probe = make_pipeline(QuantileTransformer(output_distribution="normal", n_quantiles=100), LogisticRegression())
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    said: NDArray[np.int32] = cross_val_predict(probe, clues.to_numpy(np.float64), labels, groups=families, cv=folds)
    return said


def _given_away(told: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The classes that are nearly all found, and nearly nothing else with them."""
    classes: NDArray[np.int32] = np.unique(labels)
    both = np.array([((told == label) & (labels == label)).sum() for label in classes])
    recall = both / np.array([(labels == label).sum() for label in classes])
    precision = both / np.maximum([(told == label).sum() for label in classes], 1)
    given: NDArray[np.int32] = classes[(recall >= GIVEN_AWAY) & (precision >= GIVEN_AWAY)]
    return given
