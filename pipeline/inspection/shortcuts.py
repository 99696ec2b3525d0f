"""What can be told without looking: classes given away by an image's size, its file's, or its mean colour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_fscore_support
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from pipeline.inspection.finding import Facts, Found

FOLDS = 5

MOST_IMAGES = 20_000
"""Images that the probe learns from and is judged on."""

QUANTILES = 100

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
    some = _probed(facts, seed)
    labels, clues = facts.labels[some], _clues(facts.images.iloc[some])
    if len(np.unique(labels)) < 2:
        return
    guess = np.bincount(labels).max() / len(labels)
    told = _probe(clues, labels, facts.families[some])
    right = float((told == labels).mean())
    if right < guess + MORE:
        return
    alone = {
        name: float((_probe(clues[list(columns)], labels, facts.families[some]) == labels).mean())
        for name, columns in CLUES.items()
    }
    best = max(alone, key=lambda name: alone[name])
    given = "".join(f"; they give {facts.classes[label]} away" for label in _given_away(told, labels))
    yield Found(
        code="shortcut",
        sentence=f"size, file size and mean colour alone tell {right:.0%} right ({best} alone {alone[best]:.0%}), "
        f"always the largest class {guess:.0%}{given}: a classifier may learn these instead of what is shown",
    )


def _probed(facts: Facts, seed: int) -> NDArray[np.intp]:
    """Some images, of those classes that every fold can learn: they are in as many families as there are folds."""
    some = np.random.default_rng(seed).permutation(len(facts.images))[:MOST_IMAGES]
    families = pd.Series(facts.families[some]).groupby(facts.labels[some]).transform("nunique")
    return some[families >= FOLDS]


def _clues(images: pd.DataFrame) -> pd.DataFrame:
    pixels = images["width"] * images["height"]
    more = {"aspect": images["width"] / images["height"], "bytes a pixel": images["bytes"] / pixels}
    return images.assign(**more)[[name for names in CLUES.values() for name in names]]


def _probe(clues: pd.DataFrame, labels: NDArray[np.int32], families: NDArray[np.intp]) -> NDArray[np.int32]:
    """What logistic regression on the clues' ranks takes each image for that it has not seen."""
    ranks = QuantileTransformer(output_distribution="normal", n_quantiles=min(QUANTILES, len(labels) // 2))
    probe = make_pipeline(ranks, LogisticRegression())
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return cross_val_predict(probe, clues.to_numpy(np.float64), labels, groups=families, cv=folds)


def _given_away(told: NDArray[np.int32], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The classes that are nearly all found, and nearly nothing else with them."""
    classes: NDArray[np.int32] = np.unique(labels)
    precision, recall, *_ = precision_recall_fscore_support(labels, told, labels=classes, zero_division=0)
    given: NDArray[np.int32] = classes[(recall >= GIVEN_AWAY) & (precision >= GIVEN_AWAY)]
    return given
